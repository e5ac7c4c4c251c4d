"""Metrics of normalised texts: WER and CER by jiwer, BLEU and chrF by sacreBLEU, each with a 95 % interval."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import jiwer
import numpy as np
from sacrebleu import BLEU, CHRF

from audiopalm.core.errors import AudioPaLMError

RESAMPLES = 1000
DRAWN_TOGETHER = 20
BOOTSTRAP_SEED = 12345
# Written without spaces between words: their BLEU counts characters, as others publish it.
BY_CHARACTER = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})


@dataclass(frozen=True)
class Score:
    """A metric over `n` utterances with its 95 % bootstrap interval; WER and CER are fractions, BLEU and chrF 0-100."""

    value: float
    low: float
    high: float
    n: int
    signature: str


@dataclass(frozen=True)
class Statistics:
    """`counts` [utterances, counts] of a metric; `compute` turns their sum, or that of a resample, into its value."""

    counts: np.ndarray
    compute: Callable[[np.ndarray], float]
    signature: str


def statistics(metric: str, references: list[str], hypotheses: list[str], language: str) -> Statistics:
    """Of `metric` (wer, cer, bleu or chrf) for texts in a language.

    Raises AudioPaLMError when there is nothing to score or a reference is empty.
    """
    if not references or len(references) != len(hypotheses):
        raise AudioPaLMError(f"{metric}: {len(references)} references for {len(hypotheses)} hypotheses")
    if not all(references):
        raise AudioPaLMError(f"{metric}: a reference is empty")
    if metric in OVERLAPS:
        return _overlap(overlap_metric(metric, language), references, hypotheses)
    return _error_rate(ERROR_RATES[metric], references, hypotheses)


def score(metric: str, references: list[str], hypotheses: list[str], language: str = "") -> Score:
    """`metric` with its interval; raises as `statistics` does."""
    found = statistics(metric, references, hypotheses, language)
    low, high = bootstrap(found.counts, found.compute)
    return Score(found.compute(found.counts.sum(axis=0)), low, high, len(references), found.signature)


def bootstrap(statistics: np.ndarray, compute: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % interval of `compute(sum of rows)` over resamples of the rows of `statistics` [utterances, counts]."""
    count, random = len(statistics), np.random.default_rng(BOOTSTRAP_SEED)
    shares = np.full(count, 1 / count)
    values = [compute(total) for first in range(0, RESAMPLES, DRAWN_TOGETHER)  # 8 bytes for each row and resample
              for total in random.multinomial(count, shares, min(DRAWN_TOGETHER, RESAMPLES - first)) @ statistics]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


ERROR_RATES = {"wer": jiwer.process_words, "cer": jiwer.process_characters}
OVERLAPS = ("bleu", "chrf")


def overlap_metric(metric: str, language: str, references: list[list[str]] | None = None) -> BLEU | CHRF:
    """sacreBLEU's metric with its defaults, but for BLEU of languages without spaces."""
    if metric == "chrf":
        return CHRF(references=references)
    return BLEU(tokenize="char" if language in BY_CHARACTER else None, references=references)


def error_counts(references: dict[str, str], hypotheses: dict[str, str]) -> list[tuple[int, int]]:
    """(errors, words of the reference) of every utterance."""
    names = sorted(references, key=str.encode)
    texts = [[table[name] for name in names] for table in (references, hypotheses)]
    return [tuple(map(int, row)) for row in statistics("wer", *texts, "").counts]


def _error_rate(process: Callable, references: list[str], hypotheses: list[str]) -> Statistics:
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        found = process(reference, hypothesis)
        errors = found.substitutions + found.deletions + found.insertions
        rows.append((errors, found.hits + found.substitutions + found.deletions))
    return Statistics(np.array(rows), lambda total: float(total[0] / total[1]), f"jiwer:{version('jiwer')}")


def _overlap(metric: BLEU | CHRF, references: list[str], hypotheses: list[str]) -> Statistics:
    metric.corpus_score(hypotheses, [references])  # the signature is known only after a corpus was seen
    # sacreBLEU's own sufficient statistics, so that 1000 resamples cost milliseconds instead of minutes.
    rows = np.array(metric._extract_corpus_statistics(hypotheses, [references]))
    return Statistics(rows, lambda total: float(metric._compute_score_from_stats(total.tolist()).score),
                      f"{type(metric).__name__}|{metric.get_signature()}")
