"""Kaldi data directories: two-column tables keyed by utterance id, sorted in byte order."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, read_text

INDEX_FILES = ("data_index.arrow", "text_lengths.*.arrow", "audio_index.arrow")  # derived from the tables beside them
MAX_ID_BYTES = 200  # files are named by an id, and a file name has at most 255 bytes
_IN_NO_ID = re.compile(r"[\s\x00-\x1f\x7f/]")


def why_bad_id(name: str) -> str | None:
    """What forbids `name` as the id of an utterance, a speaker or a recording; None where nothing does.

    Files are named by ids, so that an id must be one part of a path that does not lead anywhere else.
    """
    if name in ("", ".", ".."):
        return f"{name!r} is no name for a file"
    found = _IN_NO_ID.search(name)
    if found:
        return f"it contains {found[0]!r}"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        return f"it is longer than {MAX_ID_BYTES} bytes"
    return None


def check_id(name: str, where: str | Path) -> str:
    """`name` itself; raises AudioPaLMError, with `where` (the table or the work it stands in), for an invalid id."""
    reason = why_bad_id(name)
    if reason:
        shown = name if len(name) <= 80 else name[:80] + "..."
        raise AudioPaLMError(f"{where}: invalid id {shown!r}: {reason}; utils/fix_data_dir.sh removes such utterances")
    return name


def split_line(line: str) -> tuple[str, str]:
    """A line of a table as (id, value): spaces or tabs separate them, as in Kaldi; the value may be empty."""
    key, _, value = line.partition(" ")
    if "\t" in key:
        key, _, value = line.partition("\t")
    return key, value.strip()


def read_table(path: str | Path, made_by: str = "") -> dict[str, str]:
    """`id value...` lines as {id: value}; the value may be empty. Raises AudioPaLMError on a repeated id, and where the
    file is not UTF-8."""
    table: dict[str, str] = {}
    for number, line in enumerate(read_text(path, made_by).split("\n"), start=1):
        if not line.strip(" \t\r"):
            continue
        key, value = split_line(line)
        if key in table:
            raise AudioPaLMError(f"{path}:{number}: id {key!r} appears twice")
        table[key] = value
    return table


def write_table(path: str | Path, table: Mapping[str, str]) -> None:
    """Write {id: value} sorted as `LC_ALL=C sort` does, which is the order of UTF-8 bytes."""
    write_lines(path, ((key, table[key]) for key in sorted(table, key=lambda key: key.encode())))


def write_lines(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write (id, value) of a table that is sorted already."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(table_line(key, value) for key, value in rows)


@contextmanager
def table_writers(directory: str | Path) -> Iterator[Callable[[str, str, str], None]]:
    """Yield `write(table, id, value)`, which adds a row to a table of `directory`; rows of a table come sorted.

    The tables get their names when the context ends well.
    """
    files: dict[str, TextIO] = {}
    with ExitStack() as stack:
        def write(table: str, key: str, value: str) -> None:
            if table not in files:
                temporary = stack.enter_context(atomic_path(Path(directory) / table))
                files[table] = stack.enter_context(open(temporary, "w", encoding="utf-8"))
            files[table].write(table_line(key, value))

        yield write


def table_line(key: str, value: str) -> str:
    return f"{key} {value}".rstrip() + "\n"


def invert(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """utt2spk -> spk2utt."""
    speakers: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk, key=lambda key: key.encode()):
        speakers.setdefault(utt2spk[utterance], []).append(utterance)
    return {speaker: " ".join(utterances) for speaker, utterances in speakers.items()}


def languages_of(directory: str | Path, name: str) -> list[str]:
    """Languages for which `<name>.<language>` exists, for example `text` -> ['en', 'es']."""
    return sorted(path.name[len(name) + 1:] for path in Path(directory).glob(f"{name}.*"))


def remove_index(directory: str | Path) -> None:
    """Remove the index of tables that are replaced (audiopalm/data/index.py); whoever trains next makes a new one."""
    for name in INDEX_FILES:
        for path in Path(directory).glob(name):
            path.unlink()


def remove_tables_by_language(directory: str | Path) -> None:
    """An earlier run may have left tables of languages that are not asked for any more, and an index of its tables."""
    remove_index(directory)
    for name in ("text", "wav.scp", "segments"):
        for path in Path(directory).glob(f"{name}.*"):
            path.unlink()
