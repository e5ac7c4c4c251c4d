"""Tables as corpora publish them: one row a line, no quoting, no escapes; rows that do not fit are counted and named.

Tables of a million rows are read as columns of Arrow, which make no Python object for each cell. Readers that know
quotes (csv, pandas by default) join all rows after a cell that begins with an unbalanced quote, and `str.splitlines`
cuts at U+2028 and U+0085, which occur in these texts. Arrow, too, ends a row at a lone carriage return, removes a byte
order mark at the start of any block, and stops at a row with another number of cells. A block of lines with one of
these, or with bytes that are not UTF-8, is therefore cut in Python.
"""

import gzip
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute, csv

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require

BLOCK = 1 << 22  # bytes read at once, and then to the end of a line; much smaller blocks make Arrow slow
VALUES = 10_000  # values of a column that are Python objects at once


@dataclass
class Account:
    """What became of the rows of one set."""

    rows: int = 0
    dropped: list[tuple[str, str]] = field(default_factory=list)  # (id or file:line, reason)
    lacking: list[tuple[str, str]] = field(default_factory=list)  # (id, what the utterance lacks)
    parts: list[tuple[str, int, int]] = field(default_factory=list)  # (language, rows and dropped rows before it)

    def begin(self, language: str) -> None:
        """Note that the rows from here on are of another language."""
        self.parts.append((language, self.rows, len(self.dropped)))

    def drop(self, name: str, reason: str) -> None:
        """Note that a row is left out."""
        self.dropped.append((name, reason))

    def lack(self, name: str, what: str) -> None:
        """Note that an utterance lacks something."""
        self.lacking.append((name, what))

    @property
    def reasons(self) -> dict[str, int]:
        """{reason: number of dropped rows}, the most frequent first."""
        return counts(self.dropped)

    @property
    def share(self) -> float:
        """Dropped rows divided by rows read, 0 to 1."""
        return len(self.dropped) / max(self.rows, 1)

    def by_language(self) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
        """Yield each language with the number of its rows and its dropped rows, as `begin` has divided them."""
        for (language, rows, dropped), (_, end, last) in pairwise([*self.parts, ("", self.rows, len(self.dropped))]):
            yield language, end - rows, self.dropped[dropped:last]


def counts(named: list[tuple[str, str]]) -> dict[str, int]:
    """[(id, reason)] -> {reason: number of ids}, the most frequent first."""
    return dict(Counter(reason for _, reason in named).most_common())


@dataclass(frozen=True)
class Layout:
    """The cells of a row: their number, `width`, and `wanted`, which takes the wanted cells from all."""

    file: str
    width: int
    wanted: Callable[[list[str]], tuple[str, ...]]
    separator: str


def read_columns(path: str | Path, columns: Sequence[str], bad: Account, separator: str = "\t",
                 header: Sequence[str] | None = None, recurring: Sequence[str] = ()) -> list[pyarrow.Array]:
    """The wanted `columns`, two or more, of a table, gzipped or not, with all rows in file order.

    `header` names the columns of a table without a header row. Columns named in `recurring`, whose values recur, are
    dictionary arrays; the others are string arrays. Rows with another number of cells and rows that are not UTF-8 go to
    `bad`, named file:line. Raises AudioPaLMError when the file is missing, is no table or lacks a column.
    """
    kinds = [pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) if column in recurring else pyarrow.string()
             for column in columns]
    pieces: list[list[pyarrow.Array]] = [[pyarrow.array([], kind)] for kind in kinds]
    with open_table(path) as stream:
        number = 1 if header else 2
        names = list(header) if header else _decoded(stream.readline()).rstrip("\r\n").split(separator)
        layout = _layout(path, names, columns, separator)
        while block := stream.read(BLOCK) + stream.readline():
            parts = _plain(block, layout, kinds) or _careful(block, number, layout, kinds, bad)
            for column, part in zip(pieces, parts, strict=True):
                column.append(part)
            number += block.count(b"\n")
    # One column after the other, so that only one is in memory twice.
    return [pyarrow.concat_arrays(pieces.pop(0)) for _ in columns]


def read_rows(path: str | Path, columns: Sequence[str], bad: Account, separator: str = "\t",
              header: Sequence[str] | None = None) -> Iterator[tuple[str, ...]]:
    """The rows of `read_columns`, with the same arguments and errors.

    >>> list(read_rows("validated.tsv", ["path", "sentence"], bad))
    [("common_voice_fr_17300399.mp3", "Bonjour.")]
    """
    yield from zip(*map(values, read_columns(path, columns, bad, separator, header)), strict=True)


