"""The page of stage 13, a single self-contained file: figures, plots, examples with audio, all scores.

Its template is page.html beside this file. Words in capitals there are replaced by contents.
"""

import html
import json
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_text
from audiopalm.report.attention import AttentionOptions, attention_pictures
from audiopalm.report.listen import Sounds, examples
from audiopalm.report.plots import bars_by_language, errors_by_length, loss_curves, read_log, spectrograms
from audiopalm.report.results_page import judge_labels, number, set_order, task_order, task_table
from audiopalm.scoring.decodes import TestSet
from audiopalm.scoring.goals import Goals
from audiopalm.scoring.headline import headlines, recipe_goals
from audiopalm.scoring.metrics import error_counts
from audiopalm.scoring.results import ResultRow, one_judge, read_rows, select
from audiopalm.scoring.score_set import scored_texts
from audiopalm.tasks import AUDIO, TASKS

TRAININGS = {"units": "Audio tokenizer (stage 3)", "codec": "Codec (stage 4)", "textlm": "Text LM (stage 7)",
             "lm": "Joint speech-text LM (stage 8)", "acoustic": "Acoustic model (stage 9)"}
METRICS = {"wer": "WER", "bleu": "BLEU", "asr_bleu": "ASR-BLEU", "asr_wer": "judged WER"}


@dataclass(frozen=True)
class PageOptions:
    """The inputs of the page. The fields are the options of the command of stage 13.

    results: the rows of the run in `expdir`. examples: the number of utterances shown per decode. lm, vocabulary,
    tokens: if all three are given, the page shows attention maps.
    """

    expdir: Path
    data_dir: Path
    results: Path
    recipe: str
    output: Path
    goals: Path | None = None
    examples: int = 8
    lm: Path | None = None
    vocabulary: Path | None = None
    tokens: Path | None = None
    no_attention: bool = False

    @property
    def attention(self) -> AttentionOptions | None:
        """The inputs of the attention maps; None without them."""
        if self.no_attention or not (self.lm and self.vocabulary and self.tokens):
            return None
        return AttentionOptions(self.lm, self.vocabulary, self.tokens)


def write_page(page: PageOptions) -> Path:
    """Write index.html; returns its path. Raises AudioPaLMError if the scores are not those of the decodes in `expdir`.
    """
    began = time.monotonic()
    rows, goals = select(read_rows(page.results), recipe=page.recipe), recipe_goals(page.goals)
    names = set_order({row.set for row in rows})
    if not names:
        raise AudioPaLMError(f"no rows of the recipe {page.recipe!r} in {page.results}; run stage 12 (score) first")
    decoded = {name: TestSet(page.expdir / "decode", page.data_dir, name) for name in names
               if (page.expdir / "decode" / name).is_dir()}
    for decoded_set in decoded.values():
        decoded_set.check_scores(rows)
    test_set = decoded.get(names[0])
    sounds = Sounds()
    shown = examples(test_set, rows, page.expdir / "score", page.examples, sounds) if test_set else []
    task_rank = task_order({example["task"] for example in shown})
    shown.sort(key=lambda example: task_rank.index(example["task"]))
    data = json.dumps({"examples": shown, "sounds": sounds.entries}, ensure_ascii=False).replace("<", "\\u003c")
    note = f"{html.escape(rows[0].code)} &middot; seed {rows[0].seed}"
    contents = {"TITLE": f"AudioPaLM: {html.escape(page.recipe)}", "NOTE": note,
                "FIGURES": _figures(rows, page.recipe, names, goals), "PLOTS": _plots(page, rows, test_set),
                "SCORES": _scores(rows, names), "DATA": data}
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    path = page.output / "index.html"
    slots = re.compile("|".join(rf"\b{slot}\b" for slot in contents))
    write_text(path, slots.sub(lambda slot: contents[slot.group()], template))
    logging.info("open %s (%.1f MB), %.1f s", path, path.stat().st_size / 1e6, time.monotonic() - began)
    return path


def _figures(rows: list[ResultRow], recipe: str, names: list[str], goals: Goals) -> str:
    """The headline figures of all sets as HTML; those of the first set are shown, the others are folded."""
    folded = [f"<details><summary>{html.escape(name)}</summary>{_cards(rows, recipe, name, goals)}</details>"
              for name in names[1:] if headlines(rows, recipe, name)]
    return "\n".join([f"<h3>{html.escape(names[0])}</h3>", _cards(rows, recipe, names[0], goals), *folded])


