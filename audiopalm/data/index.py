"""The index of a data set: ids, languages, speakers, and the position of each text and of each vector of tokens.

It consists of columns in Arrow IPC files that are mapped into memory, so that all processes of a machine share them:

    DATA_DIR/data_index.arrow  a row for each utterance of utt2lang, by id: id, language, speaker, and for `text` and
                               each `text.<language>` the columns `<table>:offset` (int64, -1: none), `<table>:size`
    TOKENS/token_index.arrow   a row for each id of the scp files; for `units`, `codec` and each `units.<language>` the
                               columns `<table>:ark` (int32, a number of the list of archives, -1: none),
                               `<table>:offset` (int64) and `<table>:count` (int32)

The metadata state the tables that an index was made from. Stages 5 and 6 write the index files; `open_index` makes
those that are missing and refuses those that are older than their tables. docs/data.md describes the files.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, sha256
from audiopalm.core.lock import Busy, locked
from audiopalm.data.archive import ELEMENT, HEADER, read_vector
from audiopalm.data.columns import Columns, read_columns
from audiopalm.data.datadir import INDEX_FILES, languages_of, remove_index

DATA_INDEX, LENGTHS, _ = INDEX_FILES  # LENGTHS is made from the first, by audiopalm/lm/lengths.py
TOKEN_INDEX = "token_index.arrow"
FORMAT = 1
ENTRY = r"^.+:[0-9]{1,18}$"  # `path:offset`
KEY = b"audiopalm"  # the key of the metadata in an Arrow schema


@dataclass(frozen=True)
class Index:
    """Columns with their metadata. `path` is the file that they were read from, or would be saved to."""

    path: Path
    table: pa.Table
    meta: dict[str, Any]
    _numbers: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return column in self.table.column_names

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers, `[rows]`, without a copy."""
        if name not in self._numbers:
            self._numbers[name] = self.table.column(name).chunk(0).to_numpy()
        return self._numbers[name]

    def codes(self, name: str) -> np.ndarray:
        """A column of names, `language` or `speaker`, as int32 `[rows]`: indices into `names`."""
        if name not in self._numbers:
            self._numbers[name] = self.table.column(name).chunk(0).indices.to_numpy()
        return self._numbers[name]

    def names(self, name: str) -> pa.LargeStringArray:
        """The names that the codes of a column stand for."""
        return self.table.column(name).chunk(0).dictionary

    @cached_property
    def languages(self) -> list[str]:
        """The languages that the codes of the column `language` stand for."""
        return self.names("language").to_pylist()

    @cached_property
    def ids(self) -> pa.LargeStringArray:
        """The ids of the rows, sorted in byte order."""
        return self.table.column("id").chunk(0)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.table.num_rows

    def positions(self, ids: pa.LargeStringArray) -> np.ndarray:
        """The row of each of `ids`, int64 `[len(ids)]`; -1 for an unknown id."""
        return pc.fill_null(pc.index_in(ids, value_set=self.ids), -1).to_numpy(zero_copy_only=False).astype(np.int64)

    def tables(self) -> list[str]:
        """The tables that have columns: `text`, `text.en`; or `units`, `codec`, `units.en`."""
        return [name.removesuffix(":offset") for name in self.table.column_names if name.endswith(":offset")]


def make_data_index(directory: Path, made_by: str = "") -> Index:
    """The index of a data directory from its tables.

    Raises AudioPaLMError as `read_table` does, and for a text of an utterance that utt2lang lacks.
    """
    names = _data_tables(directory)
    languages = _Names()
    table = read_columns(directory / "utt2lang", made_by, languages)
    ids = table.ids
    columns = {"id": ids, "language": languages.encoded(table.converted[0]),
               "speaker": _speakers(directory, ids, made_by)}
    for name in names:
        if name.partition(".")[0] == "text":
            table = read_columns(directory / name, ids=ids)
            at = table.at(ids)
            if at is not None and np.count_nonzero(at >= 0) < len(table.ids):
                unknown = table.ids.filter(pc.invert(pc.is_in(table.ids, value_set=ids)))[0].as_py()
                raise AudioPaLMError(f"{directory}/utt2lang has no line for {unknown!r}, which {name} has")
            columns[f"{name}:offset"] = pa.array(_taken(table.offset, at))
            columns[f"{name}:size"] = pa.array(_taken(table.size, at))
    tables = {name: file_state(directory / name) for name in names}
    hashes = {name: state[2] for name, state in tables.items()}
    meta = {"tables": tables, "hash": _hash(json.dumps(hashes))}
    return Index(directory / DATA_INDEX, pa.table(columns), meta)


