"""The page of stage 13, one file with all that it needs: figures, plots, examples to listen to, all scores.

page.html beside this file is its template; words in capitals stand there for what is put in.
"""

import html
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_text
from audiopalm.report.attention import AttentionOptions, attention_pictures
from audiopalm.report.listen import Sounds, examples
from audiopalm.report.plots import bars_by_language, errors_by_length, loss_curves, read_log, spectrograms
from audiopalm.report.results_page import judge_labels, number, set_order, task_order, task_table
from audiopalm.scoring.decodes import TestSet
from audiopalm.scoring.headline import headlines
from audiopalm.scoring.metrics import error_counts
from audiopalm.scoring.results import Row, select
from audiopalm.scoring.score_set import scored_texts

TRAININGS = {"units": "Audio tokenizer (stage 3)", "codec": "Codec (stage 4)", "textlm": "Text LM (stage 7)",
             "lm": "Joint speech-text LM (stage 8)", "acoustic": "Acoustic model (stage 9)"}


@dataclass(frozen=True)
class Page:
    """Where the page finds things; `examples` is the number of utterances shown per decode, and where
    the model looked is shown with `attention` alone."""

    expdir: Path
    data_dir: Path
    output: Path
    examples: int
    attention: AttentionOptions | None = None


def write_page(page: Page, rows: list[Row], last: list[Row], recipe: str) -> Path:
    """Write index.html; `last` are the rows of the decodes that lie in `expdir`. Returns its path."""
    chosen = select(rows, recipe=recipe)
    names = set_order({row["set"] for row in chosen})
    if not names:
        raise AudioPaLMError(f"no rows of the recipe {recipe!r}; run stage 12 (score) first")
    test_set = None
    if (page.expdir / "decode" / names[0]).is_dir():
        test_set = TestSet(page.expdir / "decode", page.data_dir, names[0])
    sounds = Sounds()
    shown = examples(test_set, last, page.expdir / "score", page.examples, sounds) if test_set else []
    task_rank = task_order({example["task"] for example in shown})
    shown.sort(key=lambda example: task_rank.index(example["task"]))
    data = json.dumps({"examples": shown, "sounds": sounds.entries}, ensure_ascii=False).replace("<", "\\u003c")
    seed = f" &middot; examples of seed {last[0]['seed']}" if last else ""
    contents = {"TITLE": f"AudioPaLM: {html.escape(recipe)}", "NOTE": html.escape(chosen[0]["code"]) + seed,
                "FIGURES": _figures(rows, recipe, names), "PLOTS": _plots(page, last, test_set),
                "SCORES": _scores(chosen, names), "DATA": data}
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    path = page.output / "index.html"
    slots = re.compile("|".join(rf"\b{slot}\b" for slot in contents))
    write_text(path, slots.sub(lambda found: contents[found.group()], template))
    return path


def _figures(rows: list[Row], recipe: str, names: list[str]) -> str:
    """The first set is open, the others are folded."""
    folded = [f"<details><summary>{html.escape(name)}</summary>{_cards(rows, recipe, name)}</details>"
              for name in names[1:] if headlines(rows, recipe, name)]
    return "\n".join([f"<h3>{html.escape(names[0])}</h3>", _cards(rows, recipe, names[0]), *folded])


def _cards(rows: list[Row], recipe: str, set_name: str) -> str:
    cards = []
    for line in headlines(rows, recipe, set_name):
        metric = "bleu" if "BLEU" in line.name else "wer"
        goal = line.goal if set_name == "test" else ""  # the goals speak of the composed test sentences
        colour = {True: "yes", False: "no", None: ""}[line.met if goal else None]
        seeds = ", ".join(f"{seed}: {number(metric, value)}" for seed, value in line.values.items())
        ceiling = "" if line.ceiling is None else f"<small>true recordings {number(metric, line.ceiling)}</small>"
        wanted = f"<small>goal {html.escape(goal)}: {'met' if line.met else 'missed'}</small>" if goal else ""
        cards.append(f'<div class="card {colour}"><small>{html.escape(line.name)}</small><b>'
                     f"{number(metric, line.mean)}</b><small>seed {seeds}</small>{ceiling}{wanted}</div>")
    return f'<div class="cards">{"".join(cards)}</div>' if cards else "<p>No figure that is averaged.</p>"


def _plots(page: Page, last: list[Row], test_set: TestSet | None) -> str:
    pictures = {}
    for folder, title in TRAININGS.items():
        log = page.expdir / folder / "log.jsonl"
        pictures[title] = loss_curves(read_log(log), title) if log.exists() else None
    if test_set:
        here = {"set": test_set.name, "system": "model"}
        asr = select(last, task="asr", metric="wer", **here)
        counts = {row["source"]: error_counts(*scored_texts(page.expdir / "score", row)) for row in asr}
        pictures["WER of ASR by length"] = errors_by_length(counts, f"WER of ASR by length ({test_set.name})")
        for metric, task, name in (("bleu", "ast", "BLEU of AST"), ("bleu", "mt", "BLEU of MT"),
                                   ("asr_bleu", "s2st", "ASR-BLEU of S2ST")):
            title = f"{name} by languages ({test_set.name})"
            pictures[title] = bars_by_language(select(last, task=task, metric=metric, **here), title)
        if page.attention:
            try:
                pictures |= attention_pictures(test_set, page.attention)
            except AudioPaLMError as error:  # the rest of the page needs no model
                logging.warning("attention is not drawn: %s", error)
    found = "".join(f'<img src="{picture}" alt="{html.escape(title)}">'
                    for title, picture in pictures.items() if picture)
    spectra = "".join(f'<img class="whole" src="{picture}" alt="spectrograms of a translation">'
                      for picture in _spectra(test_set)) if test_set else ""
    return f'<div class="plots">{found}{spectra}</div>' if found + spectra else "<p>No training logs were found.</p>"


def _spectra(test_set: TestSet) -> list[str]:
    """Source, output and true recording of the first utterance of each decode that translates speech to speech."""
    pictures = []
    for decode in test_set.decodes:
        if decode.task.name == "s2st":
            spoken = decode.hypotheses(decode.task.outputs[0])
            name = min(spoken, key=str.encode)
            files = {f"{decode.source}: {name}": test_set.table("wav.scp")[name], "output": spoken[name],
                     "true recording": test_set.true_audio(decode).get(name)}
            pictures.append(spectrograms({title: file for title, file in files.items() if file}))
    return pictures


def _scores(chosen: list[Row], names: list[str]) -> str:
    parts, judges = [], judge_labels(chosen)
    for name in names:
        rows = select(chosen, set=name)
        tables = [f"<h3>{html.escape(task)}</h3>{from_markdown(task_table(select(rows, task=task), judges))}"
                  for task in task_order({row["task"] for row in rows})]
        parts.append(f"<details><summary>{html.escape(name)}</summary>{''.join(tables)}</details>")
    return "\n".join(parts)


def from_markdown(text: str) -> str:
    """A Markdown table of audiopalm.report.results_page as HTML."""
    header, _, *lines = [[html.escape(cell.strip()) for cell in line[2:-2].split(" | ")]
                         for line in text.splitlines()]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>\n" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'
