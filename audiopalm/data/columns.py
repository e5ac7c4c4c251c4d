"""Kaldi tables as columns: the ids, and the position of each value in the file. No line becomes a Python object."""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data.datadir import read_table

SPACE, TAB, LINE_FEED, CARRIAGE_RETURN = b" \t\n\r"
BLOCK = 1 << 18  # bytes that are read at once, and then to the end of a line
NAMES = 10_000  # ids that are Python objects at once

# A function from the ids and the values of some lines, without spaces around the values, to columns of as many rows.
Converter = Callable[[pa.LargeStringArray, pa.LargeStringArray], Sequence[pa.Array]]


@dataclass
class Columns:
    """A table sorted by id in byte order.

    ids: N strings. offset (int64 `[N]`) and size (int32 `[N]`, in bytes): the position of each value in the file.
    Spaces around a value are not removed. converted: columns of N rows that were made of the values.
    """

    ids: pa.LargeStringArray
    offset: np.ndarray
    size: np.ndarray
    converted: list[pa.Array]

    def at(self, ids: pa.LargeStringArray) -> np.ndarray | None:
        """The row of each of `ids` in this table, int64 `[len(ids)]`, -1 for an id that the table lacks; None where the
        table has the same ids."""
        if self.ids.equals(ids):
            return None
        return pc.fill_null(pc.index_in(ids, value_set=self.ids), -1).to_numpy(zero_copy_only=False).astype(np.int64)


class TableFile(Mapping[str, str]):
    """The table in `path` as a mapping of ids to values that stay in the file; an id takes its length and 20 bytes.

    Its order is that of the bytes of the ids. Raises AudioPaLMError as `read_table` does.
    """

    def __init__(self, path: str | Path, made_by: str = ""):
        self.columns = read_columns(path, made_by)
        self._stream = open(path, "rb")

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


def read_columns(path: str | Path, made_by: str = "", convert: Converter | None = None) -> Columns:
    """The table in `path`, and the columns that `convert` makes of its values; raises AudioPaLMError as `read_table`
    does.

    The file is read once, a block of lines at a time, so that neither it nor its values are in memory as a whole.
    """
    none = pa.array([], pa.large_string())
    empty = [none, pa.array([], pa.int64()), pa.array([], pa.int32()), *(convert(none, none) if convert else ())]
    pieces = [[column] for column in empty]
    try:
        for block in _blocks(require(path, made_by), convert):
            for column, piece in zip(pieces, block, strict=True):
                column.append(piece)
    except UnicodeDecodeError:
        read_table(path, made_by)  # states the line
        raise AudioPaLMError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise AudioPaLMError(f"{path} cannot be read: {error.strerror}") from None
    # One column after the other, so that only one is in memory twice. Arrow's own memory pool would keep freed pages.
    ids, *others = (pa.concat_arrays(pieces.pop(0), memory_pool=pa.system_memory_pool()) for _ in empty)
    if len(ids) > 1 and not pc.all(pc.less(ids[:-1], ids[1:])).as_py():
        order = pc.sort_indices(ids)
        ids, *others = (column.take(order) for column in (ids, *others))
        if pc.any(pc.equal(ids[:-1], ids[1:])).as_py():
            read_table(path, made_by)  # names the id that appears twice
    return Columns(ids, others[0].to_numpy(), others[1].to_numpy(), others[2:])


def _blocks(path: Path, convert: Converter | None) -> Iterator[list[pa.Array]]:
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
            yield [ids, pa.array(begin + offset), pa.array((ends - offset).astype(np.int32)),
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
    """The pieces of `content`, uint8, from `begins` to `ends` as an Arrow array."""
    sizes = ends - begins
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], sizes)
    return pa.LargeStringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(content[places]))