def _cards(rows: list[ResultRow], recipe: str, set_name: str, goals: Goals) -> str:
    """The headline figures of a set as HTML."""
    cards = []
    for line in headlines(rows, recipe, set_name, goals):
        metric = line.metric
        goal, colour = line.goal, {True: "yes", False: "no", None: ""}[line.met]
        seeds = ", ".join(f"{seed}: {number(metric, value)}" for seed, value in line.values.items())
        ceiling = "" if line.ceiling is None else f"<small>true recordings {number(metric, line.ceiling)}</small>"
        wanted = f"<small>goal {html.escape(goal)}: {'met' if line.met else 'missed'}</small>" if goal else ""
        cards.append(f'<div class="card {colour}"><small>{html.escape(line.name)}</small><b>'
                     f"{number(metric, line.mean)}</b><small>seed {seeds}</small>{ceiling}{wanted}</div>")
    return f'<div class="cards">{"".join(cards)}</div>' if cards else "<p>No figure that is averaged.</p>"


def _plots(page: PageOptions, rows: list[ResultRow], test_set: TestSet | None) -> str:
    """The plots as HTML: losses, and for `test_set` scores, attention maps and spectrograms."""
    pictures: dict[str, str | None] = {}
    for folder, title in TRAININGS.items():
        log = page.expdir / folder / "log.jsonl"
        pictures[title] = loss_curves(read_log(log), title) if log.exists() else None
    if test_set:
        pictures |= _score_pictures(page, select(rows, set=test_set.name, system="model"), test_set.name)
        if page.attention:
            try:
                pictures |= attention_pictures(test_set, page.attention)
            except AudioPaLMError as error:  # the rest of the page needs no model
                logging.warning("attention is not drawn: %s", error)
    plots = "".join(f'<img src="{picture}" alt="{html.escape(title)}">'
                    for title, picture in pictures.items() if picture)
    spectra = "".join(f'<img class="whole" src="{picture}" alt="spectrograms of a translation">'
                      for picture in _spectra(test_set)) if test_set else ""
    return f'<div class="plots">{plots}{spectra}</div>' if plots + spectra else "<p>No training logs were found.</p>"


def _score_pictures(page: PageOptions, rows: list[ResultRow], set_name: str) -> dict[str, str | None]:
    """{title: picture} of the first metric of every task with one part: WER by length, other metrics by languages."""
    pictures = {}
    for task in TASKS.values():
        if len(task.outputs) > 1 or not task.outputs[0].metrics:
            continue
        metric = task.outputs[0].metrics[0]
        chosen = select(rows, task=task.name, metric=metric)
        name = f"{METRICS.get(metric, metric)} of {task.tag}"
        if metric == "wer":
            counts = {row.source or "": error_counts(*scored_texts(page.expdir / "score", row)) for row in chosen}
            title = f"{name} by length ({set_name})"
            pictures[title] = errors_by_length(counts, title)
        else:
            title = f"{name} by languages ({set_name})"
            pictures[title] = bars_by_language(one_judge(chosen), title)
    return pictures


def _spectra(test_set: TestSet) -> list[str]:
    """Spectrograms of the first utterance of each decode from speech to speech alone: source, output, true recording.
    """
    pictures = []
    for decode in test_set.decodes:
        output = decode.task.spoken
        if output is not None and decode.task.input == AUDIO and len(decode.task.outputs) == 1:
            spoken = decode.hypotheses(output)
            name = min(spoken, key=str.encode)
            files = {f"{decode.source}: {name}": test_set.table("wav.scp")[name], "output": spoken[name],
                     "true recording": test_set.true_audio(decode, output).get(name)}
            pictures.append(spectrograms({title: file for title, file in files.items() if file}))
    return pictures


def _scores(chosen: list[ResultRow], names: list[str]) -> str:
    """All scores as HTML, folded by set."""
    parts, judges = [], judge_labels(chosen)
    for name in names:
        rows = select(chosen, set=name)
        tables = [f"<h3>{html.escape(task)}</h3>{from_markdown(task_table(select(rows, task=task), judges))}"
                  for task in task_order({row.task for row in rows})]
        parts.append(f"<details><summary>{html.escape(name)}</summary>{''.join(tables)}</details>")
    return "\n".join(parts)


def from_markdown(text: str) -> str:
    """A Markdown table of audiopalm.report.results_page as HTML."""
    header, _, *lines = [[html.escape(cell.strip()) for cell in line[2:-2].split(" | ")]
                         for line in text.splitlines()]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>\n" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'
