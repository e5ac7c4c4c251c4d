"""CoVoST 2 (Wang et al., arXiv 2007.10310): translations of Common Voice 4, 21 languages into English and English
into 15.

A table `covost_v2.<source>_<target>.tsv` has `path translation split`; sentence and speaker come from Common Voice.
Train is `train` and `train_covost`; dev and test are Common Voice's. The rows are those of the official script. Texts
are as published, with their backslashes, which the official script removes.
"""

import logging
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.corpora.archives import unpack
from audiopalm.corpora.common_voice import Clips, clip_path, find_language, read_clips, why_not
from audiopalm.corpora.data_set import NONE, DataSet, ReaderOptions, compare, write_sets
from audiopalm.corpora.tables import Account, optional_values, outside_memory, places, read_columns, values

INTO_ENGLISH = ("fr", "de", "es", "ca", "it", "ru", "zh-CN", "pt", "fa", "et", "mn", "nl", "tr", "ar", "sv-SE", "lv",
                "sl", "ta", "ja", "id", "cy")
FROM_ENGLISH = ("de", "tr", "fa", "sv-SE", "mn", "zh-CN", "cy", "ca", "sl", "et", "id", "ar", "ta", "lv", "ja")
SETS = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}
SET_NAMES = ("train", "dev", "test")
PUBLISHED = {  # rows of train, dev and test (facebook/covost2 on the Hugging Face hub)
    "fr": (207374, 14760, 14760), "de": (127834, 13511, 13511), "es": (79015, 13221, 13221),
    "ca": (95854, 12730, 12730), "it": (31698, 8940, 8951), "ru": (12112, 6110, 6300), "zh-CN": (7085, 4843, 4898),
    "pt": (9158, 3318, 4023), "fa": (53949, 3445, 3445), "et": (1782, 1576, 1571), "mn": (2067, 1761, 1759),
    "nl": (7108, 1699, 1699), "tr": (3966, 1624, 1629), "ar": (2283, 1758, 1695), "sv-SE": (2160, 1349, 1595),
    "lv": (2337, 1125, 1629), "sl": (1843, 509, 360), "ta": (1358, 384, 786), "ja": (1119, 635, 684),
    "id": (1243, 792, 844), "cy": (1241, 690, 690), "en": (289430, 15531, 15531),
}


@dataclass(frozen=True)
class Table:
    """The rows of one table: paths, translations, and the set of each as an index into `SET_NAMES`, -1 for none."""

    paths: pyarrow.StringArray
    texts: pyarrow.StringArray
    sets: np.ndarray

    def only(self, wanted: np.ndarray) -> "Table":
        """The rows for which `wanted`, bool `[N]`, is true."""
        if wanted.all():
            return self
        mask = pyarrow.array(wanted)
        return Table(self.paths.filter(mask), self.texts.filter(mask), self.sets[wanted])


@dataclass(frozen=True)
class Rows:
    """The clips of a source language and their translations by language, null where a table lacks the clip.

    elsewhere: {index of a clip: the target languages whose table has it in another set than the first table}.
    """

    paths: pyarrow.StringArray
    sets: np.ndarray
    texts: dict[str, pyarrow.StringArray]
    elsewhere: dict[int, list[str]]


@dataclass(frozen=True)
class Source:
    """The data that all utterances of one language share."""

    language: str
    folder: Path
    rows: Rows
    clips: Clips


class ClipUtterance:
    """An utterance with the attributes of `Utterance` whose values stay in the columns of its language.

    There are a million of them, and an `Utterance` with a dictionary takes more than 250 bytes. `place` is the index of
    a clip of the source that has a speaker.
    """

    __slots__ = ("place", "source")
    spoken = spoken_cuts = spoken_seconds = NONE
    cuts = ()
    seconds = None

    def __init__(self, source: Source, place: int):
        self.source, self.place = source, place

    @property
    def id(self) -> str:
        return f"{self.speaker}-{self.source.rows.paths[self.place].as_py().removesuffix('.mp3')}"

    @property
    def speaker(self) -> str:
        return self.source.clips.names[self.source.clips.speakers[self.place].as_py()]

    @property
    def language(self) -> str:
        return self.source.language

    @property
    def audio(self) -> str:
        return clip_path(self.source.folder, self.source.rows.paths[self.place].as_py())

    @property
    def text(self) -> str:
        return self.source.clips.sentences[self.place].as_py()

    @property
    def translations(self) -> dict[str, str]:
        texts = {code: column[self.place].as_py() for code, column in self.source.rows.texts.items()}
        return {code: text for code, text in texts.items() if text and text.strip()}