class _Names:
    """A converter of `read_columns` for values that recur: the number of each value, int32."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, ids: pa.LargeStringArray, values: pa.LargeStringArray) -> list[np.ndarray]:
        block = pc.dictionary_encode(values)
        known = [self.numbers.setdefault(name, len(self.numbers)) for name in block.dictionary.to_pylist()]
        return [np.array(known, np.int32)[block.indices.to_numpy()]]

    def encoded(self, codes: np.ndarray) -> pa.DictionaryArray:
        """The column of these numbers."""
        return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(self.numbers), pa.large_string()))


def _speakers(directory: Path, ids: pa.LargeStringArray, made_by: str) -> pa.DictionaryArray:
    """The speaker of each of `ids`; empty for an utterance that utt2spk lacks."""
    names = _Names()
    table = read_columns(directory / "utt2spk", made_by, names, ids)
    at, codes = table.at(ids), table.converted[0]
    if at is not None:
        codes = np.where(at < 0, names.numbers.setdefault("", len(names.numbers)), codes[at] if len(codes) else 0)
    return names.encoded(codes.astype(np.int32))


def make_token_index(folder: Path) -> Index:
    """The index of tokens (stage 5) from their scp files.

    Raises AudioPaLMError, with table and id, for an entry that is not `path:offset` of a whole vector of int32.
    """
    arks: dict[str, int] = {}
    names = _token_tables(folder)
    read: dict[str, Columns] = {}
    for name in names:
        if name.endswith(".scp"):
            known = next(iter(read.values())).ids if read else None
            read[name.removesuffix(".scp")] = read_columns(folder / name, "stage 5 (tokenize)",
                                                           _Entries(folder / name, arks), known)
    ids = read["units"].ids
    if not all(table.ids.equals(ids) for table in read.values()):
        ids = pc.unique(pa.concat_arrays([table.ids for table in read.values()]))
        ids = ids.take(pc.sort_indices(ids))
    columns: dict[str, pa.Array] = {"id": ids}
    content = hashlib.sha256(ids.buffers()[2] or b"")
    for name, table in read.items():
        at = table.at(ids)
        for key, values in zip(("ark", "offset", "count"), table.converted, strict=True):
            column = _taken(values, at)
            columns[f"{name}:{key}"] = pa.array(column)
            content.update(f"{name}:{key}".encode())
            content.update(column.data)
    # The hash does not depend on the folder of the archives.
    content.update(json.dumps([os.path.basename(ark) for ark in arks]).encode())
    tables = {name: file_state(folder / name) for name in names}
    meta = {"tables": tables, "arks": [[ark, os.path.getsize(ark)] for ark in arks],
            "hash": _hash(content.hexdigest() + tables["meta.json"][2])}
    return Index(folder / TOKEN_INDEX, pa.table(columns), meta)


@dataclass(frozen=True)
class _Entries:
    """A converter of `read_columns` for the scp file `scp`; `arks`, {path: number}, gets new archives."""

    scp: Path
    arks: dict[str, int]

    def __call__(self, ids: pa.LargeStringArray, entries: pa.LargeStringArray) -> list[np.ndarray]:
        """The number of its archive (int32), the offset (int64) and the number of values (int32) of every entry."""
        self._refuse(ids, entries, ~pc.match_substring_regex(entries, ENTRY).to_numpy(zero_copy_only=False))
        parts = pc.split_pattern(entries, ":", max_splits=1, reverse=True)
        offset = pc.cast(pc.list_element(parts, 1), pa.int64()).to_numpy()
        paths = pc.dictionary_encode(pc.list_element(parts, 0))
        numbers, count = paths.indices.to_numpy(), np.full(len(offset), -1, dtype=np.int32)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(len(paths.dictionary) + 1))
        for number, path in enumerate(paths.dictionary.to_pylist()):
            rows = order[bounds[number]:bounds[number + 1]]
            count[rows] = _counts(path, offset[rows])
        self._refuse(ids, entries, count < 0)
        known = [self.arks.setdefault(path, len(self.arks)) for path in paths.dictionary.to_pylist()]
        return [np.array(known, np.int32)[numbers], offset, count]

    def _refuse(self, ids: pa.LargeStringArray, entries: pa.LargeStringArray, wrong: np.ndarray) -> None:
        """Raise AudioPaLMError for the first entry for which `wrong`, bool `[N]`, is true."""
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            key, entry = ids[first].as_py(), entries[first].as_py()
            try:
                read_vector(entry)
            except AudioPaLMError as error:
                raise AudioPaLMError(f"{self.scp}: {key}: {error}") from None
            raise AudioPaLMError(f"{self.scp}: {key}: token archive entry {entry!r} cannot be read; run stage 5 again")


def _counts(path: str, offset: np.ndarray) -> np.ndarray:
    """The number of values at each offset of an archive, int32 `[N]`; -1 where there is no whole vector."""
    try:
        size = os.stat(path).st_size if os.path.isfile(path) else 0
        content = np.memmap(path, dtype=np.uint8, mode="r") if size else np.zeros(0, np.uint8)
    except (OSError, ValueError):
        return np.full(len(offset), -1, dtype=np.int32)
    head = len(HEADER) + 4
    inside = offset + head <= size
    begin = np.where(inside, offset, 0)
    heads = content[begin[:, None] + np.arange(head)] if size >= head else np.zeros((len(offset), head), np.uint8)
    count = np.ascontiguousarray(heads[:, len(HEADER):]).view("<i4")[:, 0]
    valid = inside & (heads[:, :len(HEADER)] == np.frombuffer(HEADER, np.uint8)).all(axis=1) & (count >= 0)
    return np.where(valid & (begin + head + count.astype(np.int64) * ELEMENT.itemsize <= size), count, -1)


def write_index(data_dir: str | Path, tokens: str | Path | None = None, made_by: str = "") -> None:
    """Write the index of a data directory and, if `tokens` is given, that of its tokens. A file is replaced as a whole.

    Raises AudioPaLMError as `make_data_index` and `make_token_index` do.
    """
    data = make_data_index(Path(data_dir), made_by)
    remove_index(data_dir)
    save(data)
    logging.info("wrote %s: %d utterances", data.path, data.rows)
    del data  # its memory is needed
    if tokens is not None:
        save(make_token_index(Path(tokens)))


def renew_index(data_dir: Path, made_by: str = "") -> None:
    """Write the index of a data directory unless it has an up-to-date index."""
    try:
        open_index(data_dir, None, made_by)
    except AudioPaLMError:
        write_index(data_dir, None, made_by)


def save(index: Index) -> None:
    """Write an index to its path, whole or not at all."""
    table = index.table.combine_chunks().replace_schema_metadata({KEY: json.dumps({"format": FORMAT, **index.meta})})
    with atomic_path(index.path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(table.num_rows, 1))


def load(path: Path, rebuild: str) -> Index:
    """Map an index into memory. Raises AudioPaLMError for a damaged file; `rebuild` says how to make it again."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        meta = json.loads(table.schema.metadata[KEY])
        table.validate(full=True)
        one_chunk = all(column.num_chunks <= 1 for column in table.columns)
        if meta.pop("format") != FORMAT or not isinstance(meta["tables"], dict) or not one_chunk:
            raise ValueError("another format")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise AudioPaLMError(f"{path} is damaged or of another version ({' '.join(str(error).split())[:80]}); {rebuild}"
                             ) from None
    return Index(path, table.combine_chunks() if not table.num_rows else table, meta)


