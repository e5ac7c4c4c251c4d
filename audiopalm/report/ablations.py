"""The paper's ablations in small: the systems, the comparisons, and TABLES.md, which is made from the scores alone.

A comparison is decided by a rule that was fixed before the runs, from Welch's 95 % interval of the difference of the
means over seeds. If the interval lies wholly on the paper's side of zero, the paper's direction holds. If it lies
wholly on the other side, the direction does not hold. Otherwise the question is undecided at this scale.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_json, write_json
from audiopalm.report.results_page import number, table
from audiopalm.scoring.results import ResultRow, row_to_dict, rows_from_list, select

CONFIDENCE = 0.95
LOWER_IS_BETTER = ("wer", "cer", "asr_wer")
HEAD = """\
# The paper's ablations in small

Made from `tables.json` by `./tables.sh`; do not edit. What is compared: `conf/tables/tables.yaml`; how to read it:
`../../docs/tables.md`.

BLEU (0-100) of translation into English, mean of the languages, on the set `test`, unless said; WER is a fraction.
The paper's figures are of other data and of models thousands of times as large: only directions can be compared. The
rule, fixed before the runs: the paper's direction holds where the 95 % interval of the difference of the means over
seeds (Welch's t) lies on its side of zero, does not hold where it lies on the other side, and is undecided where zero
is inside."""


@dataclass
class System:
    """The configuration files and arguments of one system, named like the options of run.sh.

    A system is left out if the recipe lacks one of its files, or the file that it `needs`.
    """

    name: str
    lm_config: str = ""
    decode_config: str = "conf/tables/decode.yaml"
    textlm_args: str = ""
    units_config: str = ""
    acoustic_config: str = ""
    needs: str = ""


@dataclass
class Side:
    """One line of a table: a system, its figure in the paper, and the task and part that are scored.

    `part` is given only for a task with several parts.
    """

    system: str
    label: str
    paper: str = ""
    task: str = "ast"
    part: str = ""


@dataclass
class Comparison:
    """A table. `paper_says` is `better` or `worse`: the paper's result for each side against the side before it."""

    name: str
    title: str
    paper_says: str
    small: str
    sides: list[Side]
    metric: str = "bleu"
    sources: list[str] = field(default_factory=lambda: ["es", "fr", "it", "ru"])
    set: str = "test"


@dataclass
class Ablations:
    """The contents of conf/tables/tables.yaml. `lm_args` are the arguments of stage 8 of every system.

    Raises AudioPaLMError for unknown systems and for other values of paper_says than better and worse.
    """

    lm_args: str
    systems: list[System]
    comparisons: list[Comparison]

    def __post_init__(self) -> None:
        known = [system.name for system in self.systems]
        for comparison in self.comparisons:
            if comparison.paper_says not in ("better", "worse"):
                raise AudioPaLMError(f"{comparison.name}: paper_says is better or worse, not {comparison.paper_says!r}")
            for side in comparison.sides:
                if side.system not in known:
                    raise AudioPaLMError(f"{comparison.name}: unknown system {side.system!r}; "
                                         f"{nearest(side.system, known)}")

    def chosen(self, names: list[str]) -> list[Comparison]:
        """The comparisons with these names, or all if there are no names. Raises AudioPaLMError for an unknown name."""
        known = {comparison.name: comparison for comparison in self.comparisons}
        for name in names:
            if name not in known:
                raise AudioPaLMError(f"unknown row {name!r}; {nearest(name, known)}")
        return [known[name] for name in names] or self.comparisons


@dataclass(frozen=True)
class AblationRun:
    """A finished run, an entry of tables.json: a system with a seed, the commands that made it, and its scores."""

    system: str
    seed: int
    commands: list[str]
    rows: list[ResultRow]


def read_runs(path: str | Path) -> list[AblationRun]:
    """The runs of tables.json; no runs if it does not exist. Raises AudioPaLMError for an invalid run."""
    if not Path(path).exists():
        return []
    runs = []
    for count, entry in enumerate(read_json(path), start=1):
        where = f"{path}: run {count}"
        if not isinstance(entry, dict) or set(entry) != {"system", "seed", "commands", "rows"}:
            raise AudioPaLMError(f"{where} needs system, seed, commands and rows")
        runs.append(AblationRun(**entry | {"rows": rows_from_list(entry["rows"], where)}))
    return runs


def write_runs(path: str | Path, runs: Iterable[AblationRun]) -> None:
    """Write tables.json, sorted by system and seed."""
    ordered = sorted(runs, key=lambda run: (run.system, run.seed))
    write_json(path, [vars(run) | {"rows": [row_to_dict(row) for row in run.rows]} for run in ordered])


@dataclass(frozen=True)
class Difference:
    """The mean of the second sample minus that of the first, with its interval.

    low, high: None if a sample has only one value.
    """

    value: float
    low: float | None
    high: float | None

    def verdict(self, wanted_sign: int) -> str:
        """`holds`, `does not hold` or `undecided`, given the sign of the paper's difference."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        return "holds" if (self.low > 0) == (wanted_sign > 0) else "does not hold"


def welch(first: list[float], second: list[float]) -> Difference:
    """Welch's t interval of the difference of two means; the variances may differ."""
    value = fmean(second) - fmean(first)
    if min(len(first), len(second)) < 2:
        return Difference(value, None, None)
    parts = [stdev(sample) ** 2 / len(sample) for sample in (first, second)]
    if sum(parts) == 0:
        return Difference(value, value, value)
    freedom = sum(parts) ** 2 / sum(part ** 2 / (len(sample) - 1)
                                    for part, sample in zip(parts, (first, second), strict=True))
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * sum(parts) ** 0.5
    return Difference(value, value - half, value + half)


def figure(comparison: Comparison, side: Side, rows: list[ResultRow]) -> float | None:
    """The mean over the comparison's languages in the rows of one run; None unless all languages were scored."""
    chosen = select(rows, set=comparison.set, task=side.task, part=side.part or side.task, metric=comparison.metric,
                    system="model", source=lambda code: code in comparison.sources,
                    target=lambda code: code in (None, "en"))
    if {row.source for row in chosen} != set(comparison.sources):
        return None
    return fmean(row.value for row in chosen)


def figures(comparison: Comparison, side: Side, runs: list[AblationRun]) -> dict[int, float]:
    """{seed: figure} of the runs of tables.json, sorted by seed."""
    by_seed = {run.seed: figure(comparison, side, run.rows) for run in runs if run.system == side.system}
    return {seed: value for seed, value in sorted(by_seed.items()) if value is not None}


def used_rows(comparisons: Iterable[Comparison], system: str, rows: list[ResultRow]) -> list[ResultRow]:
    """The rows of a run that at least one comparison uses."""
    def used(row: ResultRow) -> bool:
        return any(side.system == system and row.set == comparison.set and row.task == side.task
                   and row.metric == comparison.metric and row.system == "model"
                   for comparison in comparisons for side in comparison.sides)

    return [row for row in rows if used(row)]


def markdown(ablations: Ablations, runs: list[AblationRun]) -> str:
    """The contents of TABLES.md."""
    parts = [HEAD]
    for comparison in ablations.comparisons:
        parts += _chapter(comparison, runs)
    return "\n\n".join([*parts, *_how(ablations, runs)]) + "\n"


def _chapter(comparison: Comparison, runs: list[AblationRun]) -> list[str]:
    values = {side.system: figures(comparison, side, runs) for side in comparison.sides}
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    lines = []
    for side in comparison.sides:
        by_seed = values[side.system]
        mean = number(comparison.metric, fmean(by_seed.values())) if by_seed else "not run"
        spread = number(comparison.metric, stdev(by_seed.values())) if len(by_seed) > 1 else ""
        lines.append([side.label, f"`{side.system}`", side.paper, mean, spread,
                      *(number(comparison.metric, by_seed[seed]) if seed in by_seed else "" for seed in seeds)])
    metric = {"bleu": "BLEU", "asr_bleu": "ASR-BLEU", "wer": "WER"}[comparison.metric]
    header = ["", "system", "paper", f"{metric}, mean", "standard deviation", *(f"seed {seed}" for seed in seeds)]
    run_again = f"    ./tables.sh --only {comparison.name} --seeds \"{' '.join(map(str, seeds or [0, 1, 2]))}\""
    return [f"## {comparison.title}", comparison.small, table(header, lines), " ".join(sentences(comparison, values)),
            run_again]


def sentences(comparison: Comparison, values: dict[str, dict[int, float]]) -> list[str]:
    """A sentence on the result for each side and the side before it; `values` are {system: {seed: figure}}."""
    better = -1 if comparison.metric in LOWER_IS_BETTER else 1
    wanted = better if comparison.paper_says == "better" else -better
    results = []
    sides = [side for side in comparison.sides if values[side.system]]
    for before, after in zip(sides, sides[1:], strict=False):
        difference = welch(list(values[before.system].values()), list(values[after.system].values()))
        verdict = difference.verdict(wanted)
        unit = 1 if comparison.metric.endswith("bleu") else 3
        interval = ("one seed has no spread" if difference.low is None else
                    f"interval {difference.low:+.{unit}f} to {difference.high:+.{unit}f}")
        results.append(f"{after.label} against {before.label}: {difference.value:+.{unit}f} ({interval}); that it is "
                       f"{comparison.paper_says} **{verdict}{' at this scale' if verdict == 'undecided' else ''}**.")
    return results or ["Nothing to compare yet."]


def _how(ablations: Ablations, runs: list[AblationRun]) -> list[str]:
    rows = [row for run in runs for row in run.rows]
    lines = []
    for title, key in (("metrics", "signature"), ("normalisers", "normaliser"), ("judges", "judge"),
                       ("made by", "code")):
        values = sorted({getattr(row, key) for row in rows if getattr(row, key)})
        lines += [f"- {title}: " + "; ".join(f"`{value}`" for value in values)] if values else []
    commands = []
    for name in dict.fromkeys(system.name for system in ablations.systems):
        of_system = [run for run in runs if run.system == name]
        if of_system:
            commands.append(f"`{name}`, seed {of_system[0].seed}:\n\n"
                            + "\n".join(f"    {line}" for line in of_system[0].commands))
    return ["## How it was run", "\n".join(lines), *commands] if rows else []