class ClipUtterances:
    """The utterances of a set: a million in several languages, 6 bytes each beside the columns on disk."""

    def __init__(self, sources: list[Source] | None = None, numbers: array | None = None, places: array | None = None):
        self.sources = sources if sources is not None else []
        self.numbers = numbers if numbers is not None else array("H")  # of each utterance: its source
        self.places = places if places is not None else array("i")  # and its place there

    def append(self, utterance: ClipUtterance) -> None:
        if not self.sources or self.sources[-1] is not utterance.source:
            self.sources.append(utterance.source)
        self.numbers.append(len(self.sources) - 1)
        self.places.append(utterance.place)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[ClipUtterance]:
        return (ClipUtterance(self.sources[number], place)
                for number, place in zip(self.numbers, self.places, strict=True))

    def __getitem__(self, place: int) -> ClipUtterance:
        return ClipUtterance(self.sources[self.numbers[place]], self.places[place])

    def select(self, places: np.ndarray) -> "ClipUtterances":
        numbers, chosen = (array(column.typecode, np.asarray(column)[places].tobytes())
                           for column in (self.numbers, self.places))
        return ClipUtterances(self.sources, numbers, chosen)


def short_code(language: str) -> str:
    """`zh-CN` -> `zh`: the code that data directories use."""
    return language.partition("-")[0]


def prepare(options: ReaderOptions) -> dict[str, Any]:
    """Write <output>/{train,dev,test} for the source languages (Common Voice's codes) and return the report.

    Raises AudioPaLMError when a language is unknown or missing, or when more than `options.max_drop` of the rows of a
    set are dropped.
    """
    known = (*INTO_ENGLISH, "en")
    for language in options.languages:
        if language not in known:
            raise AudioPaLMError(f"CoVoST 2 has no source language {language!r}; {nearest(language, known)}")
    sets = {name: DataSet(ClipUtterances()) for name in SET_NAMES}  # type: ignore[arg-type]  # what UtteranceList names
    for language in options.languages or INTO_ENGLISH:
        _read_language(options.downloads, language, options.unpacked, sets)
    return write_sets(options.output, sets, options.max_drop)


def _read_language(downloads: Path, language: str, unpacked: Path, sets: dict[str, DataSet]) -> None:
    accounts = [sets[name].account for name in SET_NAMES]
    for account in accounts:
        account.begin(language)
    tables = {}
    for target in FROM_ENGLISH if language == "en" else ("en",):
        table = _find_table(downloads, f"covost_v2.{language}_{target}.tsv", unpacked)
        if table is not None:
            tables[short_code(target)] = read_table(table, accounts)
    if not any(len(table.paths) for table in tables.values()):
        raise AudioPaLMError(f"CoVoST 2, {language!r}: no table covost_v2.{language}_*.tsv (or .tsv.tar.gz) with a row "
                             f"in {downloads}; the recipe's README.md says how to obtain it")
    rows = join(tables)
    del tables  # its memory is needed
    folder = find_language(downloads, language, unpacked)
    clips = read_clips(folder, language, rows.paths, accounts[0])
    paths, sentences, speakers, *texts = outside_memory(
        {"path": rows.paths, "sentence": clips.sentences, "speaker": clips.speakers, **rows.texts}, unpacked)
    rows = Rows(paths, rows.sets, dict(zip(rows.texts, texts, strict=True)), rows.elsewhere)
    before = [len(sets[name].utterances) for name in SET_NAMES]
    _add_utterances(Source(short_code(language), folder, rows, Clips(sentences, speakers, clips.names)),
                    [sets[name] for name in SET_NAMES])
    counted = np.bincount(rows.sets, minlength=len(SET_NAMES)).tolist()
    compare(f"CoVoST 2, {language}", "rows of train, dev, test", counted, PUBLISHED[language])
    logging.info("%s: kept %s", language, ", ".join(
        f"{len(sets[name].utterances) - already} of {count} {name}"
        for name, already, count in zip(SET_NAMES, before, counted, strict=True)))