def open_index(data_dir: str | Path, tokens: str | Path | None, made_by: str = "") -> tuple[Index, Index | None]:
    """The index of a data directory and that of its tokens, mapped into memory. A missing index is made first.

    Of several processes, one makes the index and the others wait. Raises AudioPaLMError for an index that is damaged or
    older than its tables or archives, and for archives that do not exist.
    """
    data_dir, folder = Path(data_dir), None if tokens is None else Path(tokens)
    again = rebuild(data_dir, folder)
    data = open_one(data_dir / DATA_INDEX, lambda: make_data_index(data_dir, made_by), _data_tables(data_dir), again)
    if folder is None:
        return data, None
    index = open_one(folder / TOKEN_INDEX, lambda: make_token_index(folder), _token_tables(folder), again)
    for ark, size in index.meta["arks"]:
        if not os.path.isfile(ark):
            raise AudioPaLMError(f"token archive {ark}, which {folder} refers to, does not exist or is not a file; if "
                                 f"it lies elsewhere now, correct the scp files of {folder}, then {again}")
        if os.path.getsize(ark) != size:
            raise AudioPaLMError(f"{index.path} is older than {ark}; {again}")
    return data, index


def open_one(path: Path, make: Callable[[], Index], tables: Iterable[str], again: str) -> Index:
    """The index at `path`, mapped into memory. If it is missing, one process makes it and the others wait.

    tables: the names of the files beside it that it is made from. Raises AudioPaLMError, with `again` as what to do,
    where the index is damaged or these files have changed since.
    """
    while not path.exists():
        try:
            with locked(path.parent, "index"):
                if not path.exists():
                    save(make())
        except Busy:
            logging.info("waiting for %s, which another process makes", path)
    index = load(path, again)
    check_tables(index, tables, again)
    return index


