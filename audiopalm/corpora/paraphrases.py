"""Paraphrases of the grammar's sentences: texts without recordings, in the various wordings that people use.

The YAML file (egs/mini/corpus/paraphrases.yaml explains its notation) lists rows of wordings per template. `write_sets`
writes them as data directories of texts: train and dev for `--text_dir` of stages 7 and 8, and the set test_paraphrase.
"""

import functools
import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.corpora.grammar import Grammar, Sentence, parse_numbers
from audiopalm.data.datadir import invert, remove_tables_by_language, write_table

FILE = "paraphrases.yaml"
SLOT = re.compile(r"\{(\w+)(?:\|(\w+))?(?:\*([\w.]+))?\}")
CHOICE = re.compile(r"\(([^()]*)\)")
BAR = re.compile(r"\|(?![^{]*\})")  # a bar between the words of a choice, not within a slot
SETS = ("train", "dev", "test")
TEST_SHARE, DEV_SHARE = 0.08, 0.04  # fractions of the combinations of slot values
MIN_WORDINGS = 3  # a row with at least so many wordings in a language has one that only test_paraphrase uses
TRIES = 10  # the most draws per sentence of a set


@dataclass(frozen=True)
class Row:
    """Sentences of one template with the same wordings: possible values of its slots and, per language, the wordings.

    own: whether the row has its own meaning. Then a translation into a language is its first wording in that language.
    Otherwise the wordings are paraphrases of the grammar's sentence, and that sentence is the translation.
    """

    name: str
    template: str
    values: tuple[tuple[str, tuple[str, ...]], ...]
    wordings: dict[str, list[str]]
    own: bool

    def sentences(self) -> list[Sentence]:
        """The sentences with all combinations of the values."""
        slots = [slot for slot, _ in self.values]
        return [Sentence(self.template, tuple(zip(slots, values, strict=True)))
                for values in itertools.product(*(values for _, values in self.values))]


@dataclass(frozen=True)
class Pair:
    """A paraphrase, `text` in `language`, with its translations, {other language: text}."""

    row: str
    language: str
    text: str
    translations: dict[str, str]


@dataclass(frozen=True)
class Taken:
    """The texts that restrict further pairs.

    held_out: {language: texts of the grammar's dev and test sentences}. known: {(language, text): its translations}, of
    the grammar's train sentences and all pairs so far. used: (language, text) of all pairs so far.
    """

    held_out: dict[str, set[str]]
    known: dict[tuple[str, str], dict[str, str]]
    used: set[tuple[str, str]]


