"""tables.json: the finished runs of the ablations, with the figures that the comparisons need."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from audiopalm.ablations.design import Comparison, Design, Side
from audiopalm.ablations.differences import Sample
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.scoring.metrics import BOOTSTRAP_SEED, statistics
from audiopalm.scoring.results import ResultRow, row_to_dict, rows_from_list, select
from audiopalm.scoring.score_set import JUDGED, scored_texts
from audiopalm.tasks import get_task

DRAWS = 200  # of the sentences of a set; the same in all runs
DECIMALS = 3
FORGETTING = {"text_loss": "lm", "mt_bleu": "mt"}  # metrics of texts, which every run keeps, and their tasks
INTERVAL = 3.92  # the width of a 95 % interval in standard deviations


@dataclass(frozen=True)
class Run:
    """A finished run, an entry of tables.json: a system of a design with a seed.

    commands: made it. cost: of its stage 8: `steps`, `tokens` ({decode: tokens}), `parameters`, `seconds`. draws: {key
    of a figure (`figure_key`): the figure on each draw of the sentences}.
    """

    system: str
    seed: int
    design: int
    commands: list[str]
    rows: list[ResultRow]
    cost: dict[str, Any] = field(default_factory=dict)
    draws: dict[str, list[float]] = field(default_factory=dict)


KEYS = ("system", "seed", "design", "commands", "rows", "cost", "draws")


def read_runs(path: str | Path) -> list[Run]:
    """The runs of tables.json; no runs if it does not exist. Raises AudioPaLMError for an invalid run."""
    if not Path(path).exists():
        return []
    runs = []
    for count, entry in enumerate(read_json(path), start=1):
        where = f"{path}: run {count}"
        if not isinstance(entry, dict) or set(entry) != set(KEYS):
            raise AudioPaLMError(f"{where} needs {', '.join(KEYS)}")
        draws = {key: [float(value) for value in text.split()] for key, text in entry["draws"].items()}
        runs.append(Run(**entry | {"rows": rows_from_list(entry["rows"], where), "draws": draws}))
    return runs


def write_runs(path: str | Path, runs: Iterable[Run]) -> None:
    """Write tables.json, sorted by design, system and seed."""
    ordered = sorted(runs, key=lambda run: (run.design, run.system, run.seed))
    write_json(path, [vars(run) | {
        "rows": [row_to_dict(row) for row in run.rows],
        "draws": {key: " ".join(f"{value:.{DECIMALS}f}" for value in values) for key, values in run.draws.items()},
    } for run in ordered])


def rows_of(comparison: Comparison, side: Side, rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows of one run that a side is the mean of."""
    sources, targets = side.sources or comparison.sources, side.targets or comparison.targets
    return select(rows, set=lambda name: name in comparison.sets, task=side.task, part=comparison.part_of(side),
                  metric=comparison.metric, system=side.measured, source=lambda code: code in sources,
                  target=lambda code: code is None or code in targets)


def figure(comparison: Comparison, side: Side, rows: Iterable[ResultRow]) -> float | None:
    """The mean over sets and languages of a side in the rows of one run; None unless all of them were scored."""
    chosen = rows_of(comparison, side, rows)
    wanted = {(name, source) for name in comparison.sets for source in side.sources or comparison.sources}
    if {(row.set, row.source) for row in chosen} != wanted:
        return None
    return fmean(row.value for row in chosen)


def figure_key(comparison: Comparison, side: Side) -> str:
    """The name of a figure of a run; equal figures of several comparisons have one name."""
    parts = ["+".join(comparison.sets), side.task, side.part or side.task, comparison.metric, side.measured,
             "+".join(side.sources or comparison.sources), "+".join(side.targets or comparison.targets)]
    return " ".join(parts)


def sample(comparison: Comparison, side: Side, runs: Iterable[Run], system: str, design: int) -> Sample:
    """The figures of `system` in the runs of a design, by seed; the sample may be empty."""
    values, draws, deviations = {}, {}, []
    for run in sorted(runs, key=lambda run: run.seed):
        if (run.system, run.design) != (system, design):
            continue
        value = figure(comparison, side, run.rows)
        if value is None:
            continue
        values[run.seed] = value
        deviations.append(_deviation(rows_of(comparison, side, run.rows)))
        if (drawn := run.draws.get(figure_key(comparison, side))) is not None:
            draws[run.seed] = np.array(drawn)
    if len(draws) < len(values):
        draws = {}  # draws of some seeds say nothing about the mean of all
    # An earlier design has no draws. Its rule knew the seeds alone, and its verdicts stay as they were.
    deviation = fmean(deviations) if deviations and not draws and design > 1 else 0.0
    return Sample(values, draws, deviation)


def _deviation(rows: list[ResultRow]) -> float:
    """The standard deviation of the mean of rows over sentences, from their intervals."""
    widths = [(row.high - row.low) / INTERVAL for row in rows if row.low is not None and row.high is not None]
    return sum(width ** 2 for width in widths) ** 0.5 / len(rows)


def draw_figures(design: Design, system: str, rows: list[ResultRow], score_dir: Path) -> dict[str, list[float]]:
    """{key: the figure on each draw of the sentences} for the text and speech figures of a run.

    The draws of a set and a language are the same in every run, so that a difference of two runs is paired. Raises
    AudioPaLMError where the scored texts of a row are missing.
    """
    drawn: dict[str, list[float]] = {}
    for comparison in design.comparisons:
        for side in comparison.sides:
            key = figure_key(comparison, side)
            if side.system != system or key in drawn or figure(comparison, side, rows) is None:
                continue
            chosen = rows_of(comparison, side, rows)
            if all(row.normaliser is not None for row in chosen):
                values = np.mean([_draws_of_row(row, score_dir) for row in chosen], axis=0)
                drawn[key] = [round(float(value), DECIMALS) for value in values]
    return drawn


def _draws_of_row(row: ResultRow, score_dir: Path) -> np.ndarray:
    references, hypotheses = scored_texts(score_dir, row)
    names = sorted(references, key=str.encode)
    language = get_task(row.task).output(row.part or "").language(row.source or "", row.target)
    measured = statistics(JUDGED.get(row.metric, row.metric), [references[name] for name in names],
                          [hypotheses[name] for name in names], language)
    random = np.random.default_rng([BOOTSTRAP_SEED, zlib.crc32(f"{row.set} {row.source}".encode())])
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    return np.array([measured.compute(total) for total in draws @ measured.counts])


def used_rows(design: Design, system: str, rows: list[ResultRow]) -> list[ResultRow]:
    """The rows of a run that a comparison uses, and those about forgetting."""
    used = {id(row) for comparison in design.comparisons for side in comparison.sides if side.system == system
            for row in rows_of(comparison, side, rows)}
    return [row for row in rows if id(row) in used or row.metric in FORGETTING and row.set == "test"]
