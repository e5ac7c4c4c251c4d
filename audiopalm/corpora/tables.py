"""Tables as corpora publish them: one row a line, no quoting, no escapes; rows that are left out are counted and named.

Readers that know quotes (csv, pandas by default) join all rows after a cell that begins with an unbalanced quote, and
`str.splitlines` cuts at U+2028 and U+0085, which stand in these texts.
"""

import gzip
import io
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require


@dataclass
class Account:
    """What became of the rows of one set."""

    rows: int = 0
    dropped: list[tuple[str, str]] = field(default_factory=list)  # (id or file:line, reason)
    lacking: list[tuple[str, str]] = field(default_factory=list)  # (id, what it was kept without)

    def drop(self, name: str, reason: str) -> None:
        self.dropped.append((name, reason))

    def lack(self, name: str, what: str) -> None:
        self.lacking.append((name, what))

    @property
    def reasons(self) -> dict[str, int]:
        """{reason: rows}, the most frequent first."""
        return counts(self.dropped)

    @property
    def share(self) -> float:
        """Dropped rows to rows read, 0 to 1."""
        return len(self.dropped) / max(self.rows, 1)


def counts(named: list[tuple[str, str]]) -> dict[str, int]:
    """{reason: how many} of (id, reason), the most frequent first."""
    return dict(Counter(reason for _, reason in named).most_common())


@dataclass(frozen=True)
class Layout:
    """How the rows of a table are cut: the `width` of a row, and `wanted`, which takes its wanted cells."""

    file: str
    width: int
    wanted: Callable[[list[str]], tuple[str, ...]]
    separator: str = "\t"


def read_rows(path: str | Path, columns: Sequence[str], bad: Account, separator: str = "\t",
              header: Sequence[str] | None = None) -> Iterator[tuple[str, ...]]:
    """The wanted `columns`, two or more, of every row of a table, gzipped or not, in file order.

    `header` names the columns of a table that has no header row. Rows of another width and rows that are not UTF-8 go
    to `bad`, named file:line. Raises AudioPaLMError when the file is missing, is no table or lacks a column.

    >>> list(read_rows("validated.tsv", ["path", "sentence"], bad))
    [("common_voice_fr_17300399.mp3", "Bonjour.")]
    """
    with open_table(path) as stream:
        if header is None:
            layout, number = read_header(stream, path, columns, separator), 2
        else:
            layout, number = _layout(path, list(header), columns, separator), 1
        lines = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="\n")
        yield from fitting_rows(lines, number, layout, bad)


@contextmanager
def open_table(path: str | Path) -> Iterator[BinaryIO]:
    """The bytes of a table behind its byte order mark, unzipped. Raises AudioPaLMError when it cannot be read."""
    path = require(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            start = stream.peek(len(BOM_UTF8))
            if not start:
                raise AudioPaLMError(f"{path} is empty; fetch it again")
            if start.startswith(BOM_UTF8):
                stream.read(len(BOM_UTF8))
            yield stream
    except (EOFError, zlib.error, OSError) as error:
        raise AudioPaLMError(f"{path} is damaged or cut off ({error}); fetch it again") from None


def read_header(stream: BinaryIO, path: str | Path, columns: Sequence[str], separator: str = "\t") -> Layout:
    """Take the header row from `stream`. Raises AudioPaLMError when a column is not in it."""
    line = stream.readline().decode("utf-8", "surrogateescape")
    return _layout(path, line.rstrip("\r\n").split(separator), columns, separator)


def _layout(path: str | Path, names: list[str], columns: Sequence[str], separator: str) -> Layout:
    missing = [column for column in columns if column not in names]
    if missing:
        raise AudioPaLMError(f"{path} has no column {missing[0]!r}; its first row is {' '.join(names)[:200]!r}")
    return Layout(Path(path).name, len(names), itemgetter(*map(names.index, columns)), separator)


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
    if len(cells) == width:
        return "not UTF-8"
    return f"row of {len(cells)} columns instead of {width}" if len(cells) < 1000 else "not a table row"


def _is_utf8(line: str) -> bool:
    """Bytes that are not UTF-8 were read as lone surrogates."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