class Paraphrases:
    """Reads paraphrases.yaml beside the grammar; raises AudioPaLMError for a template, slot or noun that is unknown.

    >>> paraphrases = Paraphrases("egs/mini/corpus")
    >>> paraphrases.sample()["train"][0]
    """

    def __init__(self, corpus: str | Path):
        self.grammar = Grammar(corpus)
        self.path = require(Path(corpus) / FILE)
        values = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        self.seed: int = values["seed"]
        self.sizes: dict[str, int] = values["sets"]
        self.nouns, self.hundreds, self.views = values["nouns"], values["hundreds"], values["views"]
        self.rows = [self._row(template, index, row) for template, rows in values["templates"].items()
                     for index, row in enumerate(rows)]

    def _row(self, template: str, index: int, row: dict[str, Any]) -> Row:
        if template not in self.grammar.templates:
            raise AudioPaLMError(f"{self.path}: the grammar has no template {template!r}")
        slots, where = self.grammar.slots_of(template), row.get("where", {})
        unknown = set(where) - set(slots)
        if unknown:
            raise AudioPaLMError(f"{self.path}: template {template!r} has no slot {min(unknown)!r}")
        values = tuple((slot, tuple(self._values(slot, where[slot]) if slot in where else self.grammar.values_of(slot)))
                       for slot in slots)
        wordings = {language: expand(text) for language, text in (row.get("say") or row["also"]).items()}
        return Row(f"{template}{index}", template, values, wordings, "say" in row)

    def _values(self, slot: str, text: str) -> list[str]:
        """The values of a slot that the `where` of a row allows."""
        definition = self.grammar.slots[slot]
        if "digits" in definition:
            return [f"{number:0{definition['digits']}d}" for number in parse_numbers(text)]
        return [str(number) for number in parse_numbers(text)] if "numbers" in definition else str(text).split()

    def text(self, row: Row, sentence: Sentence, language: str, wording: str | None = None) -> str:
        """The sentence in a wording of the row; without a wording, in the words of a translation, see `Row`."""
        if wording is None:
            if not row.own or language not in row.wordings:
                return self.grammar.text(sentence, language)
            wording = row.wordings[language][0]
        values = dict(sentence.values)
        spoken = SLOT.sub(lambda match: self._speak(match, values, language), wording)
        return " ".join(spoken.split())

    def _speak(self, match: re.Match[str], values: dict[str, str], language: str) -> str:
        """The words for a slot in a wording."""
        slot, view, noun = match.groups()
        if slot not in values:
            raise AudioPaLMError(f"{self.path}: {match[0]} names a slot that its template lacks")
        value = values[slot]
        if noun:
            number = (int(value) - 1) % 12 + 1 if view == "12" else int(value)
            return self._counted(number, noun, values, language)
        if view == "oh":
            return " ".join("oh" if digit == "0" else self.number(int(digit), language) for digit in value)
        if view == "split":
            return f"{self.number(int(value[0]), language)} {self.number(int(value[1:]), language)}"
        if view in ("number", "and"):
            return self.number(int(value), language, " and " if view == "and" else " ")
        if view in self.views:
            return self._view(view, value, language)
        return self._grammar_words(slot, view, value, language)

    def _view(self, view: str, value: str, language: str) -> str:
        """The words for a value in a view of paraphrases.yaml."""
        for key, words in self.views[view][language].items():
            if str(key) == value or (value.isdigit() and int(value) in parse_numbers(key)):
                return words
        raise AudioPaLMError(f"{self.path}: view {view!r} has no words for {value!r} in {language}")

    def _grammar_words(self, slot: str, view: str | None, value: str, language: str) -> str:
        """The words of the recordings that speak the value."""
        return self.grammar.written(self.grammar.speak(slot, view, value, language).split(), language)

    def number(self, number: int, language: str, join: str = " ") -> str:
        """The words of a number from 0 to 999; `join` stands between the hundreds and the rest."""
        hundreds, rest = divmod(number, 100)
        if not hundreds:
            return self.grammar.written(self.grammar.number(rest, language).split(), language)
        words = self.hundreds[language][hundreds - 1]
        if not rest:
            return "cien" if words == "ciento" else words
        if language == "it":  # one word: the final o is left out before another o, and a final tre has an accent
            tail = "tré" if rest == 3 else self.number(rest, language)
            return (words[:-1] if tail.startswith("o") else words) + tail
        return words + join + self.number(rest, language)

    def _counted(self, number: int, noun: str, values: dict[str, str], language: str) -> str:
        """A number with its noun. `noun` is a key of `nouns`, or a slot with such a value; `.acc` asks for the
        accusative."""
        name, _, case = noun.partition(".")
        name = values.get(name, name) if name not in self.nouns else name
        forms = self.nouns.get(f"{name}.{case}", {}).get(language) if case else None
        if forms is None:
            if name not in self.nouns:
                raise AudioPaLMError(f"{self.path}: {name!r} is no noun; `nouns` lists them")
            forms = self.nouns[name][language]
        return AGREEMENT[language](number, self.number(number, language), *forms)

    def sample(self) -> dict[str, list[Pair]]:
        """{train, dev, test: pairs}, the same on every call.

        Every combination of a template's values belongs to one set. Combinations and texts of the grammar's dev and
        test sentences are in no set; combinations of its train sentences are not in test. Half of test has wordings
        that train and dev do not have. A text has the same translation into a language in all sets and among the
        grammar's sentences. Raises AudioPaLMError where a set cannot be filled.
        """
        grammar = self.grammar.sample()  # its sets have the same names
        held_out = {language: {self.grammar.text(sentence, language) for name in ("dev", "test")
                               for sentence in grammar[name]} | set(self.grammar.transcripts[language].values())
                    for language in self.grammar.languages}
        known = {(language, self.grammar.text(sentence, language)): {
            other: self.grammar.text(sentence, other) for other in self.grammar.languages if other != language}
            for sentence in grammar["train"] for language in self.grammar.languages}
        owner = {sentence: name for name in SETS for sentence in grammar[name]}
        sentences: dict[str, dict[str, list[Sentence]]] = {kind: {row.name: [] for row in self.rows} for kind in SETS}
        kind_of = functools.cache(lambda sentence: self._set_of(sentence, owner.get(sentence)))
        for row in self.rows:
            for sentence in row.sentences():
                kind = kind_of(sentence)
                if kind is not None:
                    sentences[kind][row.name].append(sentence)
        pairs: dict[str, list[Pair]] = {}
        taken = Taken(held_out, known, set())
        for kind, size in self.sizes.items():
            pairs[kind] = []
            for language in self.grammar.languages:
                draw = random.Random(f"{self.seed} {kind} {language}")
                count = len(pairs[kind]) + size // len(self.grammar.languages)
                for row, wording in itertools.islice(self._wordings(kind, language, draw), TRIES * size):
                    if len(pairs[kind]) == count:
                        break
                    pair = self._draw(row, language, wording, sentences[kind][row.name], draw, taken)
                    if pair:
                        pairs[kind].append(pair)
                else:
                    raise AudioPaLMError(f"{self.path}: too few sentences for the {kind} set of {language}; make it "
                                         "smaller")
        return pairs

    def _set_of(self, sentence: Sentence, owner: str | None) -> str | None:
        """The set of a combination of values, None for no set; `owner` is the grammar's set of the same combination."""
        share = random.Random(f"{self.seed} {sentence.id}").random()
        kind = "test" if share < TEST_SHARE else "dev" if share < TEST_SHARE + DEV_SHARE else "train"
        return None if owner in ("dev", "test") or (kind == "test" and owner) else kind

    def _wordings(self, kind: str, language: str, draw: random.Random) -> Iterator[tuple[Row, str]]:
        """Endless draws of a row and one of its wordings, for one set. A row is drawn with a weight of the square root
        of its number of wordings.

        For test, every second draw is a held-out wording.
        """
        common: dict[str, list[tuple[Row, str]]] = {}
        held_out: dict[str, list[tuple[Row, str]]] = {}
        for row in self.rows:
            hidden = self._held_out(row, language)
            common[row.name] = [(row, wording) for wording in row.wordings.get(language, []) if wording != hidden]
            held_out[row.name] = [(row, hidden)] if hidden else []
        turns = itertools.cycle([held_out, common] if kind == "test" else [common])
        weights = {id(rows): [len(rows[row.name]) ** 0.5 for row in self.rows] for rows in (common, held_out)}
        for rows in turns:
            yield draw.choice(rows[draw.choices(self.rows, weights[id(rows)])[0].name])

    def _held_out(self, row: Row, language: str) -> str | None:
        """The wording of a row that only test_paraphrase uses, never the first; None for a row with few wordings."""
        wordings = row.wordings[language] if language in row.wordings else []
        if len(wordings) < MIN_WORDINGS:
            return None
        return random.Random(f"{self.seed} {row.name} {language}").choice(wordings[1:])

    def _draw(self, row: Row, language: str, wording: str, sentences: list[Sentence], draw: random.Random,
              taken: Taken) -> Pair | None:
        """Draw a sentence and put it into the wording; the pair is added to `taken`. None for a text that is taken."""
        if not sentences:
            return None
        sentence = draw.choice(sentences)
        texts = {code: self.text(row, sentence, code, wording if code == language else None)
                 for code in self.grammar.languages}
        text = texts[language]
        if (language, text) in taken.used or any(words in taken.held_out[code] for code, words in texts.items()):
            return None
        translations = {code: words for code, words in texts.items() if code != language}
        if taken.known.setdefault((language, text), translations) != translations:
            return None
        taken.used.add((language, text))
        return Pair(row.name, language, text, translations)


