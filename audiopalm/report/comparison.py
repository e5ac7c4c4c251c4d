"""Two runs beside each other, as a Markdown table with the significance of every difference."""

from audiopalm.report.results_page import number, table
from audiopalm.scoring.metrics import RESAMPLES
from audiopalm.scoring.results import read_rows, select
from audiopalm.scoring.significance import comparable, compare, figure_name


def compare_runs(first: str, second: str, sets: str, metrics: str) -> str:
    """The figures that both experiment folders have, of the named sets (all without names) and metrics."""
    wanted = {"metric": lambda name: name in metrics.split(), "set": lambda name: not sets or name in sets.split()}
    rows = [select(read_rows(f"{folder}/results.json"), **wanted) for folder in (first, second)]
    lines = []
    for one, other in comparable(*rows):
        found = compare(f"{first}/score", f"{second}/score", one, other)
        lines.append([figure_name(one), number(one.metric, found.first), number(one.metric, found.second),
                      number(one.metric, found.second - found.first), f"{found.p:.3f}", str(one.n)])
    return (f"A: {first}\nB: {second}\n"
            f"p: paired bootstrap over utterances, {RESAMPLES} resamples; below 0.05 the systems differ\n\n"
            + table(["figure", "A", "B", "B - A", "p", "n"], lines))