@contextmanager
def open_table(path: str | Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """The bytes of a table after its byte order mark, decompressed. Raises AudioPaLMError for an unreadable file."""
    path = require(path)
    stream: BufferedReader | gzip.GzipFile
    try:
        stream = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
        with stream:
            start = stream.peek(len(BOM_UTF8))
            if not start:
                raise AudioPaLMError(f"{path} is empty; fetch it again")
            if start.startswith(BOM_UTF8):
                stream.read(len(BOM_UTF8))
            yield stream
    except (EOFError, zlib.error, OSError) as error:
        raise AudioPaLMError(f"{path} is damaged or cut off ({error}); fetch it again") from None


def _layout(path: str | Path, names: list[str], columns: Sequence[str], separator: str) -> Layout:
    """The layout of a table whose columns have these names. Raises AudioPaLMError where one of `columns` is missing."""
    missing = [column for column in columns if column not in names]
    if missing:
        raise AudioPaLMError(f"{path} has no column {missing[0]!r}; its first row is {' '.join(names)[:200]!r}")
    return Layout(Path(path).name, len(names), itemgetter(*map(names.index, columns)), separator)


def _plain(block: bytes, layout: Layout, kinds: list[pyarrow.DataType]) -> list[pyarrow.Array] | None:
    """The wanted columns of whole lines, cut by Arrow; None where a line must be cut in Python."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\r" in block or block.startswith(BOM_UTF8) or not (block.isascii() or _is_utf8(block)):
        return None
    names = [str(place) for place in range(layout.width)]
    wanted = layout.wanted(names)
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(block),
            parse_options=csv.ParseOptions(delimiter=layout.separator, quote_char=False, double_quote=False,
                                           escape_char=False),
            read_options=csv.ReadOptions(column_names=names, block_size=len(block) + 1),
            convert_options=csv.ConvertOptions(include_columns=wanted, check_utf8=False,
                                               column_types=dict(zip(wanted, kinds, strict=True))))
    except pyarrow.ArrowInvalid:
        return None
    return [column.combine_chunks() for column in table.columns]


def _careful(block: bytes, number: int, layout: Layout, kinds: list[pyarrow.DataType],
             bad: Account) -> list[pyarrow.Array]:
    """The wanted columns of whole lines, the first of which is line `number` of the file, cut in Python."""
    rows = list(fitting_rows(_decoded(block).split("\n"), number, layout, bad))
    return [pyarrow.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]


def fitting_rows(lines: Iterable[str], number: int, layout: Layout, bad: Account) -> Iterator[tuple[str, ...]]:
    """The wanted cells of each of the `lines`, the first of which is line `number` of the file; others go to `bad`.

    Bytes that are not UTF-8 are expected as lone surrogates.
    """
    for place, line in enumerate(lines, start=number):
        cells = line.rstrip("\r\n").split(layout.separator)
        if len(cells) == layout.width and (line.isascii() or _is_utf8(line)):
            yield layout.wanted(cells)
        elif cells != [""]:
            bad.rows += 1
            bad.drop(f"{layout.file}:{place}", _problem(cells, layout.width))


def _problem(cells: list[str], width: int) -> str:
    """The reason why a row does not fit."""
    if len(cells) == width:
        return "not UTF-8"
    return f"row of {len(cells)} columns instead of {width}" if len(cells) < 1000 else "not a table row"


def _decoded(content: bytes) -> str:
    """UTF-8 as text; other bytes become lone surrogates."""
    return content.decode("utf-8", "surrogateescape")


def _is_utf8(content: bytes | str) -> bool:
    """Whether bytes are UTF-8, or a text has no lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        content.decode() if isinstance(content, bytes) else content.encode()
    except UnicodeError:
        return False
    return True


def places(wanted: pyarrow.Array, column: pyarrow.Array) -> np.ndarray:
    """The index of the first equal value in `column` for each of the `wanted` values, int64; -1 where there is none."""
    return compute.index_in(wanted, value_set=column).fill_null(-1).to_numpy(zero_copy_only=False).copy()


def outside_memory(columns: Mapping[str, pyarrow.Array], folder: Path) -> list[pyarrow.Array]:
    """The columns, of equal length, in a nameless file on the disk of `folder` that is mapped into memory.

    The system can drop their pages, so that the texts of all languages need not fit into memory.
    """
    batch = pyarrow.record_batch(dict(columns))
    with atomic_path(folder / "columns.arrow", final=False) as temporary:
        with pyarrow.OSFile(str(temporary), "wb") as sink, pyarrow.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(temporary))).get_batch(0).columns


def values(column: pyarrow.Array) -> Iterator[str]:
    """The values of a column without nulls, in order; few exist as Python objects at a time."""
    for start in range(0, len(column), VALUES):
        yield from column[start:start + VALUES].to_pylist()


def optional_values(column: pyarrow.Array) -> Iterator[Any]:
    """As `values`, of a column of any type, whose nulls become None."""
    for start in range(0, len(column), VALUES):
        yield from column[start:start + VALUES].to_pylist()
