"""Text normalisers. Each is applied to references and hypotheses alike.

`basic`    for text that the model wrote: lower case, no punctuation.
`none`     for translations whose references are published with case and punctuation, as others score them.
`whisper`  Whisper's own normaliser, which many published WERs use: the English one for English, the basic one for other
           languages. The basic one cuts words at combining marks, so the marks are preserved in scripts that write
           vowels with them.
`cvss`     for the translations of CVSS, which are published without case and punctuation: a-z, 0-9 and the apostrophe.
`english`  for transcripts of an English judge, which writes digits where references have words. It is
           whisper-normalizer's English normaliser with additions. Clock times lose their colon (`4:05` is `405`),
           `4:00` is `4 oclock`, `4 pm` is `4 p m`, `$12` is `12 dollars`, `-4` is `minus 4`, and whole numbers are
           compared digit by digit, because judges group digits freely (`8 764`, `9-3-3`).
           It has known faults. It counts as errors: `4 pm` for a spoken "four o'clock p m", a cardinal for an ordinal
           (`February 6`), and numbers with separated parts (`80 4` for 84). It counts "twenty one" and "two one" as
           equal. True recordings are scored with the same faults, so the ceiling shows their size.

The references of VoxPopuli are its `normed_text`; `basic` removes only their final full stop.
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
    """A function from text to text, and the signature that result rows name it by."""

    apply: Callable[[str], str]
    signature: str

    def __call__(self, text: str) -> str:
        return self.apply(text)


def basic(text: str) -> str:
    """Lower case without punctuation; an apostrophe inside a word stays."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    words = "".join(" " if unicodedata.category(c)[0] in "PS" and c != "'" else c for c in text).split()
    return " ".join(word.strip("'") for word in words if word.strip("'"))


def cvss(text: str) -> str:
    """Lower case; every character except a-z, 0-9 and the apostrophe becomes a space."""
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
    """The spellings of judges and of references made comparable; the docstring of this module lists the rules."""
    text = re.sub(r"\bo['’ ]?clock\b", "oclock", text.lower())
    text = re.sub(r"\b(\d{1,2}):00\b", r"\1 oclock", text)
    text = re.sub(r"\b(\d{1,2}):(\d\d)\b", r"\1\2", text)
    text = re.sub(r"(\d) - (\d)", r"\1 minus \2", text)
    text = _whisper_english()(text)
    text = re.sub(r"\$(\d+)", r"\1 dollars", text)  # the normaliser writes $12 for twelve dollars, -4 for minus four
    text = re.sub(r"-(\d)", r"minus \1", text)
    text = re.sub(r"(\d|oclock) ?([ap]) ?m\b", r"\1 \2 m", text)
    text = re.sub(r"\bone\b", "1", text)
    text = re.sub(r"\b\d+\b", lambda match: " ".join(match.group()), text)
    return " ".join(word for word in text.split() if word.strip(".,$"))


NORMALISERS = ("basic", "none", "whisper", "cvss", "english")


def get_normaliser(name: str, language: str) -> Normaliser:
    """The normaliser `name` for texts in a language.

    Raises AudioPaLMError for an unknown name, and for another language with a normaliser that is for English only.
    """
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