def _add_utterances(source: Source, sets: list[DataSet]) -> None:
    """Add every clip of a language to its set or, with a reason, to the dropped rows."""
    rows = source.rows
    translations = zip(*map(optional_values, rows.texts.values()), strict=True)
    columns = zip(rows.sets.tolist(), values(rows.paths), source.clips, translations, strict=True)
    for place, (number, name, clip, texts) in enumerate(columns):
        account = sets[number].account
        account.rows += 1
        reason = why_not(clip, clip_path(source.folder, name))
        if not reason and not any(text and text.strip() for text in texts):
            reason = "empty translation"
        if clip is None or reason:
            account.drop(name, reason or "not in validated.tsv")
            continue
        for code, text in zip(rows.texts, texts, strict=True):
            if text is not None and not text.strip():
                account.lack(name, f"translation into {code}")
        for code in rows.elsewhere.get(place, ()):
            account.lack(name, f"translation into {code}, where it is in another set")
        sets[number].utterances.append(ClipUtterance(source, place))



def _find_table(downloads: Path, name: str, unpacked: Path) -> Path | None:
    for place in (downloads / name, downloads / "covost2" / name):
        if place.is_file():
            return place
    for archive in (downloads / f"{name}.tar.gz", downloads / "covost2" / f"{name}.tar.gz"):
        if archive.is_file():
            table = unpack(archive, unpacked / "covost2") / name
            if table.is_file():
                return table
            raise AudioPaLMError(f"{archive} holds no {name}; fetch it again")
    return None


def read_table(path: Path, accounts: list[Account]) -> Table:
    """The rows of a table in known splits; the first of equal paths counts.

    Rows that are left out go to the `accounts` of train, dev and test. Raises AudioPaLMError as `read_columns` does.
    """
    paths, texts, splits = read_columns(path, ["path", "translation", "split"], accounts[0])
    numbers = np.array([*(SET_NAMES.index(name) for name in SETS.values()), -1], dtype=np.int8)
    sets = numbers[places(splits, pyarrow.array(SETS))]
    for place in np.flatnonzero(sets < 0):
        accounts[0].rows += 1
        accounts[0].drop(paths[place].as_py(), f"unknown split {splits[place].as_py()!r}")
    table = Table(paths, texts, sets).only(sets >= 0)
    if compute.count_distinct(table.paths).as_py() == len(table.paths):
        return table
    first = places(table.paths, table.paths)
    again = first != np.arange(len(first))
    for place in np.flatnonzero(again):
        account = accounts[table.sets[first[place]]]
        account.rows += 1
        account.drop(table.paths[place].as_py(), "path appears twice")
    return table.only(~again)


def join(tables: dict[str, Table]) -> Rows:
    """The clips of all tables of one source language, in the order of the tables; the first table states the set."""
    if len(tables) == 1:
        [(code, table)] = tables.items()
        return Rows(table.paths, table.sets, {code: table.texts}, {})
    paths, sets = pyarrow.array([], pyarrow.string()), np.zeros(0, np.int8)
    indices: dict[str, np.ndarray] = {}  # {target language: the index of each row's clip}
    for code, table in tables.items():
        place = places(table.paths, paths)
        new = place < 0
        place[new] = len(paths) + np.arange(new.sum())
        paths = pyarrow.concat_arrays([paths, table.only(new).paths])
        sets = np.concatenate([sets, table.sets[new]])
        indices[code] = place
    texts: dict[str, pyarrow.StringArray] = {}
    elsewhere: dict[int, list[str]] = {}
    for code, table in tables.items():
        fits = sets[indices[code]] == table.sets
        if not fits.all():
            logging.warning("CoVoST 2: the table into %s has %d of %d clips in another set than the table before it; "
                            "these translations are left out", code, (~fits).sum(), len(fits))
        for place in indices[code][~fits].tolist():
            elsewhere.setdefault(place, []).append(code)
        row = np.full(len(paths), -1)
        row[indices[code][fits]] = np.flatnonzero(fits)
        texts[code] = table.texts.take(pyarrow.array(row, mask=row < 0))
    return Rows(paths, sets, texts, elsewhere)
