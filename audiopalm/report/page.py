"""The page of stage 13: figures, loss curves, and examples to listen to; audio lies beside it under relative links."""

import html
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from audiopalm.data.datadir import read_table
from audiopalm.data.files import write_text
from audiopalm.errors import AudioPaLMError
from audiopalm.languages import language_name
from audiopalm.report.headline import headlines
from audiopalm.report.plots import loss_curves, read_log, spectrograms
from audiopalm.report.results import number, set_order, task_order, task_table
from audiopalm.report.rows import Row, select
from audiopalm.scoring.decodes import Decode, TestSet

TRAININGS = {"units": "Audio tokenizer (stage 3)", "codec": "Codec (stage 4)", "textlm": "Text LM (stage 7)",
             "lm": "Joint speech-text LM (stage 8)", "acoustic": "SoundStorm (stage 9)"}
STYLE = """
:root { --ink: #1d2330; --soft: #5c6678; --line: #dfe3ea; --paper: #fff; --tint: #f5f7fa; --accent: #2456a6; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 1180px; padding: 24px 28px 80px; }
h1 { font-size: 27px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 40px 0 10px; padding-bottom: 4px;
     border-bottom: 2px solid var(--line); } h3 { font-size: 16px; margin: 26px 0 8px; }
p, .soft { color: var(--soft); margin: 4px 0 12px; } nav a { color: var(--accent); margin-right: 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(205px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; background: var(--tint); }
.card b { display: block; font-size: 25px; } .card.yes { border-left: 5px solid #2e8b57; }
.card.no { border-left: 5px solid #c0392b; } .card small { color: var(--soft); display: block; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 6px 0 14px; font-size: 14px; }
th, td { border-bottom: 1px solid var(--line); padding: 5px 10px; text-align: left; vertical-align: top; }
th { background: var(--tint); font-weight: 600; white-space: nowrap; }
audio { width: 210px; height: 34px; display: block; }
td em { color: var(--soft); font-style: normal; font-size: 12px; display: block; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 10px; }
.plots img, .spectra img { width: 100%; height: auto; } .spectra img { max-width: 1000px; }
"""
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>{style}</style></head>
<body>
"""


@dataclass(frozen=True)
class Page:
    """Where the page finds things; `examples` is the number of utterances shown per decode."""

    expdir: Path
    data_dir: Path
    output: Path
    examples: int


def write_page(page: Page, rows: list[Row], recipe: str, seed: int) -> Path:
    """Write index.html with its audio/ and pictures/; returns its path."""
    chosen = select(rows, recipe=recipe)
    names = set_order({row["set"] for row in chosen})
    if not names:
        raise AudioPaLMError(f"no rows of the recipe {recipe!r}; run stage 12 (score) first")
    for folder in ("audio", "pictures"):
        shutil.rmtree(page.output / folder, ignore_errors=True)
    body = [f"<h1>AudioPaLM: {html.escape(recipe)}</h1>",
            f"<p>{html.escape(chosen[0]['code'])} &middot; examples of seed {seed}</p>",
            "<nav>" + "".join(f'<a href="#{anchor}">{label}</a>' for anchor, label in
                              (("figures", "Figures"), ("losses", "Training"), ("listen", "Listen"),
                               ("scores", "All scores"))) + "</nav>",
            '<h2 id="figures">Figures</h2>']
    for name in names:
        body += [f"<h3>{html.escape(name)}</h3>", _cards(rows, recipe, name)]
    body += ['<h2 id="losses">Training</h2>', _losses(page), '<h2 id="listen">Listen</h2>',
             "<p>The first utterances of every speaker by id, not chosen by ear. The judge is the English recogniser "
             "that scores speech; what it writes stands under the player.</p>"]
    shown = names[0]
    if (page.expdir / "decode" / shown).is_dir():
        body += _examples(page, TestSet(page.expdir / "decode", page.data_dir, shown))
    body += ['<h2 id="scores">All scores</h2>']
    for name in names:
        body += [f"<h3>{html.escape(name)}</h3>"]
        for task in task_order({row["task"] for row in select(chosen, set=name)}):
            body += [f"<p>{html.escape(task)}</p>", from_markdown(task_table(select(chosen, set=name, task=task)))]
    path = page.output / "index.html"
    write_text(path, HEAD.format(title=f"AudioPaLM: {html.escape(recipe)}", style=STYLE)
               + "\n".join(body) + "\n</body></html>\n")
    return path


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


def _losses(page: Page) -> str:
    pictures = []
    for folder, title in TRAININGS.items():
        log = page.expdir / folder / "log.jsonl"
        if log.exists() and loss_curves(read_log(log), title, page.output / "pictures" / f"loss_{folder}.svg"):
            pictures.append(f'<img src="pictures/loss_{folder}.svg" alt="{title}">')
    return f'<div class="plots">{"".join(pictures)}</div>' if pictures else "<p>No training logs were found.</p>"


def _examples(page: Page, test_set: TestSet) -> list[str]:
    body = []
    order = task_order({decode.task.name for decode in test_set.decodes})
    for decode in sorted(test_set.decodes, key=lambda decode: (order.index(decode.task.name), decode.folder.name)):
        languages = " to ".join(language_name(code) for code in (decode.source, decode.target) if code)
        body += [f"<h3>{html.escape(decode.meta['tag'])} <span class=soft>{languages}</span></h3>",
                 _example_table(page, test_set, decode)]
        if decode.task.name == "s2st":
            body.append(_spectra(page, test_set, decode))
    return body


def _example_table(page: Page, test_set: TestSet, decode: Decode) -> str:
    hypotheses = {output: decode.hypotheses(output) for output in decode.task.outputs}
    references = {output: test_set.references(decode, output, table) for output, table in hypotheses.items()}
    # One utterance of each speaker in turn, so that the page lets all voices be heard.
    speakers = test_set.table("utt2spk")
    rank: dict[str, int] = {}
    turns = {}
    for name in sorted(next(iter(hypotheses.values())), key=str.encode):
        turns[name] = rank[speakers[name]] = rank.get(speakers[name], -1) + 1
    names = sorted(turns, key=lambda name: (turns[name], name.encode()))[:page.examples]
    from_speech = decode.task.input == "audio"
    header = ["source", *(output.part.upper() for output in decode.task.outputs)]
    if any(output.is_audio for output in decode.task.outputs):
        header.append("true recording")
    lines = []
    for name in names:
        source = _player(page, test_set.table("wav.scp")[name]) if from_speech else ""
        cells = [f"{source}{html.escape(test_set.table('text')[name])}<em>{html.escape(name)}</em>"]
        for output, table in hypotheses.items():
            reference = html.escape(references[output][name])
            if output.is_audio:
                cells.append(_player(page, table[name]) + _heard(page, test_set, decode, name)
                             + f"<em>reference</em>{reference}")
            else:
                cells.append(f"{html.escape(table[name]) or '&mdash;'}<em>reference</em>{reference}")
        if len(header) > len(cells):
            true = test_set.true_audio(decode).get(name)
            cells.append(_player(page, true) + _heard(page, test_set, decode, name, ".true_audio") if true else "")
        lines.append(cells)
    return _html_table(header, lines)


def _heard(page: Page, test_set: TestSet, decode: Decode, name: str, system: str = "") -> str:
    path = page.expdir / "score" / test_set.name / f"{decode.folder.name}.moonshine{system}"
    text = read_table(path).get(name) if path.exists() else None
    return "" if text is None else f"<em>judge</em>{html.escape(text) or '&mdash;'}"


def _spectra(page: Page, test_set: TestSet, decode: Decode) -> str:
    """Source, output and true recording of the first two utterances."""
    output = next(output for output in decode.task.outputs if output.is_audio)
    spoken, pictures = decode.hypotheses(output), []
    for name in sorted(spoken, key=str.encode)[:2]:
        files = {"source": test_set.table("wav.scp")[name], "output": spoken[name]}
        if true := test_set.true_audio(decode).get(name):
            files["true recording"] = true
        picture = f"pictures/{decode.folder.name}_{name}.png"
        spectrograms(files, page.output / picture)
        pictures.append(f'<img src="{html.escape(picture)}" alt="spectrograms of {html.escape(name)}">')
    return f'<div class="spectra">{"".join(pictures)}</div>'


def _player(page: Page, file: str) -> str:
    """A player of a copy of `file`; the copy keeps its folder's name, since outputs of two decodes share names."""
    source = Path(file)
    if not source.is_file():
        logging.warning("audio %s is gone; the page goes without it", file)
        return "<em>missing</em>"
    decode = source.parent.parent.name if source.parent.name == "wav" else "recordings"
    copy = Path("audio") / decode / source.name
    target = page.output / copy
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return f'<audio controls preload="none" src="{html.escape(copy.as_posix())}"></audio>'


def _html_table(header: list[str], lines: list[list[str]]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>\n" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def from_markdown(text: str) -> str:
    """A Markdown table of audiopalm.report.results as HTML."""
    header, _, *lines = [[html.escape(cell.strip()) for cell in line[2:-2].split(" | ")]
                         for line in text.splitlines()]
    return _html_table(header, lines)


