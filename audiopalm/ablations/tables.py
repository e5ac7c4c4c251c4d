"""The paper's tables with its figures, our figures at full scale if they have been run, and our figures in small."""

import re
from pathlib import Path
from statistics import fmean, stdev

from audiopalm.ablations.design import Comparison, Design, Side
from audiopalm.ablations.paper import TABLES, Line
from audiopalm.ablations.runs import read_runs, sample
from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.report.results_page import number, table
from audiopalm.scoring.results import ResultRow, by_seed, one_judge, read_rows, select

RECIPES = ("joint", "covost2", "cvss", "voxpopuli", "fleurs")
HEADER = ["paper", "ours at full scale", "ours in small"]
NOTE = """\
In small is the recipe `mini` on its own sentences, which are another task: only directions can be compared. Mean over
seeds, with the standard deviation where there are several. Empty: not verified, or nobody has run it. A figure at full
scale is that of a published run whose scores have the name of a recipe, a hyphen and the system:
`--score_args "--recipe joint_ast-scratch"` (docs/tables.md)."""


class Results:
    """The published rows and ablations of all recipes in the folder `egs`."""

    def __init__(self, egs: Path) -> None:
        self.full = _rows(egs, RECIPES)
        self.small = select(_rows(egs, ("mini",)), recipe="mini", set="test")
        self.design = load_config(Design, egs / "mini/conf/tables/tables.yaml")
        self.runs = read_runs(egs / "mini/tables.json")


def _rows(egs: Path, recipes: tuple[str, ...]) -> list[ResultRow]:
    paths = [egs / recipe / "results.json" for recipe in recipes]
    return [row for path in paths if path.exists() for row in read_rows(path)]


def print_tables(egs: Path, wanted: list[str]) -> str:
    """Markdown of the tables with these numbers, or of all tables if `wanted` is empty.

    Raises AudioPaLMError for an unknown table.
    """
    results = Results(egs)
    made = {key: _main_table(title, lines, results) for key, (title, lines) in TABLES.items()}
    for comparison in results.design.comparisons:
        numbered = re.match(r"Table (\d+)\b", comparison.title)
        key = numbered[1] if numbered else comparison.name
        made[key] = "\n\n".join(filter(None, [made.get(key), _ablation_table(comparison, results)]))
    for key in wanted:
        if key not in made:
            raise AudioPaLMError(f"no table {key!r}; {nearest(key, made)}")
    return "\n\n".join([NOTE, *(made[key] for key in wanted or made)])


def _main_table(title: str, lines: list[Line], results: Results) -> str:
    cells = []
    for line in lines:
        full = small = ""
        if line.ours:
            wanted, sets = line.ours.wanted, line.ours.full
            by_recipe = {recipe: _shown(select(results.full, recipe=recipe, set=name, **wanted))
                         for recipe, name in sets}
            full = "; ".join(f"{value} ({recipe})" for recipe, value in by_recipe.items() if value)
            if sets[0][0] != "fleurs":  # the small corpus has no language with ASR alone: see zero_shot
                small = _shown(select(results.small, **wanted))
        cells.append([line.figure, line.model, line.paper, full, small])
    return f"## {title}\n\n{table(['', 'model', *HEADER], cells)}"


def _ablation_table(comparison: Comparison, results: Results) -> str:
    cells = [[side.label, f"`{side.system}`", side.paper, _at_full_scale(comparison, side, results.full),
              _in_small(comparison, side, results)] for side in comparison.sides]
    return f"## {comparison.title}\n\n{table(['', 'system', *HEADER], cells)}"


def _in_small(comparison: Comparison, side: Side, results: Results) -> str:
    """The figure of a side by the present design, or by an earlier one, which is named."""
    for design in range(results.design.design, 0, -1):
        now = design == results.design.design
        system, scored = (side.system, comparison) if now else (side.earlier, comparison.of_earlier_designs())
        values = sample(scored, side, results.runs, system, design).values
        if values:
            earlier = "" if now else f" (design {design})"
            return _spread(comparison.metric, dict(values)) + earlier
    return ""


def _at_full_scale(comparison: Comparison, side: Side, rows: list[ResultRow]) -> str:
    """The figure of a side on the test sets, in all languages, in rows that were scored with `--recipe NAME-SYSTEM`
    (docs/tables.md)."""
    return _shown(select(rows, recipe=lambda name: name.endswith(f"-{side.system}"), task=side.task,
                         set=lambda name: name == "test" or name.endswith("_test"),
                         part=comparison.part_of(side), metric=comparison.metric, system=side.measured,
                         target=lambda code: code is None or code in (side.targets or comparison.targets)))


def _shown(rows: list[ResultRow]) -> str:
    """The mean of the rows over language pairs and seeds, by one judge (`one_judge`)."""
    rows = one_judge(rows)
    return _spread(rows[0].metric, by_seed(rows)) if rows else ""


def _spread(metric: str, values: dict[int, float]) -> str:
    """For example `18.5`, or `18.5 ± 0.4` over seeds. WER is in per cent, as in the paper."""
    if not values:
        return ""
    scale, metric = (100, "bleu") if metric in ("wer", "asr_wer", "cer") else (1, metric)
    numbers = [scale * value for value in values.values()]
    spread = f" ± {number(metric, stdev(numbers))}" if len(numbers) > 1 else ""
    return number(metric, fmean(numbers)) + spread
