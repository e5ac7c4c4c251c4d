"""The grammar of composed sentences: meanings, with their words and their recordings in every language.

The YAML file (egs/mini/corpus/grammar.yaml explains its notation) lists templates and slots; a `Sentence` is a template
with a value for each slot. `Grammar.sample` draws the train, dev and test meanings; no text of one set occurs in
another, in any language.
"""

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data.datadir import read_table

SLOT = re.compile(r"\{(\w+)(?:\|(\w+))?\}")


@dataclass(frozen=True)
class Sentence:
    """One meaning: a template and (slot, value) pairs, with values as in the id."""

    template: str
    values: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        return "_".join([self.template, *(value for _, value in self.values)])


def parse_numbers(text: str) -> list[int]:
    """`0-3 10` -> [0, 1, 2, 3, 10]."""
    numbers: list[int] = []
    for part in str(text).split():
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


class Grammar:
    """The sentences that can be composed from recordings.

    >>> grammar = Grammar("egs/mini/corpus")
    >>> sentence = grammar.sample()["test"][0]
    >>> grammar.text(sentence, "ru"), grammar.clips(sentence, "ru")
    """

    def __init__(self, corpus: str | Path):
        values = yaml.safe_load(require(Path(corpus) / "grammar.yaml").read_text(encoding="utf-8"))
        self.languages: list[str] = values["languages"]
        self.seed: int = values["seed"]
        self.sizes: dict[str, int] = values["sets"]
        self.numbers, self.slots, self.templates = values["numbers"], values["slots"], values["templates"]
        self.transcripts = {language: read_table(Path(corpus) / "transcripts" / f"{language}.txt")
                            for language in self.languages}

    def slots_of(self, template: str) -> list[str]:
        """The names of a template's slots, in the order of the first language that uses them."""
        text = " ".join(self.templates[template]["say"].values())
        return list(dict.fromkeys(name for name, _ in SLOT.findall(text)))

    def values_of(self, slot: str) -> list[str]:
        """All values of a slot."""
        definition = self.slots[slot]
        if "digits" in definition:
            return [f"{number:0{definition['digits']}d}" for number in range(10 ** definition["digits"])]
        if "numbers" in definition:
            return [str(number) for number in parse_numbers(definition["numbers"])]
        return list(definition)

    def sentences(self, template: str) -> list[Sentence]:
        """Every meaning of a template."""
        slots = self.slots_of(template)
        combinations = itertools.product(*(self.values_of(slot) for slot in slots))
        return [Sentence(template, tuple(zip(slots, values, strict=True))) for values in combinations]

    def sample(self) -> dict[str, list[Sentence]]:
        """{set: sentences}, the same on every call. No text occurs twice, in any language.

        A template with a `share` has that share of every set. A template with `train` is in train only, and `train` is
        the number of its sentences. Raises AudioPaLMError for a template with too few sentences.
        """
        templates = sorted(self.templates)
        shares = {name: template["share"] for name, template in self.templates.items() if "share" in template}
        counts = {name: apportion(shares, size) for name, size in self.sizes.items()}
        counts["train"] |= {name: template["train"] for name, template in self.templates.items() if "train" in template}
        seen: dict[str, set[str]] = {language: set() for language in self.languages}
        drawn: dict[str, list[Sentence]] = {name: [] for name in self.sizes}
        for template in templates:
            candidates = self.sentences(template)
            random.Random(f"{self.seed} {template}").shuffle(candidates)
            fresh = iter(candidates)
            # Smallest sets first, so that a small template reaches dev and test.
            for name in sorted(self.sizes, key=lambda name: self.sizes[name]):
                for _ in range(counts[name].get(template, 0)):
                    drawn[name].append(self._next_unseen(fresh, seen, template))
        for name in drawn:
            drawn[name].sort(key=lambda sentence: sentence.id)
        return drawn

    def _next_unseen(self, candidates: Iterator[Sentence], seen: dict[str, set[str]], template: str) -> Sentence:
        """The next candidate none of whose texts has been seen; its texts are added to `seen`."""
        for sentence in candidates:
            texts = {language: self.text(sentence, language) for language in self.languages}
            if any(texts[language] in seen[language] for language in self.languages):
                continue
            for language, text in texts.items():
                seen[language].add(text)
            return sentence
        raise AudioPaLMError(f"grammar: template {template!r} has too few sentences for its share; lower it")

    def clips(self, sentence: Sentence, language: str) -> list[str]:
        """Recording ids that speak the sentence, in order."""
        return [token.lstrip("+").partition("=")[0] for token in self.tokens(sentence, language)]

    def text(self, sentence: Sentence, language: str) -> str:
        """The sentence in lower-case words without punctuation."""
        return self.written(self.tokens(sentence, language), language)

    def written(self, tokens: list[str], language: str) -> str:
        """The words of `[+]clip[=words]` tokens."""
        text = ""
        for token in tokens:
            clip, equals, written = token.lstrip("+").partition("=")
            words = written.replace("_", " ") if equals else self.words(clip, language)
            text += words if token.startswith("+") else f" {words}"
        return text.strip()

    def words(self, clip: str, language: str) -> str:
        """The transcript of a recording. Raises AudioPaLMError where it has none."""
        try:
            return self.transcripts[language][clip]
        except KeyError:
            raise AudioPaLMError(f"grammar: recording {clip!r} has no transcript in {language}") from None

    def tokens(self, sentence: Sentence, language: str) -> list[str]:
        """`[+]clip[=words]` tokens of the sentence."""
        say = self.templates[sentence.template]["say"]
        values = dict(sentence.values)
        pattern = say.get(language, say["all"])
        spoken = SLOT.sub(lambda match: self.speak(match[1], match[2], values[match[1]], language), pattern)
        return spoken.split()

    def speak(self, slot: str, view: str | None, value: str, language: str) -> str:
        """The tokens that speak the value of a slot. `{slot|view}` in a template asks for another view of the value."""
        definition = self.slots[slot]
        if view == "12":
            return self.number((int(value) - 1) % 12 + 1, language)
        if view == "half":
            return self.speak("half", None, "am" if int(value) < 12 else "pm", language)
        if "digits" in definition:
            return " ".join(self.number(int(digit), language) for digit in value)
        if "numbers" in definition:
            return self.number(int(value), language)
        return definition[value].get(language, definition[value]["all"])

    def number(self, number: int, language: str) -> str:
        """Tokens of a number from 0 to 99."""
        rules = self.numbers[language]
        if number in rules.get("except", {}):
            return rules["except"][number]
        if number in parse_numbers(rules["recorded"]):
            return f"digits/{number}"
        tens, unit = number - number % 10, number % 10
        return rules["otherwise"].format(tens=f"digits/{tens}", unit=f"digits/{unit}")

    def all_clips(self, language: str) -> list[str]:
        """Every recording id that a sentence of this language can use, sorted."""
        tokens: set[str] = set()
        for template in self.templates:
            say = self.templates[template]["say"]
            pattern = say.get(language, say["all"])
            for slot, view in SLOT.findall(pattern):
                values = [str(digit) for digit in range(10)] if "digits" in self.slots[slot] else self.values_of(slot)
                for value in values:
                    tokens.update(self.speak(slot, view or None, value, language).split())
            tokens.update(SLOT.sub(" ", pattern).split())
        return sorted({token.lstrip("+").partition("=")[0] for token in tokens})


def apportion(shares: dict[str, int], total: int) -> dict[str, int]:
    """Split `total` by shares, largest remainders rounded up."""
    whole = sum(shares.values())
    exact = {name: total * share / whole for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
