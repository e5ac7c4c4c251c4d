"""Normalisers, each applied to references and hypotheses alike.

`basic`    for text that the model wrote: lower case, no punctuation.
`none`     for translations whose references are published with case and punctuation, as others score them.
`whisper`  Whisper's own, which many publish WER with: the English one for English, the basic one elsewhere. That one
           cuts words at combining marks; scripts that write vowels with them keep them.
`cvss`     for the translations of CVSS, which are published without case and punctuation: a-z, 0-9 and the apostrophe.
`english`  for transcripts of an English judge, who writes digits where references have words. whisper-normalizer's
           English normaliser does the work. What it leaves unequal is settled around it: clock times lose their
           colon (`4:05` is `405`), `4:00` is `4 oclock`, `4 pm` is `4 p m`, `$12` is `12 dollars`, `-4` is `minus 4`,
           and whole numbers are compared digit by digit, since judges group them freely (`8 764`, `9-3-3`).
           Not settled: `4 pm` for a spoken "four o'clock p m", a cardinal for an ordinal (`February 6`), numbers
           with their parts apart (`80 4` for 84), and "twenty one" equals "two one". All of it meets the true
           recordings too, so that the ceiling shows it.

The references of VoxPopuli are its `normed_text` already; `basic` leaves them as they are but for a final full stop.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version

from audiopalm.core.errors import AudioPaLMError, nearest

# Languages whose scripts write vowels, tones or the absence of a vowel as combining marks.
MARKS = frozenset("as bn gu hi kn ml mr ne or pa ta te km lo my th".split())


@dataclass(frozen=True)
class Normaliser:
    """What is done to a text, and how a score line names it."""

    apply: Callable[[str], str]
    signature: str

    def __call__(self, text: str) -> str:
        return self.apply(text)


def basic(text: str) -> str:
    """Lower case without punctuation; an apostrophe inside a word stays."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(" " if unicodedata.category(c)[0] in "PS" and c != "'" else c for c in text)
    return " ".join(word.strip("'") for word in kept.split() if word.strip("'"))


def cvss(text: str) -> str:
    """Lower case; all but letters a-z, digits and apostrophes is a space."""
    return " ".join(re.sub(r"[^a-z0-9']", " ", text.lower().replace("’", "'")).split())


@cache
def _whisper_english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer  # slow to import

    return EnglishTextNormalizer()


@cache
def _whisper_basic(keep_marks: bool) -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(preserve_marks=keep_marks)


def whisper(text: str, language: str) -> str:
    """Whisper's normaliser for a language."""
    return (_whisper_english() if language == "en" else _whisper_basic(language in MARKS))(text).strip()


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


NORMALISERS = ("basic", "none", "whisper", "cvss", "english")


def get_normaliser(name: str, language: str) -> Normaliser:
    """The normaliser `name` for texts of a language; raises AudioPaLMError where it is for English only."""
    if name not in NORMALISERS:
        raise AudioPaLMError(f"unknown normaliser {name!r}; {nearest(name, NORMALISERS)}")
    if name in ("english", "cvss") and language != "en":
        raise AudioPaLMError(f"the normaliser {name!r} is for English, not for {language!r}; take basic or whisper")
    if name in ("basic", "none"):
        return Normaliser(basic if name == "basic" else str, name)
    if name == "cvss":
        return Normaliser(cvss, "cvss, a-z 0-9 '")
    package = f"whisper-normalizer {version('whisper-normalizer')}"
    if name == "english":
        return Normaliser(english, f"english, {package}, digits apart")
    kind = "english" if language == "en" else "basic, marks kept" if language in MARKS else "basic"
    return Normaliser(partial(whisper, language=language), f"whisper {kind}, {package}")
