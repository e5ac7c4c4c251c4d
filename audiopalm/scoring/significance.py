"""Is the difference between two systems significant? Paired bootstrap over the utterances of one set.

BLEU and chrF use sacreBLEU's own test. WER and CER use the same test over jiwer's counts: utterances are drawn with
replacement, the same ones for both systems. p is the fraction of draws whose difference lies as far from the mean of
the draws as the measured difference lies from zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.significance import PairedTest, Result

from audiopalm.core.errors import AudioPaLMError
from audiopalm.scoring.decodes import SCORE
from audiopalm.scoring.metrics import BOOTSTRAP_SEED, OVERLAPS, RESAMPLES, overlap_metric, statistics
from audiopalm.scoring.results import ResultRow
from audiopalm.scoring.score_set import JUDGED, scored_texts
from audiopalm.tasks import get_task

FIGURE = ("set", "task", "source", "target", "part", "metric", "system", "judge")  # fields that name a figure
# Fields that must be equal before two systems are compared by a figure, and their names in messages.
EQUAL = {"ids": "utterances or references", "normaliser": "normalisers", "signature": "metrics"}


@dataclass(frozen=True)
class Comparison:
    """The values of a figure for two systems, and `p` under the null hypothesis that the systems are equal."""

    row: ResultRow
    first: float
    second: float
    p: float


def comparable(first: Sequence[ResultRow], second: Sequence[ResultRow]) -> list[tuple[ResultRow, ResultRow]]:
    """Pairs of rows, from two results.json, that measure the same text or speech figure of a model.

    Raises AudioPaLMError if there is no pair, or if a figure was measured differently or on other utterances.
    """
    def figures(rows: Sequence[ResultRow]) -> dict[tuple[str | None, ...], ResultRow]:
        chosen = [row for row in rows if row.system == "model" and row.normaliser is not None]
        return {tuple(getattr(row, key) for key in FIGURE): row for row in chosen}

    others = figures(second)
    pairs = [(row, others[key]) for key, row in figures(first).items() if key in others]
    if not pairs:
        raise AudioPaLMError("no figure is in both: they share no set, task, language pair, metric and judge")
    for row, other in pairs:
        for key, name in EQUAL.items():
            if getattr(row, key) != getattr(other, key):
                raise AudioPaLMError(f"{figure_name(row)}: different {name}, {getattr(row, key)} and "
                                     f"{getattr(other, key)}; score both with the same options on the same set "
                                     "(stage 12)")
    return pairs


def figure_name(row: ResultRow) -> str:
    """For example `test asr+ast es-en ast bleu`. The part is left out if it has the name of the task."""
    part = [row.part] if row.part and row.part != row.task else []
    return " ".join([row.set, row.task, row.languages, *part, row.metric])


def compare(first_dir: str, second_dir: str, first: ResultRow, second: ResultRow) -> Comparison:
    """Compare `first` and `second`, rows that `comparable` has paired. Their texts are read from the two folders.

    Raises AudioPaLMError if the texts are missing or the references differ.
    """
    references, first_hypotheses = scored_texts(first_dir, first)
    second_references, second_hypotheses = scored_texts(second_dir, second)
    if references != second_references:
        raise AudioPaLMError(f"{figure_name(first)}: the references in {first_dir} and {second_dir} differ; run "
                             f"{SCORE} again for both")
    names = sorted(references, key=str.encode)
    texts = [[table[name] for name in names] for table in (references, first_hypotheses, second_hypotheses)]
    metric = JUDGED.get(first.metric, first.metric)
    language = get_task(first.task).output(first.part or "").language(first.source or "", first.target)
    test = _overlap_test if metric in OVERLAPS else _error_rate_test
    return Comparison(first, first.value, second.value, test(metric, language, *texts))


def _overlap_test(metric: str, language: str, references: list[str], first: list[str], second: list[str]) -> float:
    name = metric.upper()
    if first == second:
        return 1.0  # sacreBLEU would count the differences above zero, find none, and report a significant difference
    scorer = overlap_metric(metric, language, [references])
    _, scores = PairedTest([("first", first), ("second", second)], {name: scorer}, None, test_type="bs",
                           n_samples=RESAMPLES)()
    # Only the second system has a p value: the first is the baseline.
    (p_value,) = [result.p_value for column in scores.values() for result in column
                  if isinstance(result, Result) and result.p_value is not None]
    return float(p_value)


def _error_rate_test(metric: str, language: str, references: list[str], first: list[str], second: list[str]) -> float:
    counts = [statistics(metric, references, hypotheses, language) for hypotheses in (first, second)]
    size = len(references)
    draws = np.random.default_rng(BOOTSTRAP_SEED).multinomial(size, np.full(size, 1 / size), size=RESAMPLES)
    values = np.array([[system.compute(total) for total in draws @ system.counts] for system in counts])
    differences = values[0] - values[1]
    measured = abs(counts[0].compute(counts[0].counts.sum(axis=0)) - counts[1].compute(counts[1].counts.sum(axis=0)))
    as_far = np.abs(differences - differences.mean()) >= measured - 1e-12
    return float((as_far.sum() + 1) / (RESAMPLES + 1))