def rebuild(data_dir: Path, tokens: Path | None) -> str:
    """What to do about a damaged or outdated index, for error messages."""
    return (f"run `python -m audiopalm.bin.make_index --data_dir {data_dir}"
            f"{'' if tokens is None else f' --tokens {tokens}'}`")


def check_tables(index: Index, names: Iterable[str], again: str) -> None:
    """Raise AudioPaLMError where `names`, the tables beside an index, have changed since it was made.

    A table with the same size and time counts as unchanged. Where only the time differs, as after a copy, the SHA-256
    is compared.
    """
    stated: Mapping[str, Any] = index.meta["tables"]
    folder = index.path.parent
    if differing := sorted(set(names) ^ stated.keys()):
        raise AudioPaLMError(f"{index.path} was made with other tables than {folder} has now ({differing[0]}); {again}")
    for name, (size, time, content) in stated.items():
        status = os.stat(folder / name)
        if (status.st_size, status.st_mtime_ns) != (size, time) and (
                status.st_size != size or sha256(folder / name) != content):
            raise AudioPaLMError(f"{index.path} is older than {folder / name}; {again}")


def _data_tables(directory: Path) -> list[str]:
    texts = ["text"] if (directory / "text").exists() else []
    return ["utt2lang", "utt2spk", *texts, *(f"text.{code}" for code in languages_of(directory, "text"))]


def _token_tables(folder: Path) -> list[str]:
    codec = ["codec.scp"] if (folder / "codec.scp").exists() else []
    return ["meta.json", "units.scp", *codec, *sorted(path.name for path in folder.glob("units.*.scp"))]


def _taken(values: np.ndarray, at: np.ndarray | None) -> np.ndarray:
    """`values` at the indices `at`, -1 for the index -1; without `at`, the `values`."""
    if at is None:
        return values
    return np.where(at < 0, values.dtype.type(-1), values[at] if len(values) else values.dtype.type(-1))


def file_state(path: Path) -> list[Any]:
    """The state of a table that `check_tables` compares: size, time and SHA-256."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, sha256(path)]


def _hash(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
