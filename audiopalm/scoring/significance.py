"""Is the difference of two systems more than chance: paired bootstrap over the utterances of one set.

For BLEU and chrF sacreBLEU's own test; for WER and CER the same one over jiwer's counts: utterances are drawn with
replacement, the same ones for both systems, and p is how often the difference of a draw strays from the mean of the
draws as far as the measured difference is from zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.significance import PairedTest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.scoring.decodes import SCORE
from audiopalm.scoring.metrics import BOOTSTRAP_SEED, OVERLAPS, RESAMPLES, overlap_metric, statistics
from audiopalm.scoring.results import ResultRow
from audiopalm.scoring.score_set import JUDGED, scored_texts
from audiopalm.tasks import get_task

# What names a figure, and what must be equal before two systems are compared by it.
FIGURE = ("set", "task", "source", "target", "part", "metric", "system", "judge")
EQUAL = {"ids": "utterances or references", "normaliser": "normalisers", "signature": "metrics"}


@dataclass(frozen=True)
class Comparison:
    """A figure of two systems; `p` of the null hypothesis that they are equal."""

    row: ResultRow
    first: float
    second: float
    p: float


def comparable(first: Sequence[ResultRow], second: Sequence[ResultRow]) -> list[tuple[ResultRow, ResultRow]]:
    """The text and speech rows of two results.json that measure the same figure of a model.

    Raises AudioPaLMError when there is none, or where one was measured in another way or on other utterances.
    """
    def figures(rows: Sequence[ResultRow]) -> dict[tuple, ResultRow]:
        chosen = [row for row in rows if row.system == "model" and row.normaliser is not None]
        return {tuple(getattr(row, key) for key in FIGURE): row for row in chosen}

    others = figures(second)
    pairs = [(row, others[key]) for key, row in figures(first).items() if key in others]
    if not pairs:
        raise AudioPaLMError("no figure is in both: they share no set, task, language pair, metric and judge")
    for one, other in pairs:
        for key, name in EQUAL.items():
            if getattr(one, key) != getattr(other, key):
                raise AudioPaLMError(f"{figure_name(one)}: different {name}, {getattr(one, key)} and "
                                     f"{getattr(other, key)}; score both with the same options on the same set "
                                     "(stage 12)")
    return pairs


def figure_name(row: ResultRow) -> str:
    """`test asr+ast es-en ast bleu`; the part is left out where it is called like the task."""
    part = [row.part] if row.part != row.task else []
    return " ".join([row.set, row.task, row.languages, *part, row.metric])


def compare(first_dir: str, second_dir: str, first: ResultRow, second: ResultRow) -> Comparison:
    """The figure of `first` and `second`, rows that `comparable` has paired; their texts are read from the folders."""
    references, one = scored_texts(first_dir, first)
    same, other = scored_texts(second_dir, second)
    if references != same:
        raise AudioPaLMError(f"{figure_name(first)}: the references in {first_dir} and {second_dir} differ; run "
                             f"{SCORE} again for both")
    names = sorted(references, key=str.encode)
    texts = [[table[name] for name in names] for table in (references, one, other)]
    metric = JUDGED.get(first.metric, first.metric)
    language = get_task(first.task).output(first.part).language(first.source, first.target)
    test = _overlap_test if metric in OVERLAPS else _error_rate_test
    return Comparison(first, first.value, second.value, test(metric, language, *texts))


def _overlap_test(metric: str, language: str, references: list[str], first: list[str], second: list[str]) -> float:
    name = metric.upper()
    if first == second:
        return 1.0  # sacreBLEU counts differences above zero, finds none, and calls that significant
    made = overlap_metric(metric, language, [references])
    _, scores = PairedTest([("first", first), ("second", second)], {name: made}, None, test_type="bs",
                           n_samples=RESAMPLES)()
    found = next(value for key, value in scores.items() if key != "System")
    return float(found[1].p_value)


def _error_rate_test(metric: str, language: str, references: list[str], first: list[str], second: list[str]) -> float:
    counts = [statistics(metric, references, hypotheses, language) for hypotheses in (first, second)]
    size = len(references)
    draws = np.random.default_rng(BOOTSTRAP_SEED).multinomial(size, np.full(size, 1 / size), size=RESAMPLES)
    values = np.array([[one.compute(total) for total in draws @ one.counts] for one in counts])
    differences = values[0] - values[1]
    measured = abs(counts[0].compute(counts[0].counts.sum(axis=0)) - counts[1].compute(counts[1].counts.sum(axis=0)))
    strayed = np.abs(differences - differences.mean()) >= measured - 1e-12
    return float((strayed.sum() + 1) / (RESAMPLES + 1))
