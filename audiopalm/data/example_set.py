"""Sets of examples: the utterances that have certain fields, and the fields of each, by the index of a data set."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, require
from audiopalm.data.examples import Example
from audiopalm.data.index import Index, make_data_index, make_token_index, open_index
from audiopalm.data.indexed import IndexedSet
from audiopalm.languages import in_order
from audiopalm.tasks import AUDIO_FIELDS

DATA_STAGE = "stages 1 and 2 (data, audio)"
TEXTS_BY = "audiopalm.bin.prepare_texts"
# required in meta.json of stage 5
UNITS_META: dict[str, type] = {"units_rate": Real, "units_size": int, "units_sha256": str}


class ExampleSet:
    """All utterances of a data directory, as rows of its index.

    tokens: the folder of stage 5, or None for text-only training. text_dir: a data directory of parallel texts without
    audio (egs/joint), whose utterances are added. distorted: (data directory, tokens) of distorted copies, whose
    utterances are added too; their own speech is only an input, never an output. The rows are in the order data_dir,
    distorted, text_dir. `languages` lists the codes of all sources and targets.

    saved: use the index files beside the tables, as trainings do, and write those that are missing. Otherwise the index
    is made in memory, which takes a second for 100,000 utterances.

    Raises AudioPaLMError for missing files, for tokens of different units, for an id that two directories have, and for
    an index file that is older than its tables.
    """

    def __init__(self, data_dir: str | Path, tokens: str | Path | None = None, text_dir: str | Path | None = None,
                 distorted: Sequence[tuple[str | Path, str | Path]] = (), saved: bool = False):
        self.data_dir, self.tokens, self.text_dir, self.distorted = Path(data_dir), tokens, text_dir, distorted
        self.saved = saved
        self.meta: dict[str, Any] = {}
        directories = [(data_dir, tokens, DATA_STAGE), *((data, folder, DATA_STAGE) for data, folder in distorted),
                       *([(text_dir, None, TEXTS_BY)] if text_dir is not None else [])]
        self.parts = [self._part(Path(directory), folder, made_by, saved) for directory, folder, made_by in directories]
        self._begins = np.cumsum([0, *(part.rows for part in self.parts)])
        self._refuse_common_ids()
        self._speakable = self.parts[0].rows  # rows from here on are distorted or texts: their speech is no output
        if not any(part.has_text("text", np.arange(part.rows)).any() for part in self.parts):
            raise AudioPaLMError(f"{self.data_dir}/text is empty")
        self._rows: dict[tuple[frozenset[str], str, str | None, bool], np.ndarray] = {}

    def _part(self, directory: Path, folder: str | Path | None, made_by: str, saved: bool) -> IndexedSet:
        """One data directory with its token folder."""
        require(directory / "text", made_by)
        if folder is not None:
            meta = read_object(Path(folder) / "meta.json", "stage 5 (tokenize)", UNITS_META)
            if self.meta and meta["units_sha256"] != self.meta["units_sha256"]:
                raise AudioPaLMError(f"{folder} holds units of {meta['units_sha256']}, {self.tokens} those of "
                                     f"{self.meta['units_sha256']}; tokenize one of them again (stage 5)")
            self.meta = self.meta or meta
        if saved:
            return IndexedSet(*open_index(directory, folder, made_by))
        data: Index = make_data_index(directory, made_by)
        return IndexedSet(data, None if folder is None else make_token_index(Path(folder)))

    def _refuse_common_ids(self) -> None:
        for number, part in enumerate(self.parts):
            for other in self.parts[:number]:
                common = pc.index_in(part.data.ids, value_set=other.data.ids)
                if common.null_count < len(common):
                    name = part.data.ids.filter(common.is_valid())[0].as_py()
                    raise AudioPaLMError(f"{part.data.path.parent / 'text'} has the id {name!r}, which another data "
                                         "directory has too")

    @cached_property
    def languages(self) -> list[str]:
        """The codes of all source and target languages, in the order of audiopalm/languages.py."""
        sources = {code for part in self.parts for code in part.data.languages}
        tables = [name for part in self.parts for index in (part.data, part.tokens) if index for name in index.tables()]
        return in_order(sources | {name.partition(".")[2] for name in tables if "." in name})

    def hashes(self) -> dict[str, Any]:
        """Hashes of the texts, languages, speakers and tokens of all directories; the folders of archives do not count.
        """
        hashes = [{"data": part.data.meta["hash"], "tokens": part.tokens.meta["hash"] if part.tokens else None}
                  for part in self.parts]
        distorted = hashes[1:1 + len(self.distorted)]
        return hashes[0] | {"texts": hashes[-1]["data"] if self.text_dir is not None else None} | {
            f"distorted {number}": values for number, values in enumerate(distorted, start=1)}

    def texts(self) -> Iterator[tuple[str, str]]:
        """(language, transcript) of every row that has a transcript."""
        for part in self.parts:
            for row in np.flatnonzero(part.has_text("text", np.arange(part.rows))):
                yield part.data.languages[part.data.codes("language")[row]], part.text("text", int(row))

    @property
    def bytes_read(self) -> int:
        """The number of bytes of texts and tokens that this process has read."""
        return sum(part.bytes_read for part in self.parts)

    def rows(self, fields: Iterable[str], source: str, target: str | None, spoken: bool = False) -> np.ndarray:
        """The rows of the utterances in `source` that have all `fields` (names of audiopalm/tasks.py), int32, sorted.

        spoken: the utterances' own speech is an output, so distorted speech is left out.
        """
        key = (frozenset(fields), source, target, spoken)
        if key not in self._rows:
            rows = []
            for begin, part in zip(self._begins, self.parts, strict=False):
                if not (spoken and begin >= self._speakable):
                    rows.append(begin + self._rows_of_part(part, key[0], source, target))
            self._rows[key] = np.concatenate(rows).astype(np.int32) if rows else np.zeros(0, np.int32)
        return self._rows[key]

    def _rows_of_part(self, part: IndexedSet, fields: Iterable[str], source: str, target: str | None) -> np.ndarray:
        tables = [(self.table(field, target), field in AUDIO_FIELDS) for field in sorted(fields)]
        rows = part.rows_of_language(source)
        if len(rows) and all(part.has_table(table) for table, _ in tables):
            for table, is_audio in tables:
                rows = rows[part.counts(table, rows) >= 0 if is_audio else part.has_text(table, rows)]
            return rows
        return rows[:0]

    @staticmethod
    def table(field: str, target: str | None) -> str:
        """The table that holds a field: `text`, `units`, or with the target language `text.en`, `units.en`."""
        name = "units" if field in AUDIO_FIELDS else "text"
        return name if field in ("audio", "transcript") else f"{name}.{target}"

    def select(self, rows: np.ndarray, speakers: Sequence[str] = (), corpora: Sequence[str] = ()) -> np.ndarray:
        """The `rows` whose speaker is among `speakers` and whose id begins with `<corpus>-` for one of the `corpora`;
        an empty list allows all."""
        if not speakers and not corpora:
            return rows
        chosen = []
        for begin, part, local in self.split(rows):
            keep = np.ones(len(local), dtype=bool)
            if speakers:
                names = part.data.names("speaker")
                wanted = pc.is_in(names, value_set=pa.array(speakers, names.type)).to_numpy(zero_copy_only=False)
                keep &= wanted[part.data.codes("speaker")[local]]
            if corpora:
                ids = part.data.ids.take(pa.array(local))
                corpus = pc.list_element(pc.split_pattern(ids, "-", max_splits=1), 0)
                keep &= pc.is_in(corpus, value_set=pa.array(corpora, ids.type)).to_numpy(zero_copy_only=False)
            chosen.append(begin + local[keep])
        return np.concatenate(chosen).astype(np.int32) if chosen else rows

    def split(self, rows: np.ndarray) -> list[tuple[int, IndexedSet, np.ndarray]]:
        """Sorted rows by directory: (number of its first row, the directory, rows counted from that row)."""
        cuts = np.searchsorted(rows, self._begins)
        return [(int(begin), part, rows[first:last] - begin)
                for begin, part, first, last in zip(self._begins, self.parts, cuts, cuts[1:], strict=False)
                if last > first]

    def utterances(self, fields: Iterable[str], source: str, target: str | None, spoken: bool = False) -> list[str]:
        """The ids of the rows that `rows` returns."""
        return self.ids(self.rows(fields, source, target, spoken))

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids of sorted rows."""
        return [name for _, part, local in self.split(rows) for name in part.data.ids.take(pa.array(local)).to_pylist()]

    def place(self, row: int) -> tuple[IndexedSet, int]:
        """The directory of a row, and the row counted from the directory's first row."""
        number = int(np.searchsorted(self._begins, row, side="right")) - 1
        return self.parts[number], int(row) - int(self._begins[number])

    def find(self, utterance: str) -> int:
        """The row of an id; raises AudioPaLMError where no directory has it."""
        for begin, part in zip(self._begins, self.parts, strict=False):
            if (row := part.row(utterance)) >= 0:
                return int(begin) + row
        raise AudioPaLMError(f"{self.data_dir} has no utterance {utterance!r}")

    def count_units(self, row: int) -> int:
        """The length of an utterance's own speech in units."""
        part, local = self.place(row)
        return int(part.counts("units", np.array([local]))[0])

    def id(self, row: int) -> str:
        """The id of a row."""
        part, local = self.place(row)
        return part.id(local)

    def language(self, row: int) -> str:
        """The code of the language that a row is spoken in."""
        part, local = self.place(row)
        return part.data.languages[int(part.data.codes("language")[local])]

    def example(self, utterance: str, fields: Iterable[str], target: str | None) -> Example:
        """An utterance with the given fields; no other field is read. Raises AudioPaLMError for an unknown id."""
        return self.example_at(self.find(utterance), fields, target)

    def example_at(self, row: int, fields: Iterable[str], target: str | None) -> Example:
        """As `example`, by row."""
        part, local = self.place(row)
        values = {field: part.values(self.table(field, target), local, self.meta["units_size"])
                  if field in AUDIO_FIELDS else part.text(self.table(field, target), local) for field in fields}
        return Example(part.id(local), self.language(row), target, values)


def read_set(data_dir: str | Path, tokens: str | Path) -> ExampleSet:
    """The utterances of a set with their tokens of stage 5. A set with neither tokens nor wav.scp has texts only."""
    spoken = Path(tokens).exists() or (Path(data_dir) / "wav.scp").exists()
    return ExampleSet(data_dir, tokens if spoken else None)
