"""TABLES.md: the comparisons with their verdicts, made from the design and tables.json alone."""

from collections.abc import Iterable
from statistics import fmean

from audiopalm.ablations.design import LOWER_IS_BETTER, METRICS, Comparison, Design, Side
from audiopalm.ablations.differences import Difference, Sample, difference, smallest_visible
from audiopalm.ablations.forgetting_page import forgetting_chapter
from audiopalm.ablations.runs import Run, sample
from audiopalm.report.results_page import number, table

HEAD = """\
# The paper's claims in small

Made from `tables.json` by `./tables.sh`; do not edit. The design was written before the runs:
`conf/tables/tables.yaml`; how to read it: `../../docs/tables.md`.

The paper's figures are of other data and of models thousands of times as large: only directions can be compared. A
claim **holds** where the 95 % interval of the difference lies on the paper's side of zero, **does not hold** where it
lies on the other side, and is **undecided** where zero is inside. The interval is over seeds and over the sentences of
`test` and `dev`. BLEU is 0-100, into English unless said; WER is a fraction. `expected` is the smallest difference
that the design finds with a probability of 80 %, stated before the runs; `visible` is the same with the chance that was
measured."""
NOT_RUN, UNFINISHED = "not run yet", "some seeds are missing"
# {verdict: how a list of such comparisons is introduced}
PLAIN = {"holds": "As in the paper, or as expected where it has no such table",
         "does not hold": "Against the paper, or against what was expected", "undecided": "Undecided at this scale",
         "higher": "Higher (the paper says nothing)", "lower": "Lower (the paper says nothing)",
         UNFINISHED: "Not decided yet, some seeds are missing"}
SMALL = """\
What small scale cannot say: how large an effect is for a model of 8 billion parameters, for open vocabulary, for a
hundred languages, and for recordings of thousands of speakers. All systems here learn sentences of one grammar."""
EARLIER = ("Of the earlier design {design} ({seeds} seeds, 300 steps for every system, one set of units and one text "
           "LM for all seeds)")


