"""RESULTS.md from results.json alone: the same rows give the same bytes."""

import json
from collections.abc import Iterable
from pathlib import Path

from audiopalm.core.files import write_text
from audiopalm.scoring.goals import NO_GOALS, Goals
from audiopalm.scoring.headline import headlines
from audiopalm.scoring.results import ResultRow, read_rows, select
from audiopalm.tasks import TASKS

CEILINGS = ("true_tokens", "true_audio", "other", "other_prompt", "text_lm")
OVERVIEW = ("ASR WER, mean of languages", "AST BLEU into English", "TTS WER by the judge", "S2ST es-en ASR-BLEU")
MEASURED = {"phone_purity": "phone purity", "phone_information": "phone information", "perplexity": "perplexity",
            "bits_per_second": "bits a second"}  # figures of units that stage 3 measures
UNITS = {"bleu": "0-100", "chrf": "0-100", "asr_bleu": "0-100", "mt_bleu": "0-100"}
NOTES = """\
WER and CER are fractions, BLEU and chrF 0-100. In brackets: 95 % bootstrap interval over utterances, 1000 resamples,
of the first seed. `true_audio` is the same measurement on true recordings, `true_tokens` on speech made from the true
units; both are ceilings. `other` is the likeness to another speaker, `other_prompt` that to the source when another
speaker was the prompt. `text_lm` is the text LM before the finetuning: what has the model forgotten of texts
(`text_loss`, nats a token) and of their translation (`mt_bleu`)? Speech is judged in English only."""

CLAIMS = """\
Which claims of the paper hold at this scale, which do not, and what small scale cannot say:
[TABLES.md](TABLES.md#in-plain-words)."""

MISSED = """\
A goal is missed: `NOTES.md` says what was tried, and the page of stage 13, `exp/report/index.html`, has the audio."""


def number(metric: str, value: float) -> str:
    """A value with the decimals of its metric: one for a metric from 0 to 100, else three."""
    return f"{value:.1f}" if UNITS.get(metric) else f"{value:.3f}"


def write_results(results: str | Path, output: str | Path, goals: Goals = NO_GOALS) -> None:
    """Write RESULTS.md (`output`) from results.json and the goals of the recipe, with a link to TABLES.md beside it."""
    write_text(output, markdown(read_rows(results), goals, (Path(output).parent / "TABLES.md").exists()))


def markdown(rows: list[ResultRow], goals: Goals = NO_GOALS, claims: bool = False) -> str:
    """The contents of RESULTS.md, with a chapter per recipe and set; `claims`: with the link to TABLES.md."""
    recipes, judges = sorted({row.recipe for row in rows}), judge_labels(rows)
    parts = [f"# Results: {', '.join(recipes)}", "Made from `results.json` by stage 12 (score); do not edit.", NOTES,
             CLAIMS if claims else ""]
    parts.append(overview(rows, recipes))
    for recipe in recipes:
        for name in set_order({row.set for row in select(rows, recipe=recipe)}):
            parts += [f"## {recipe}: {name}", headline_table(rows, recipe, name, goals)]
            if any(headline.met is False for headline in headlines(rows, recipe, name, goals)):
                parts.append(MISSED)
            chosen = select(rows, recipe=recipe, set=name)
            for task in task_order({row.task for row in chosen}):
                parts += [f"### {task}", task_table(select(chosen, task=task), judges)]
    return "\n\n".join(part for part in [*parts, "## How it was measured", settings(rows, judges)] if part) + "\n"


def set_order(names: Iterable[str]) -> list[str]:
    """The names of sets sorted: those that begin with `test`, then the others."""
    return sorted(names, key=lambda name: (not name.startswith("test"), name))


def task_order(names: Iterable[str]) -> list[str]:
    """The names in the order of the task table, elementary tasks before combined ones; then names of no task."""
    order = list(TASKS)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def table(header: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])


def headline_table(rows: list[ResultRow], recipe: str, set_name: str, goals: Goals = NO_GOALS) -> str:
    """Averages over languages with the goals of the recipe; empty if the set has no such figure."""
    figures = headlines(rows, recipe, set_name, goals)
    if not figures:
        return ""
    seeds = sorted({seed for headline in figures for seed in headline.values})
    lines = []
    for headline in figures:
        metric = headline.metric
        shown = [number(metric, headline.values[seed]) if seed in headline.values else "" for seed in seeds]
        ceiling = "" if headline.ceiling is None else number(metric, headline.ceiling)
        met = {True: "yes", False: "**no**", None: ""}[headline.met]
        lines.append([headline.name, number(metric, headline.mean), *shown, ceiling, headline.goal, met])
    return table(["average", "mean", *(f"seed {seed}" for seed in seeds), "true_audio", "goal", "met"], lines)


