"""Kaldi tables as columns: the ids, and the position of each value in the file. No line becomes a Python object."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data.datadir import read_table

SPACE, TAB, LINE_FEED, CARRIAGE_RETURN = b" \t\n\r"
BLOCK = 2 ** 26  # bytes that are decoded or searched at a time
GATHER = 10_000  # strings that are copied at a time


@dataclass
class Columns:
    """A table sorted by id in byte order.

    ids: N strings. offset (int64 `[N]`) and size (int32 `[N]`, in bytes): the position of each value in `content`, the
    bytes of the file. Spaces around a value are not removed.
    """

    ids: pa.LargeStringArray
    offset: np.ndarray
    size: np.ndarray
    content: np.ndarray

    def values(self) -> pa.LargeStringArray:
        """The values as strings, without spaces around them."""
        return pc.utf8_trim_whitespace(_strings(self.content, self.offset, self.size))

    def at(self, ids: pa.LargeStringArray) -> np.ndarray:
        """The row of each of `ids` in this table, int64 `[len(ids)]`; -1 for an id that the table lacks."""
        if self.ids.equals(ids):
            return np.arange(len(ids))
        return pc.fill_null(pc.index_in(ids, value_set=self.ids), -1).to_numpy(zero_copy_only=False).astype(np.int64)


def read_columns(path: str | Path, made_by: str = "") -> Columns:
    """The table in `path`; raises AudioPaLMError as `read_table` does."""
    require(path, made_by)
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r") if Path(path).stat().st_size else np.zeros(0, np.uint8)
    except OSError as error:
        raise AudioPaLMError(f"{path} cannot be read: {error.strerror}") from None
    try:
        _check_utf8(content)
        starts, ends = _lines(content)
        middles = np.minimum(_next(content, starts, lambda block: (block == SPACE) | (block == TAB)), ends)
        ids = _strings(content, starts, middles - starts)
    except UnicodeDecodeError:
        read_table(path, made_by)  # states the line
        raise AudioPaLMError(f"{path} is not UTF-8") from None
    offset = np.minimum(middles + 1, ends)
    columns = Columns(ids, offset, (ends - offset).astype(np.int32), content)
    if len(ids) > 1 and not pc.all(pc.less(ids[:-1], ids[1:])).as_py():
        order = pc.sort_indices(ids).to_numpy()
        columns = Columns(ids.take(pa.array(order)), offset[order], columns.size[order], content)
        if pc.any(pc.equal(columns.ids[:-1], columns.ids[1:])).as_py():
            read_table(path, made_by)  # names the id that appears twice
    return columns


def _check_utf8(content: np.ndarray) -> None:
    begin = 0
    while begin < len(content):
        end = min(begin + BLOCK, len(content))
        while end < len(content) and content[end] & 0xC0 == 0x80:  # a block does not end within a character
            end += 1
        content[begin:end].tobytes().decode()
        begin = end


def _lines(content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the start and the end of each line that is not blank."""
    ends = _find(content, lambda block: (block == LINE_FEED) | (block == CARRIAGE_RETURN))
    if len(content) and (not len(ends) or ends[-1] != len(content) - 1):
        ends = np.append(ends, len(content))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else ends
    kept = ends > starts
    starts, ends = starts[kept], ends[kept]
    first = content[starts]
    blank = [index for index in np.flatnonzero((first == SPACE) | (first == TAB))
             if not content[starts[index]:ends[index]].tobytes().strip(b" \t")]
    return np.delete(starts, blank), np.delete(ends, blank)


def _find(content: np.ndarray, match: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The sorted positions of matching bytes, int64."""
    positions = [begin + np.flatnonzero(match(content[begin:begin + BLOCK]))
                 for begin in range(0, len(content), BLOCK)]
    return np.concatenate([np.zeros(0, np.int64), *positions])


def _next(content: np.ndarray, starts: np.ndarray, match: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The position of the first matching byte from each of the sorted `starts` on; the length of `content` for none.

    A text has many spaces, and only the first of a line is needed: the content is searched block by block, so that the
    positions of all spaces are never in memory at once.
    """
    first_match = np.full(len(starts), len(content), dtype=np.int64)
    done = 0
    for begin in range(0, len(content), BLOCK):
        places = begin + np.flatnonzero(match(content[begin:begin + BLOCK]))
        if len(places):
            last = np.searchsorted(starts, places[-1], side="right")
            first_match[done:last] = places[np.searchsorted(places, starts[done:last])]
            done = last
    return first_match


def _strings(content: np.ndarray, offset: np.ndarray, size: np.ndarray) -> pa.LargeStringArray:
    """The pieces of `content` as an Arrow array."""
    ends = np.cumsum(size, dtype=np.int64)
    data = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    for begin in range(0, len(offset), GATHER):
        sizes = size[begin:begin + GATHER].astype(np.int64)
        first = int(ends[begin] - size[begin])
        places = np.arange(first, first + int(sizes.sum()))
        places += np.repeat(offset[begin:begin + GATHER] - (ends[begin:begin + GATHER] - sizes), sizes)
        data[first:first + len(places)] = content[places]
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(offset), pa.py_buffer(offsets), pa.py_buffer(data))
