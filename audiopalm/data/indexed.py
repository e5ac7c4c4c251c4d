"""One data directory with its tokens, read through their indices: values by row; nothing stays in memory."""

import os
from collections import OrderedDict

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.archive import check_range, read_at
from audiopalm.data.columns import find_row
from audiopalm.data.index import Index

OPEN_ARCHIVES = 256  # the most that a process has open at once


class IndexedSet:
    """The texts and tokens of the rows of a data index. `bytes_read` counts the bytes that this process has read."""

    def __init__(self, data: Index, tokens: Index | None = None):
        self.data, self.tokens = data, tokens
        self.bytes_read = 0
        self._of_language: dict[str, np.ndarray] = {}
        self._texts: dict[str, int] = {}
        self._archives: OrderedDict[int, int] = OrderedDict()
        self._token_rows: np.ndarray | None = None  # the row of the tokens for each row of the data; None where equal
        if tokens is not None and not tokens.ids.equals(data.ids):
            self._token_rows = tokens.positions(data.ids).astype(np.int32)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.data.rows

    def id(self, row: int) -> str:
        """The id of a row."""
        return self.data.ids[int(row)].as_py()

    def row(self, utterance: str) -> int:
        """The row of an id, by binary search; -1 for an unknown id."""
        return find_row(self.data.ids, utterance)

    def rows_of_language(self, code: str) -> np.ndarray:
        """The rows in a language, int32, sorted."""
        if code not in self._of_language:
            known = self.data.languages
            number = known.index(code) if code in known else -1
            self._of_language[code] = np.flatnonzero(self.data.codes("language") == number).astype(np.int32)
        return self._of_language[code]

    def has_table(self, table: str) -> bool:
        """Whether any row has a text in `text.en`, or tokens in `units.en`, for example."""
        return self.data.has(f"{table}:offset") or self.tokens is not None and self.tokens.has(f"{table}:offset")

    def has_text(self, table: str, rows: np.ndarray) -> np.ndarray:
        """bool `[rows]`: whether the table `text` or `text.<language>` has these rows."""
        if not self.data.has(f"{table}:offset"):
            return np.zeros(len(rows), dtype=bool)
        return self.data.numbers(f"{table}:offset")[rows] >= 0

    def text(self, table: str, row: int) -> str:
        """The text of a row."""
        offset, size = (int(self.data.numbers(f"{table}:{key}")[row]) for key in ("offset", "size"))
        if table not in self._texts:
            self._texts[table] = os.open(self.data.path.parent / table, os.O_RDONLY | os.O_CLOEXEC)
        self.bytes_read += size
        return os.pread(self._texts[table], size, offset).decode("utf-8", "replace").strip()

    def counts(self, table: str, rows: np.ndarray) -> np.ndarray:
        """int32 `[rows]`: the number of values that `units`, `codec` or `units.<language>` have; -1 for no vector."""
        if self.tokens is None or not self.tokens.has(f"{table}:count"):
            return np.full(len(rows), -1, dtype=np.int32)
        column = self.tokens.numbers(f"{table}:count")
        if self._token_rows is None:
            return column[rows]
        places = self._token_rows[rows]
        return np.where(places < 0, np.int32(-1), column[places] if len(column) else np.int32(-1))

    def values(self, table: str, row: int, size: int | None = None) -> np.ndarray:
        """The tokens of a row, int32 `[count]`.

        Raises AudioPaLMError for a data set without tokens, for a damaged archive, and for a token that is not below
        `size`.
        """
        if self.tokens is None:
            raise AudioPaLMError(f"{self.data.path.parent} was opened without tokens; run stage 5 (tokenize) first")
        place = int(row if self._token_rows is None else self._token_rows[row])
        ark, offset, count = (int(self.tokens.numbers(f"{table}:{key}")[place]) for key in ("ark", "offset", "count"))
        where = f"{self.tokens.path.parent / table}.scp: {self.id(row)}"
        path = self.tokens.meta["arks"][ark][0]
        try:
            values = read_at(self._archive(ark, path), offset, f"{path}:{offset}", count)
            if len(values) != count:
                raise AudioPaLMError(f"the archive has {len(values)} values, the index states {count}; run "
                                     "audiopalm.bin.make_index again")
        except AudioPaLMError as error:
            raise AudioPaLMError(f"{where}: {error}") from None
        check_range(values, size, where)
        self.bytes_read += 7 + 5 * count
        return values

    def _archive(self, number: int, path: str) -> int:
        """The file descriptor of an archive. Beyond OPEN_ARCHIVES the least recently used archive is closed."""
        if number in self._archives:
            self._archives.move_to_end(number)
            return self._archives[number]
        try:
            self._archives[number] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AudioPaLMError(f"token archive {path} cannot be read: {error.strerror}") from None
        if len(self._archives) > OPEN_ARCHIVES:
            os.close(self._archives.popitem(last=False)[1])
        return self._archives[number]
