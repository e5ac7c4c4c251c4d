"""Tables as corpora publish them: one row a line, no quoting, no escapes; rows that are left out are counted and named.

Readers that know quotes (csv, pandas by default) join all rows after a cell that begins with an unbalanced quote, and
`str.splitlines` cuts at U+2028 and U+0085, which stand in these texts.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from audiopalm.data.files import require
from audiopalm.errors import AudioPaLMError


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


def read_rows(path: str | Path, columns: Sequence[str], bad: Account, separator: str = "\t",
              header: Sequence[str] | None = None) -> Iterator[tuple[str, ...]]:
    """The wanted `columns`, two or more, of every row of a table, gzipped or not, in file order.

    `header` names the columns of a table that has no header row. Rows of another width and rows that are not UTF-8 go
    to `bad`, named file:line. Raises AudioPaLMError when the file is missing, is no table or lacks a column.

    >>> list(read_rows("validated.tsv", ["path", "sentence"], bad))
    [("common_voice_fr_17300399.mp3", "Bonjour.")]
    """
    path = require(path)
    opened = gzip.open if path.suffix == ".gz" else open
    names = None if header is None else list(header)
    wanted = None if header is None else itemgetter(*_places(path, names, columns))
    try:
        with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                cells = line.rstrip("\r\n").split(separator)
                if names is None:
                    names, wanted = cells, itemgetter(*_places(path, cells, columns))
                elif len(cells) == len(names) and (line.isascii() or _is_utf8(line)):
                    yield wanted(cells)
                elif cells != [""]:
                    bad.rows += 1
                    bad.drop(f"{path.name}:{number}", _problem(cells, names))
    except (EOFError, zlib.error, OSError) as error:
        raise AudioPaLMError(f"{path} is damaged or cut off ({error}); fetch it again") from None
    if names is None:
        raise AudioPaLMError(f"{path} is empty; fetch it again")


def _problem(cells: list[str], names: list[str]) -> str:
    if len(cells) == len(names):
        return "not UTF-8"
    return f"{len(cells)} columns instead of {len(names)}" if len(cells) < 1000 else "not a table row"


def _places(path: Path, names: list[str], columns: Sequence[str]) -> list[int]:
    missing = [column for column in columns if column not in names]
    if missing:
        raise AudioPaLMError(f"{path} has no column {missing[0]!r}; its first row is {' '.join(names)[:200]!r}")
    return [names.index(column) for column in columns]


def _is_utf8(line: str) -> bool:
    """Bytes that are not UTF-8 were read as lone surrogates."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
