"""Kaldi tables as columns: the ids, and the position of each value in the file. No line becomes a Python object."""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data.datadir import read_table

SPACE, TAB, LINE_FEED, CARRIAGE_RETURN = b" \t\n\r"
BLOCK = 1 << 18  # bytes that are read at once, and then to the end of a line
NAMES = 10_000  # ids that are Python objects at once

Column = Any  # numbers as np.ndarray, or strings as pa.LargeStringArray
# A function from the ids and the values of some lines, without spaces around the values, to columns of as many rows.
Converter = Callable[[pa.LargeStringArray, pa.LargeStringArray], Sequence[Column]]


@dataclass
class Columns:
    """A table sorted by id in byte order.

    ids: N strings. offset (int64 `[N]`) and size (int32 `[N]`, in bytes): the position of each value in the file.
    Spaces around a value are not removed. converted: columns of N rows that were made of the values.
    """

    ids: pa.LargeStringArray
    offset: np.ndarray
    size: np.ndarray
    converted: list[Column]

    def at(self, ids: pa.LargeStringArray) -> np.ndarray | None:
        """The row of each of `ids` in this table, int64 `[len(ids)]`, -1 for an id that the table lacks; None where the
        table has the same ids."""
        if self.ids.equals(ids):
            return None
        return pc.fill_null(pc.index_in(ids, value_set=self.ids), -1).to_numpy(zero_copy_only=False).astype(np.int64)


class TableFile(Mapping[str, str]):
    """The table in `path` as a mapping of ids to values that stay in the file; an id takes its length and 20 bytes.

    Its order is that of the bytes of the ids. `ids` as for `read_columns`. Raises AudioPaLMError as `read_table` does.
    """

    def __init__(self, path: str | Path, made_by: str = "", ids: pa.LargeStringArray | None = None):
        self.columns = read_columns(path, made_by, ids=ids)
        self._stream = open(path, "rb")

    def other_ids(self, other: "TableFile") -> list[str]:
        """The ids that only one of the two tables has, sorted."""
        return [] if self.columns.ids.equals(other.columns.ids) else sorted(set(self) ^ set(other))

    def __len__(self) -> int:
        return len(self.columns.ids)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), NAMES):
            yield from self.columns.ids[start:start + NAMES].to_pylist()

    def __getitem__(self, name: str) -> str:
        row = find_row(self.columns.ids, name)
        if row < 0:
            raise KeyError(name)
        size, offset = int(self.columns.size[row]), int(self.columns.offset[row])
        return os.pread(self._stream.fileno(), size, offset).decode().strip()


def find_row(ids: pa.LargeStringArray, name: str) -> int:
    """The row of `name` in `ids`, which are sorted in byte order, by binary search; -1 for an unknown name."""
    row = bisect_left(range(len(ids)), name.encode(), key=lambda place: ids[place].as_py().encode())
    return row if row < len(ids) and ids[row].as_py() == name else -1


def read_columns(path: str | Path, made_by: str = "", convert: Converter | None = None,
                 ids: pa.LargeStringArray | None = None) -> Columns:
    """The table in `path`, and the columns that `convert` makes of its values; raises AudioPaLMError as `read_table`
    does.

    The file is read once, a block of lines at a time, so that neither it nor its values are in memory as a whole. `ids`
    are those of another table; a table that has the same ids in the same order shares their memory.
    """
    none = pa.array([], pa.large_string())
    first = [np.zeros(0, np.int64), np.zeros(0, np.int32), *(convert(none, none) if convert else ())]
    columns: list[_Shared | _Growing] = [_Shared(ids), *map(_Growing, first)]
    try:
        for block in _blocks(require(path, made_by), convert):
            for growing, piece in zip(columns, block, strict=True):
                growing.append(piece)
    except UnicodeDecodeError:
        read_table(path, made_by)  # states the line
        raise AudioPaLMError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise AudioPaLMError(f"{path} cannot be read: {error.strerror}") from None
    found, *others = (growing.column() for growing in columns)
    if len(found) > 1 and not pc.all(pc.less(found[:-1], found[1:])).as_py():
        order = pc.sort_indices(found)
        found, *others = (column.take(order) for column in (found, *others))
        if pc.any(pc.equal(found[:-1], found[1:])).as_py():
            read_table(path, made_by)  # names the id that appears twice
    return Columns(found, others[0], others[1], others[2:])


