"""A comparison of two runs as a Markdown table, with the significance of every difference."""

from audiopalm.report.results_page import number, table
from audiopalm.scoring.metrics import RESAMPLES
from audiopalm.scoring.results import read_rows, select
from audiopalm.scoring.significance import comparable, compare, figure_name


def compare_runs(first: str, second: str, sets: str, metrics: str) -> str:
    """Compare the figures that two experiment folders share, for the named sets (all if empty) and metrics.

    sets, metrics: names separated by spaces. Raises AudioPaLMError as `comparable` and `compare` do.
    """
    wanted = {"metric": lambda name: name in metrics.split(), "set": lambda name: not sets or name in sets.split()}
    rows = [select(read_rows(f"{folder}/results.json"), **wanted) for folder in (first, second)]
    lines = []
    for row, other in comparable(*rows):
        compared = compare(f"{first}/score", f"{second}/score", row, other)
        lines.append([figure_name(row), number(row.metric, compared.first), number(row.metric, compared.second),
                      number(row.metric, compared.second - compared.first), f"{compared.p:.3f}", str(row.n)])
    return (f"A: {first}\nB: {second}\n"
            f"p: paired bootstrap over utterances, {RESAMPLES} resamples; below 0.05 the systems differ\n\n"
            + table(["figure", "A", "B", "B - A", "p", "n"], lines))
