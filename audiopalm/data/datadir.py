"""Kaldi data directories: two-column tables keyed by utterance id, sorted in byte order."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require


def read_table(path: str | Path, made_by: str = "") -> dict[str, str]:
    """`id value...` lines as {id: value}; the value may be empty. Raises AudioPaLMError on a repeated id."""
    table: dict[str, str] = {}
    for number, line in enumerate(require(path, made_by).read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        key, _, value = line.partition(" ")
        if key in table:
            raise AudioPaLMError(f"{path}:{number}: id {key!r} appears twice")
        table[key] = value.strip()
    return table


def write_table(path: str | Path, table: Mapping[str, str]) -> None:
    """Write {id: value} sorted as `LC_ALL=C sort` does, which is the order of UTF-8 bytes."""
    write_lines(path, ((key, table[key]) for key in sorted(table, key=lambda key: key.encode())))


def write_lines(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write (id, value) of a table that is sorted already."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(table_line(key, value) for key, value in rows)


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


def remove_tables_by_language(directory: str | Path) -> None:
    """An earlier run may have left tables of languages that are not asked for any more."""
    for name in ("text", "wav.scp", "segments"):
        for path in Path(directory).glob(f"{name}.*"):
            path.unlink()