def overview(rows: list[ResultRow], recipes: list[str]) -> str:
    """A table of all recipes: the figures of their units and means over seeds on `test`; empty for a single recipe."""
    lines = []
    for recipe in recipes:
        units = select(rows, recipe=recipe, task="units")
        of_test = {headline.name: headline for headline in headlines(rows, recipe, "test")}
        figures = [number(of_test[name].metric, of_test[name].mean) if name in of_test else "" for name in OVERVIEW]
        seeds = {seed for headline in of_test.values() for seed in headline.values}
        measured = []
        for metric in MEASURED:
            values = [row.value for row in select(units, metric=metric)]
            measured.append(number(metric, sum(values) / len(values)) if values else "")
        lines.append([recipe, ", ".join(sorted({row.tag for row in units})), *measured, str(len(seeds)), *figures])
    header = ["recipe", "units", *MEASURED.values(), "seeds", *OVERVIEW]
    return "## All recipes, on `test`\n\n" + table(header, lines) if len(recipes) > 1 else ""


def judge_labels(rows: list[ResultRow]) -> dict[str, str]:
    """{signature of a judge: its name}. Equal names are numbered, for example `moonshine-voice (2)`."""
    judges = sorted({row.judge for row in rows if row.judge})
    names = [judge.split(" ")[0] for judge in judges]
    return {judge: f"{name} ({names[:index].count(name) + 1})" if names.count(name) > 1 else name
            for index, (judge, name) in enumerate(zip(judges, names, strict=True))}


def task_table(rows: list[ResultRow], judges: dict[str, str]) -> str:
    """A table of one task, with a line per language pair, part, metric and judge: mean, each seed, ceilings."""
    seeds = sorted({row.seed for row in rows if row.system == "model"})
    systems = [system for system in CEILINGS if select(rows, system=system)]
    keys: dict[tuple, None] = {}
    for row in rows:
        keys[row.source, row.target, row.part, row.metric, row.judge] = None
    combined = any(row.part not in (None, row.task) for row in rows)
    lines = []
    for source, target, part, metric, judge in keys:
        same = select(rows, source=source, target=target, part=part, metric=metric, judge=judge)
        model = {row.seed: row for row in select(same, system="model")}
        if not model:
            continue
        first = model[min(model)]
        mean = sum(row.value for row in model.values()) / len(model)
        interval = "" if first.low is None or first.high is None else (
            f"[{number(metric, first.low)}, {number(metric, first.high)}]")
        ceilings = []
        for system in systems:
            values = [row.value for row in select(same, system=system)]
            ceilings.append(number(metric, sum(values) / len(values)) if values else "")
        lines.append([f"{source}-{target}" if target else source or "", *([part or ""] if combined else []), metric,
                      judges.get(judge or "", ""), number(metric, mean),
                      *(number(metric, model[seed].value) if seed in model else "" for seed in seeds),
                      interval, str(first.n), *ceilings])
    return table(["languages", *(["part"] if combined else []), "metric", "judge", "mean",
                  *(f"seed {seed}" for seed in seeds), "interval", "n", *systems], lines)


def settings(rows: list[ResultRow], judges: dict[str, str]) -> str:
    """A list of the signatures, normalisers, judges, decoding settings, models and code versions of the rows."""
    def listed(title: str, values: Iterable[str | None]) -> str:
        distinct = sorted({value for value in values if value})
        return f"- {title}: " + "; ".join(f"`{value}`" for value in distinct) if distinct else ""

    models = [f"seed {row.seed}: model {row.model}, vocabulary {row.vocabulary}" for row in rows if row.model]
    decoding = [", ".join(f"{key}={json.dumps(value)}" for key, value in row.decoding.items() if key != "seed")
                for row in rows if row.decoding]
    return "\n".join(line for line in [
        listed("metrics", (row.signature for row in rows)),
        listed("normalisers", (row.normaliser for row in rows)),
        listed("judges", (f"{label}: {judge}" if label.endswith(")") else judge for judge, label in judges.items())),
        listed("decoding", decoding), listed("models", models),
        listed("made by", (row.code for row in rows))] if line)
