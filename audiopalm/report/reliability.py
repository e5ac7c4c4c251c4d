"""The calibration of the confidence: a reliability plot and tables of the `report` of confidence.json."""

import io
from dataclasses import astuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiopalm.report.results_page import table, task_order
from audiopalm.scoring.calibration_report import CalibrationReport, Reliability
from audiopalm.tasks import AUDIO, TRANSCRIPT, get_task

FILE = "reliability.svg"  # in a pack, beside the card
COLUMNS = 2
COLOUR = "#2456a6"
INPUTS = {AUDIO: "speech", TRANSCRIPT: "text"}
SECTION = """
## How sure it is

An answer states a confidence, the probability that all of its words are right, and whether its input is of the kind
that the model was trained on. Both were fitted on the dev set; the figures are of the test set and of an outside set:
noise, music, other languages, open sentences. The words of TTS are those that {judge} hears.

![The stated confidence against the fraction of right answers; the numbers count answers]({file})

{answers}

{inputs}

{kinds}
"""


def reliability_plot(right: dict[str, Reliability]) -> bytes:
    """SVG: the stated confidence against the fraction of right answers, a panel per task, with counts.

    right: {name of an elementary task: its reliability}, not empty. The same input gives the same bytes.
    """
    rows = -(-len(right) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).flat
    names = task_order(set(right))
    for name, axes in zip(names, panels, strict=False):
        _panel(axes, get_task(name).tag, right[name])
    for axes in list(panels)[len(names):]:
        axes.set_visible(False)
    figure.supxlabel("stated confidence", fontsize=10)
    figure.supylabel("fraction of right answers", fontsize=10)
    written = io.BytesIO()
    # A fixed salt makes the ids reproducible; texts are written as text elements.
    with matplotlib.rc_context({"svg.hashsalt": "audiopalm", "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _panel(axes: Axes, title: str, measured: Reliability) -> None:
    """Draw the bins of one task as points whose area grows with their count; the diagonal is perfect calibration."""
    confidence, right, count = (np.array(values) for values in zip(*map(astuple, measured.groups), strict=True))
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    axes.plot(confidence, right, color=COLOUR, linewidth=1, alpha=0.5)
    axes.scatter(confidence, right, s=20 + 180 * count / count.max(), color=COLOUR, alpha=0.6)
    for x, y, number in zip(confidence, right, count, strict=True):
        axes.annotate(str(number), (x, y), xytext=(0, 9 if y < 0.9 else -15), textcoords="offset points", ha="center",
                      fontsize=8)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.06, 1.06), aspect="equal")
    axes.set_title(f"{title}, {measured.count} answers, error {measured.error:.3f}", fontsize=10)
    axes.grid(alpha=0.25)


def reliability_section(report: CalibrationReport) -> str:
    """The section of the card, as Markdown, with the plot; empty if no task was tested."""
    if not report.right:
        return ""
    answers = []
    for name in task_order(report.right):
        task = report.right[name]
        answers.append([get_task(name).tag, str(task.count), f"{task.right:.2f}", f"{task.error:.3f}",
                        "" if task.auc is None else f"{task.auc:.3f}"])
    inputs = [[INPUTS[kind], f"{test.auc:.3f}", f"{test.inside:.2f}", f"{test.outside:.2f}"]
              for kind, test in report.outside.items()]
    kinds = [[f"{INPUTS[kind]}, {name}", str(made.count), f"{made.auc:.3f}", f"{made.inside:.2f}"]
             for kind, test in report.outside.items() for name, made in test.kinds.items()]
    return SECTION.format(
        file=FILE, judge=report.judge or "the model itself",
        answers=table(["answers", "count", "fraction right", "mean error of the confidence",
                       "area under the ROC curve, right from wrong"], answers),
        inputs=table(["input", "area under the ROC curve, inside from outside", "of the test set, taken for inside",
                      "of the outside set, taken for inside"], inputs),
        kinds=table(["outside", "count", "area under the ROC curve, inside from this", "taken for inside"], kinds))