class _Growing:
    """A column that grows by blocks, in one piece of memory: many small pieces would leave holes between them.

    `first` is an array of its type.
    """

    def __init__(self, first: Column):
        self.dtype = np.dtype(np.int64) if isinstance(first, pa.LargeStringArray) else first.dtype
        self.numbers = bytearray()  # of strings: the end of each string
        self.strings = bytearray() if isinstance(first, pa.LargeStringArray) else None

    def append(self, piece: Column) -> None:
        if self.strings is None or isinstance(piece, np.ndarray):
            self.numbers += piece.data
        elif len(piece):
            _, ends, content = piece.buffers()
            offsets = np.frombuffer(ends, np.int64)[:len(piece) + 1]
            self.numbers += (offsets[1:] + len(self.strings)).data
            self.strings += memoryview(content)[:offsets[-1]] if content else b""

    def column(self) -> Column:
        if self.strings is None:
            return np.frombuffer(self.numbers, self.dtype)
        self.numbers[:0] = bytes(self.dtype.itemsize)  # the first string begins at 0
        count = len(self.numbers) // self.dtype.itemsize - 1
        return pa.LargeStringArray.from_buffers(count, pa.py_buffer(self.numbers), pa.py_buffer(self.strings))


class _Shared:
    """A column of ids that takes memory of its own from the first block that differs from `known`."""

    def __init__(self, known: pa.LargeStringArray | None):
        self.own = _Growing(pa.array([], pa.large_string()))
        self.known, self.rows = known, 0  # the number of rows that are equal so far

    def append(self, piece: pa.LargeStringArray) -> None:
        if self.known is not None and piece.equals(self.known.slice(self.rows, len(piece))):
            self.rows += len(piece)
            return
        self._leave()
        self.own.append(piece)

    def _leave(self) -> None:
        if self.known is not None:
            self.own.append(self.known.slice(0, self.rows))
        self.known = None

    def column(self) -> pa.LargeStringArray:
        if self.known is not None and self.rows == len(self.known):
            return self.known
        self._leave()
        return self.own.column()


def _blocks(path: Path, convert: Converter | None) -> Iterator[list[Column]]:
    """Ids, offset, size and the converted columns of each block of lines, in file order."""
    begin = 0
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK) + stream.readline():
            if not block.isascii():
                block.decode()
            content = np.frombuffer(block, np.uint8)
            starts, ends = _lines(content)
            spaces = np.append(np.flatnonzero((content == SPACE) | (content == TAB)), len(content))
            middles = np.minimum(spaces[np.searchsorted(spaces, starts)], ends)
            offset = np.minimum(middles + 1, ends)
            ids = _strings(content, starts, middles)
            yield [ids, begin + offset, (ends - offset).astype(np.int32),
                   *(convert(ids, pc.utf8_trim_whitespace(_strings(content, offset, ends))) if convert else ())]
            begin += len(block)


def _lines(content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the start and the end of each line that is not blank."""
    ends = np.flatnonzero((content == LINE_FEED) | (content == CARRIAGE_RETURN))
    if not len(ends) or ends[-1] != len(content) - 1:
        ends = np.append(ends, len(content))
    starts = np.concatenate([[0], ends[:-1] + 1])
    kept = ends > starts
    starts, ends = starts[kept], ends[kept]
    first = content[starts]
    blank = [index for index in np.flatnonzero((first == SPACE) | (first == TAB))
             if not content[starts[index]:ends[index]].tobytes().strip(b" \t")]
    return np.delete(starts, blank), np.delete(ends, blank)


def _strings(content: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> pa.LargeStringArray:
    """The pieces of `content`, uint8, from `begins` to `ends` as an Arrow array. Pieces follow each other."""
    # A mask takes 2 bytes of memory for each byte of the content; indices would take 24.
    steps = np.zeros(len(content) + 1, dtype=np.int8)
    steps[begins] += 1
    steps[ends] -= 1
    inside = np.cumsum(steps[:-1], dtype=np.int8).view(bool)
    offsets = np.concatenate([[0], np.cumsum(ends - begins)]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(begins), pa.py_buffer(offsets), pa.py_buffer(content[inside]))
