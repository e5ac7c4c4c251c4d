"""Tables of a million rows as columns of Arrow: read in C++, kept without an object for each cell.

Arrow reads plain rows as `tables` does. It ends a row at a lone carriage return too, loses a byte order mark at the
start of any block and stops at a row of another width; so a block of lines with one of these, or with bytes that are
not UTF-8, is cut by `tables`, which counts and names what does not fit.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute, csv

from audiopalm.corpora.tables import Account, Layout, fitting_rows, open_table, read_header

BLOCK = 1 << 22  # bytes read at once, and then to the end of a line; much less makes Arrow slow
VALUES = 10_000  # of a column that are Python's at once
PLAIN = csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False, escape_char=False)
# Arrow's own pool gives the pages of a block back and takes them again, and keeps what Python could use.
pyarrow.set_memory_pool(pyarrow.system_memory_pool())


def read_columns(path: str | Path, columns: Sequence[str], bad: Account,
                 recurring: Sequence[str] = ()) -> list[pyarrow.Array]:
    """The `columns`, two or more, of a table separated by tabs, gzipped or not, with all rows in file order.

    Those whose values recur are dictionary arrays, the others string arrays. Rows of another width and rows that are
    not UTF-8 go to `bad`, named file:line. Raises AudioPaLMError when the file is missing, is no table or lacks a
    column.
    """
    kinds = [pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) if column in recurring else pyarrow.string()
             for column in columns]
    pieces: list[list[pyarrow.Array]] = [[pyarrow.array([], kind)] for kind in kinds]
    number = 2
    with open_table(path) as stream:
        layout = read_header(stream, path, columns)
        while block := stream.read(BLOCK) + stream.readline():
            found = _plain(block, layout, kinds) or _careful(block, number, layout, kinds, bad)
            for column, piece in zip(pieces, found, strict=True):
                column.append(piece)
            number += block.count(b"\n")
    # One after the other, so that only one column is there twice.
    return [pyarrow.concat_arrays(pieces.pop(0)) for _ in columns]


def _plain(block: bytes, layout: Layout, kinds: list[pyarrow.DataType]) -> list[pyarrow.Array] | None:
    """The wanted columns of whole lines, or None where one of them is not plain."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\r" in block or block.startswith(BOM_UTF8) or not (block.isascii() or _is_utf8(block)):
        return None
    names = [str(place) for place in range(layout.width)]
    wanted = layout.wanted(names)
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(block), parse_options=PLAIN,
            read_options=csv.ReadOptions(column_names=names, block_size=len(block) + 1),
            convert_options=csv.ConvertOptions(include_columns=wanted, check_utf8=False,
                                               column_types=dict(zip(wanted, kinds, strict=True))))
    except pyarrow.ArrowInvalid:
        return None
    return [column.combine_chunks() for column in table.columns]


def _careful(block: bytes, number: int, layout: Layout, kinds: list[pyarrow.DataType],
             bad: Account) -> list[pyarrow.Array]:
    lines = block.decode("utf-8", "surrogateescape").split("\n")
    rows = list(fitting_rows(lines, number, layout, bad))
    return [pyarrow.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def places(wanted: pyarrow.Array, column: pyarrow.Array) -> np.ndarray:
    """For each of the `wanted` values the place of the first such value in `column`, -1 where there is none."""
    return compute.index_in(wanted, value_set=column).fill_null(-1).to_numpy(zero_copy_only=False).copy()


def values(column: pyarrow.Array) -> Iterator[str | None]:
    """The values of a column in order, of which few exist at a time."""
    for start in range(0, len(column), VALUES):
        yield from column[start:start + VALUES].to_pylist()
