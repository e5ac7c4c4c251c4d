"""What finetuning has forgotten, for every system: texts and their translation before and after stage 8."""

from statistics import fmean

from audiopalm.ablations.design import Design
from audiopalm.ablations.differences import Sample, difference
from audiopalm.ablations.runs import FORGETTING, Run
from audiopalm.report.results_page import number, table
from audiopalm.scoring.results import select

BEFORE, AFTER = "text_lm", "model"


def forgetting(design: Design, runs: list[Run], metric: str) -> dict[str, tuple[Sample, Sample]]:
    """{system: the samples before and after stage 8} of a metric of FORGETTING, in runs of the present design."""
    values: dict[str, tuple[dict[int, float], dict[int, float]]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if run.design != design.design:
            continue
        rows = [select(run.rows, metric=metric, system=system) for system in (BEFORE, AFTER)]
        if all(rows):
            of_system = values.setdefault(run.system, ({}, {}))
            for side, chosen in zip(of_system, rows, strict=True):
                side[run.seed] = fmean(row.value for row in chosen)
    return {name: (Sample(before), Sample(after)) for name, (before, after) in values.items()}


def forgetting_chapter(design: Design, runs: list[Run]) -> list[str]:
    """The chapter of TABLES.md: a line for each system whose stage 8 was run."""
    found = {metric: forgetting(design, runs, metric) for metric in FORGETTING}
    names = [system.name for system in design.systems if any(system.name in of_metric for of_metric in found.values())]
    lines = []
    for name in names:
        cells = [f"`{name}`"]
        for metric, of_metric in found.items():
            if name not in of_metric:
                cells += ["", "", ""]
                continue
            before, after = of_metric[name]
            change = difference(before, after)
            interval = "" if change.low is None or change.high is None else (
                f" ({change.low:+.2f} to {change.high:+.2f})")
            cells += [number(metric, before.mean), number(metric, after.mean), f"{change.value:+.2f}{interval}"]
        lines.append(cells)
    header = ["system", "loss of texts before", "after", "change", "BLEU of MT before", "after", "change"]
    text = ("Loss of the sentences of `test` as texts, in nats a token, and BLEU of their translation into English as "
            "texts, by the text LM (before) and after stage 8; intervals over seeds.")
    return ["## What finetuning forgets, for every system", text, table(header, lines) if lines else "Not run yet."]