def expand(text: str) -> list[str]:
    """`a (b|c) / d` -> [`a b`, `a c`, `d`]."""
    wordings = []
    for part in text.split(" / "):
        choices = [BAR.split(piece) if index % 2 else [piece] for index, piece in enumerate(CHOICE.split(part))]
        wordings += [" ".join("".join(pieces).split()) for pieces in itertools.product(*choices)]
    return list(dict.fromkeys(wordings))


def _english(number: int, words: str, gender: str, one: str, many: str) -> str:
    return f"{words} {one if number == 1 else many}"


def _spanish(number: int, words: str, gender: str, one: str, many: str) -> str:
    if number % 10 == 1 and number != 11:
        words = words.removesuffix("uno") + ("una" if gender == "f" else "ún" if number == 21 else "un")
    return f"{words} {one if number == 1 else many}"


def _french(number: int, words: str, gender: str, one: str, many: str) -> str:
    if gender == "f" and words.split()[-1] == "un":
        words += "e"
    return f"{words}{'s' if number == 80 else ''} {one if number == 1 else many}"


def _italian(number: int, words: str, gender: str, one: str, many: str) -> str:
    if number == 1:
        return f"un'{one}" if gender == "f" and one[0] in "aeiou" else f"{'una' if gender == 'f' else 'un'} {one}"
    return f"{words} {many}"


