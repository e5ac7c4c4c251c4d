"""Metrics of normalised texts: WER and CER by jiwer, BLEU and chrF by sacreBLEU, each with a 95 % interval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import jiwer
import numpy as np
from sacrebleu import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

from audiopalm.core.errors import AudioPaLMError

RESAMPLES = 1000
DRAWN_TOGETHER = 4  # resamples in memory at a time
SCORED_TOGETHER = 200  # references whose n-grams are in memory at a time; sacreBLEU takes 5 to 10 KB for each
BOOTSTRAP_SEED = 12345
# Languages that are written without spaces between words. Their BLEU counts characters, as in publications.
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
    """Sufficient statistics of a metric: `counts` [utterances, counts].

    `compute` turns the sum of the rows, or of a resample of the rows, into the value of the metric.
    """

    counts: np.ndarray
    compute: Callable[[np.ndarray], float]
    signature: str


def statistics(metric: str, references: list[str], hypotheses: list[str], language: str) -> Statistics:
    """The statistics of `metric` (wer, cer, bleu or chrf) for texts in a language.

    Raises AudioPaLMError if there is nothing to score, if the numbers of texts differ, or if a reference is empty.
    """
    if not references or len(references) != len(hypotheses):
        raise AudioPaLMError(f"{metric}: {len(references)} references for {len(hypotheses)} hypotheses")
    if not all(references):
        raise AudioPaLMError(f"{metric}: a reference is empty")
    if metric in OVERLAPS:
        return _overlap(overlap_metric(metric, language), references, hypotheses)
    if metric == "cer":  # in a language without spaces, a space is what the normaliser has made of a comma
        references, hypotheses = ([without_spaces(text, language) for text in texts]
                                  for texts in (references, hypotheses))
    return _error_rate(ERROR_RATES[metric], references, hypotheses)


def without_spaces(text: str, language: str) -> str:
    """The text without spaces in the languages of BY_CHARACTER, and unchanged in others."""
    return "".join(text.split()) if language in BY_CHARACTER else text


def score(metric: str, references: list[str], hypotheses: list[str], language: str = "") -> Score:
    """`metric` with its interval; raises as `statistics` does."""
    measured = statistics(metric, references, hypotheses, language)
    low, high = bootstrap(measured.counts, measured.compute)
    return Score(measured.compute(measured.counts.sum(axis=0)), low, high, len(references), measured.signature)


def bootstrap(statistics: np.ndarray, compute: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % interval of `compute(sum of rows)` over resamples of the rows of `statistics` [utterances, counts]."""
    count, random = len(statistics), np.random.default_rng(BOOTSTRAP_SEED)
    shares = np.full(count, 1 / count)
    values = [compute(total) for first in range(0, RESAMPLES, DRAWN_TOGETHER)  # a draw takes 8 bytes for each row
              for total in random.multinomial(count, shares, min(DRAWN_TOGETHER, RESAMPLES - first)) @ statistics]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


Alignment = jiwer.WordOutput | jiwer.CharacterOutput
ERROR_RATES: dict[str, Callable[[str, str], Alignment]] = {"wer": jiwer.process_words, "cer": jiwer.process_characters}
OVERLAPS = ("bleu", "chrf")


def overlap_metric(metric: str, language: str, references: list[list[str]] | None = None) -> BLEU | CHRF:
    """sacreBLEU's metric with its default settings; BLEU counts characters in the languages of BY_CHARACTER."""
    if metric == "chrf":
        return CHRF(references=references)
    return BLEU(tokenize="char" if language in BY_CHARACTER else None, references=references)


def error_counts(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> list[tuple[int, int]]:
    """(errors, words of the reference) of each utterance, in the byte order of the utterance ids."""
    names = sorted(references, key=str.encode)
    counts = statistics("wer", [references[name] for name in names], [hypotheses[name] for name in names], "").counts
    return [(int(errors), int(words)) for errors, words in counts]


def _error_rate(process: Callable[[str, str], Alignment], references: list[str], hypotheses: list[str]) -> Statistics:
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        aligned = process(reference, hypothesis)
        errors = aligned.substitutions + aligned.deletions + aligned.insertions
        rows.append((errors, aligned.hits + aligned.substitutions + aligned.deletions))
    return Statistics(np.array(rows), lambda total: float(total[0] / total[1]), f"jiwer:{version('jiwer')}")


def _overlap(metric: BLEU | CHRF, references: list[str], hypotheses: list[str]) -> Statistics:
    # sacreBLEU's own sufficient statistics make 1000 resamples cost milliseconds instead of minutes.
    rows = []
    for first in range(0, len(references), SCORED_TOGETHER):
        block = slice(first, first + SCORED_TOGETHER)
        rows.append(np.array(metric._extract_corpus_statistics(hypotheses[block], [references[block]])))
        for tokenizer in (Tokenizer13a, TokenizerRegexp):  # each keeps the last 65,536 texts
            tokenizer.__call__.cache_clear()
    return Statistics(np.concatenate(rows), lambda total: float(metric._compute_score_from_stats(total.tolist()).score),
                      f"{type(metric).__name__}|{metric.get_signature()}")
