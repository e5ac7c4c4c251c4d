"""The page of plots: scores over hours, model sizes, codebooks and tokens, with intervals; and what is forgotten."""

import html
from statistics import fmean

from audiopalm.ablations.design import METRICS, Comparison, Design
from audiopalm.ablations.forgetting_page import forgetting
from audiopalm.ablations.runs import FORGETTING, Run, sample
from audiopalm.report.plots import before_and_after, lines_with_intervals

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The paper's claims in small: plots</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto }} img {{ max-width: 100% }}</style></head>
<body><h1>The paper's claims in small: plots</h1>
<p>Means over seeds, with 95 % intervals over seeds and sentences. The figures are in TABLES.md; the design is in
conf/tables/tables.yaml.</p>
{plots}
</body></html>
"""


def write_curves(design: Design, runs: list[Run]) -> str:
    """The page as HTML. A plot without results says so."""
    plots, order = [], [system.name for system in design.systems]
    for (axis, metric), comparisons in _plotted(design).items():
        lines = {comparison.title: _points(design, comparison, runs) for comparison in comparisons}
        title = comparisons[0].title if len(comparisons) == 1 else f"{METRICS[metric]} by {axis}"
        plots.append((title, lines_with_intervals(lines, "", axis, METRICS[metric])))
    for metric in FORGETTING:
        found = forgetting(design, runs, metric)
        values = {name: (fmean(before.values.values()), fmean(after.values.values()))
                  for name, (before, after) in sorted(found.items(), key=lambda item: order.index(item[0]))}
        plots.append((f"What finetuning forgets: {METRICS[metric]}", before_and_after(values, "")))
    parts = [f"<h2>{html.escape(title)}</h2>\n" + (f'<img alt="{html.escape(title)}" src="{picture}">' if picture
             else "<p>Not run yet.</p>") for title, picture in plots]
    return PAGE.format(plots="\n".join(parts))


def _plotted(design: Design) -> dict[tuple[str, str], list[Comparison]]:
    """{(axis, metric): the comparisons that share a plot}."""
    plots: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in design.comparisons:
        if comparison.plot:
            plots.setdefault((comparison.plot, comparison.metric), []).append(comparison)
    return plots


def _points(design: Design, comparison: Comparison, runs: list[Run]) -> list[tuple[float, float, float, float]]:
    """(x, mean, low, high) of the sides that were run; without an interval, low and high are the mean."""
    points = []
    for side in comparison.sides:
        found = sample(comparison, side, runs, side.system, design.design)
        if found.values and side.x is not None:
            points.append((side.x, found.mean, *(found.interval() or (found.mean, found.mean))))
    return points