def _russian(number: int, words: str, gender: str, one: str, few: str, many: str) -> str:
    last = 0 if number // 10 % 10 == 1 else number % 10
    if last == 1:
        words = words.removesuffix("один") + {"m": "один", "n": "одно", "f": "одна", "fa": "одну"}[gender]
    if last == 2 and gender in ("f", "fa"):
        words = words.removesuffix("два") + "две"
    return f"{words} {one if last == 1 else few if last in (2, 3, 4) else many}"


# {language: a number, its words and the forms of a noun -> the number with its noun}
AGREEMENT: dict[str, Callable[..., str]] = {
    "en": _english, "es": _spanish, "fr": _french, "it": _italian, "ru": _russian}


def write_texts(directory: Path, pairs: list[Pair]) -> dict[str, Any]:
    """Write a data directory of texts without audio; return its report. Raises AudioPaLMError for no pairs."""
    if not pairs:
        raise AudioPaLMError(f"{directory.name}: no paraphrases; are the set's size and the wordings there?")
    rows = {f"paraphrase_{pair.language}-{pair.row}-{number:06d}": pair for number, pair in enumerate(pairs)}
    languages = sorted({pair.language for pair in pairs})
    remove_tables_by_language(directory)
    write_table(directory / "text", {key: pair.text for key, pair in rows.items()})
    for language in languages:
        write_table(directory / f"text.{language}",
                    {key: pair.translations[language] for key, pair in rows.items() if language in pair.translations})
    utt2spk = {key: f"paraphrase_{pair.language}" for key, pair in rows.items()}
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", invert(utt2spk))
    write_table(directory / "utt2lang", {key: pair.language for key, pair in rows.items()})
    return {"rows": len(rows), "kept": len(rows), "dropped": {},
            "languages": dict(Counter(pair.language for pair in pairs)), "speakers": dict(Counter(utt2spk.values()))}


def write_sets(corpus: str | Path, output: str | Path) -> dict[str, Any]:
    """Write <output>/texts/{train,dev} for --text_dir and <output>/test_paraphrase; return {folder: its report}."""
    pairs = Paraphrases(corpus).sample()
    folders = {"train": "texts/train", "dev": "texts/dev", "test": "test_paraphrase"}
    return {folders[kind]: write_texts(Path(output) / folders[kind], rows) for kind, rows in pairs.items()}
