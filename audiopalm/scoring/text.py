"""Text metrics: WER and CER by jiwer, BLEU and chrF by sacreBLEU, each with a 95 % bootstrap interval.

Three normalisers, each applied to references and hypotheses alike:

`basic`    for text that the model wrote: lower case, no punctuation.
`none`     for translations whose references are published with case and punctuation, as others score them.
`english`  for transcripts of an English judge, who writes digits where references have words. whisper-normalizer's
           English normaliser does the work. What it leaves unequal is settled around it: clock times lose their
           colon (`4:05` is `405`), `4:00` is `4 oclock`, `4 pm` is `4 p m`, `$12` is `12 dollars`, `-4` is `minus 4`,
           and whole numbers are compared digit by digit, since judges group them freely (`8 764`, `9-3-3`).
           Not settled: `4 pm` for a spoken "four o'clock p m", a cardinal for an ordinal (`February 6`), numbers
           with their parts apart (`80 4` for 84), and "twenty one" equals "two one". All of it meets the true
           recordings too, so that the ceiling shows it.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import jiwer
import numpy as np
import sacrebleu

from audiopalm.errors import AudioPaLMError

RESAMPLES = 1000
BOOTSTRAP_SEED = 12345


@dataclass(frozen=True)
class Score:
    """A metric over `n` utterances with its 95 % bootstrap interval; WER and CER are fractions, BLEU and chrF 0-100."""

    value: float
    low: float
    high: float
    n: int
    signature: str


def basic(text: str) -> str:
    """Lower case without punctuation; an apostrophe inside a word stays."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(" " if unicodedata.category(c)[0] in "PS" and c != "'" else c for c in text)
    return " ".join(word.strip("'") for word in kept.split() if word.strip("'"))


@cache
def _whisper_english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer  # slow to import, needed for judged speech only

    return EnglishTextNormalizer()


def english(text: str) -> str:
    """English as a judge writes it and as references write it, made comparable; see the head of this file."""
    text = re.sub(r"\bo['’ ]?clock\b", "oclock", text.lower())
    text = re.sub(r"\b(\d{1,2}):00\b", r"\1 oclock", text)
    text = re.sub(r"\b(\d{1,2}):(\d\d)\b", r"\1\2", text)
    text = re.sub(r"(\d) - (\d)", r"\1 minus \2", text)
    text = _whisper_english()(text)
    text = re.sub(r"\$(\d+)", r"\1 dollars", text)  # it writes $12 for twelve dollars and -4 for minus four
    text = re.sub(r"-(\d)", r"minus \1", text)
    text = re.sub(r"(\d|oclock) ?([ap]) ?m\b", r"\1 \2 m", text)
    text = re.sub(r"\bone\b", "1", text)
    text = re.sub(r"\b\d+\b", lambda match: " ".join(match.group()), text)
    return " ".join(word for word in text.split() if word.strip(".,$"))


NORMALISERS: dict[str, Callable[[str], str]] = {"basic": basic, "none": str, "english": english}


def normaliser_signature(name: str) -> str:
    return f"english, whisper-normalizer {version('whisper-normalizer')}, digits apart" if name == "english" else name


def score(metric: str, references: list[str], hypotheses: list[str]) -> Score:
    """`metric` (wer, cer, bleu or chrf) of normalised texts.

    Raises AudioPaLMError when there is nothing to score or a reference is empty.
    """
    if not references or len(references) != len(hypotheses):
        raise AudioPaLMError(f"{metric}: {len(references)} references for {len(hypotheses)} hypotheses")
    if not all(references):
        raise AudioPaLMError(f"{metric}: a reference is empty")
    statistics, compute, signature = _METRICS[metric](references, hypotheses)
    low, high = bootstrap(statistics, compute)
    return Score(compute(statistics.sum(axis=0)), low, high, len(references), signature)


def bootstrap(statistics: np.ndarray, compute: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % interval of `compute(sum of rows)` over resamples of the rows of `statistics` [utterances, counts]."""
    count = len(statistics)
    draws = np.random.default_rng(BOOTSTRAP_SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    values = [compute(total) for total in draws @ statistics]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _error_rate(process: Callable, references: list[str], hypotheses: list[str]) -> tuple:
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        found = process(reference, hypothesis)
        errors = found.substitutions + found.deletions + found.insertions
        rows.append((errors, found.hits + found.substitutions + found.deletions))
    return np.array(rows), lambda total: float(total[0] / total[1]), f"jiwer:{version('jiwer')}"


def _overlap(metric: sacrebleu.BLEU | sacrebleu.CHRF, references: list[str], hypotheses: list[str]) -> tuple:
    metric.corpus_score(hypotheses, [references])  # the signature is known only after a corpus was seen
    # sacreBLEU's own sufficient statistics, so that 1000 resamples cost milliseconds instead of minutes.
    rows = np.array(metric._extract_corpus_statistics(hypotheses, [references]))
    signature = f"{type(metric).__name__}|{metric.get_signature()}"
    return rows, lambda total: float(metric._compute_score_from_stats(total.tolist()).score), signature


_METRICS = {
    "wer": lambda references, hypotheses: _error_rate(jiwer.process_words, references, hypotheses),
    "cer": lambda references, hypotheses: _error_rate(jiwer.process_characters, references, hypotheses),
    "bleu": lambda references, hypotheses: _overlap(sacrebleu.BLEU(), references, hypotheses),
    "chrf": lambda references, hypotheses: _overlap(sacrebleu.CHRF(), references, hypotheses),
}