def markdown(design: Design, runs: list[Run]) -> str:
    """The contents of TABLES.md."""
    parts = [HEAD, _plain_words(design, runs), _overview(design, runs)]
    for comparison in design.comparisons:
        parts += _chapter(design, comparison, runs)
    parts += [*forgetting_chapter(design, runs), *_how(design, runs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain_words(design: Design, runs: list[Run]) -> str:
    """Which comparisons of the present design are confirmed, contradicted, undecided and not run."""
    found: dict[str, dict[str, list[str]]] = {}  # verdict -> question -> differences
    missing, count = 0, 0
    for comparison in design.comparisons:
        for before, after, result in differences(design, comparison, runs):
            count += 1
            if result is None:
                missing += 1
                continue
            finished = result.seeds >= design.seeds_of(comparison)
            verdict = result.verdict(comparison.wanted_sign) if finished else UNFINISHED
            question = f"`{comparison.name}`, {comparison.title}. {comparison.question}"
            by_question = found.setdefault(verdict, {})
            by_question.setdefault(question, []).append(_finding(comparison, before, after, result))
    lines = [line for verdict, title in PLAIN.items() if verdict in found
             for line in (f"- **{title}**", *(f"  - {question} {_sentence(each)}"
                                              for question, each in found[verdict].items()))]
    lines += [f"- **Not run yet**: {missing} of {count} comparisons."] if missing else []
    return "\n\n".join(["## In plain words", "\n".join(lines), SMALL])


def _sentence(findings: list[str]) -> str:
    return "; ".join(findings) + "."


def _pair(before: Side, after: Side) -> str:
    """The two sides of a difference; their labels are set apart, because they may be half sentences."""
    return f"*{after.label}* against *{before.label}*"


def _finding(comparison: Comparison, before: Side, after: Side, result: Difference) -> str:
    """The difference that was found, in words."""
    metric = comparison.metric
    return (f"{_pair(before, after)}: {shown(metric, result.value, True)} {METRICS[metric]} "
            f"({_interval(metric, result)})")


def differences(design: Design, comparison: Comparison, runs: list[Run]) -> list[tuple[Side, Side, Difference | None]]:
    """Neighbouring sides with their difference in runs of the present design; None where a side was not run."""
    samples = [sample(comparison, side, runs, side.system, design.design) for side in comparison.sides]
    pairs = zip(comparison.sides, comparison.sides[1:], samples, samples[1:], strict=False)
    return [(before, after, difference(first, second) if first.values and second.values else None)
            for before, after, first, second in pairs]


def shown(metric: str, value: float | None, sign: bool = False) -> str:
    """A value with the decimals of its metric; empty for None."""
    if value is None:
        return ""
    text = f"{value:.1f}" if metric.endswith("bleu") else number(metric, value)
    return f"+{text}" if sign and value > 0 else text


def _interval(metric: str, found: Difference) -> str:
    if found.low is None:
        return "one seed has no spread"
    return f"{shown(metric, found.low, True)} to {shown(metric, found.high, True)}"


def _overview(design: Design, runs: list[Run]) -> str:
    lines = []
    for comparison in design.comparisons:
        expected, wanted = expected_difference(design, comparison), design.seeds_of(comparison)
        for before, after, found in differences(design, comparison, runs):
            claim = {"better": "better", "worse": "worse", "nothing": ""}[comparison.paper_says]
            cells = [NOT_RUN, "", "", ""] if found is None else [
                shown(comparison.metric, found.value, True), _interval(comparison.metric, found),
                shown(comparison.metric, found.visible), f"**{found.verdict(comparison.wanted_sign)}**"
                + (f" ({found.seeds} of {wanted} seeds)" if found.seeds < wanted else "")]
            lines.append([f"`{comparison.name}`", _pair(before, after), METRICS[comparison.metric],
                          claim, *cells[:2], shown(comparison.metric, expected), *cells[2:]])
    header = ["table", "comparison", "metric", "paper", "ours", "interval", "expected", "visible", "verdict"]
    return f"## All verdicts\n\n{table(header, lines)}"


def expected_difference(design: Design, comparison: Comparison) -> float | None:
    """The smallest difference that the design finds, before it is run; None for a metric without a known spread."""
    spread = design.spread.get(comparison.metric)
    if spread is None:
        return None
    scaled = spread.scaled(len(comparison.sources), comparison.sentences)
    return smallest_visible(scaled, design.seeds_of(comparison))


def _chapter(design: Design, comparison: Comparison, runs: list[Run]) -> list[str]:
    lines = []
    for side in comparison.sides:
        found = sample(comparison, side, runs, side.system, design.design)
        lines.append([side.label, f"`{side.system}`", side.paper, *_figures(comparison, found),
                      *_cost(design, side.system, runs)])
    metric = METRICS[comparison.metric] + (", lower is better" if comparison.metric in LOWER_IS_BETTER else "")
    header = ["", "system", "paper", metric, "deviation", "interval", "seeds", "tokens of the task", "all tokens",
              "operations of stage 8"]
    return [f"## {comparison.title}", comparison.question, comparison.note, table(header, lines),
            " ".join(filter(None, sentences(design, comparison, runs))), earlier_sentence(design, comparison, runs),
            f"    ./tables.sh {comparison.name}"]


def _figures(comparison: Comparison, found: Sample) -> list[str]:
    if not found.values:
        return [NOT_RUN, "", "", ""]
    interval = found.interval()
    return [shown(comparison.metric, found.mean), shown(comparison.metric, found.spread),
            f"{shown(comparison.metric, interval[0])} to {shown(comparison.metric, interval[1])}" if interval else "",
            str(len(found.values))]


def _cost(design: Design, name: str, runs: list[Run]) -> list[str]:
    """Tokens of the tasks of its budget, all tokens, and operations (6 for each weight and token) of a system."""
    costs = [run.cost for run in runs if (run.system, run.design) == (name, design.design) and run.cost]
    system = design.system(name)
    if not costs or not system.budget:
        return ["", "", ""]
    task, total = fmean(cost["task_tokens"] for cost in costs), fmean(cost["tokens"] for cost in costs)
    return [f"{task:,.0f}", f"{total:,.0f}", f"{fmean(6 * cost['parameters'] * cost['tokens'] for cost in costs):.1e}"]


def sentences(design: Design, comparison: Comparison, runs: list[Run]) -> list[str]:
    """A sentence on the result for each side and the side before it."""
    expected = expected_difference(design, comparison)
    sees = (f"With {design.seeds_of(comparison)} seeds the design finds a difference of "
            f"{shown(comparison.metric, expected)} with a probability of 80 %." if expected else "")
    results = []
    for before, after, found in differences(design, comparison, runs):
        if found is None:
            continue
        verdict = found.verdict(comparison.wanted_sign)
        undecided = verdict == "undecided"
        claim = (f"{'whether' if undecided else 'that'} it is {comparison.paper_says} {'is ' if undecided else ''}"
                 if comparison.paper_says != "nothing" else "")
        scale = " at this scale" if undecided else ""
        visible = f"; a difference of {shown(comparison.metric, found.visible)} would have been seen" \
            if undecided and found.visible else ""
        interval = _interval(comparison.metric, found)
        if found.low is not None:
            interval = f"interval {interval}"
        results.append(f"{_pair(before, after)}: {shown(comparison.metric, found.value, True)} "
                       f"({interval}); {claim}**{verdict}{scale}**{visible}.")
    return [*(results or [f"Of this design {NOT_RUN}."]), sees]


def earlier_sentence(design: Design, comparison: Comparison, runs: list[Run]) -> str:
    """The results of the last design before this one, as long as a side of this design was not run; else empty."""
    if all(found is not None for _, _, found in differences(design, comparison, runs)):
        return ""
    sides = [side for side in comparison.sides if side.earlier]
    for number_of_design in range(design.design - 1, 0, -1):
        samples = [sample(comparison.of_earlier_designs(), side, runs, side.earlier, number_of_design)
                   for side in sides]
        known = [(side, found) for side, found in zip(sides, samples, strict=True) if found.values]
        if len(known) < 2:
            continue
        figures = ", ".join(f"{side.label} {shown(comparison.metric, found.mean)}" for side, found in known)
        parts = []
        for (_, first), (after, second) in zip(known, known[1:], strict=False):
            found = difference(first, second)
            parts.append(f"{after.label} {shown(comparison.metric, found.value, True)} "
                         f"({_interval(comparison.metric, found)}), {found.verdict(comparison.wanted_sign)}")
        head = EARLIER.format(design=number_of_design, seeds=max(len(found.values) for _, found in known))
        return f"{head}: {figures}. {'; '.join(parts)}. The interval of that design knew the seeds alone."
    return ""


def needed(design: Design, runs: list[Run]) -> list[Run]:
    """The runs without those of earlier designs that no comparison shows any more."""
    shown_systems = {side.earlier for comparison in design.comparisons
                     if any(found is None for _, _, found in differences(design, comparison, runs))
                     for side in comparison.sides if side.earlier}
    return [run for run in runs if run.design == design.design or run.system in shown_systems]


def _how(design: Design, runs: Iterable[Run]) -> list[str]:
    """Settings and commands of the runs."""
    runs = sorted(runs, key=lambda run: (run.design, run.system, run.seed))  # not in the order in which they ended
    rows = [row for run in runs for row in run.rows]
    lines = []
    for title, key in (("metrics", "signature"), ("normalisers", "normaliser"), ("judges", "judge"),
                       ("made by", "code")):
        values = sorted({getattr(row, key) for row in rows if getattr(row, key)})
        lines += [f"- {title}: " + "; ".join(f"`{value}`" for value in values)] if values else []
    commands = []
    for number_of_design, name in dict.fromkeys((run.design, run.system) for run in runs):
        first = next(run for run in runs if (run.design, run.system) == (number_of_design, name))
        earlier = "" if number_of_design == design.design else f" (design {number_of_design})"
        commands.append(f"`{name}`{earlier}, seed {first.seed}:\n\n"
                        + "\n".join(f"    {line}" for line in first.commands))
    return ["## How it was run", "\n".join(lines), *commands] if rows else []
