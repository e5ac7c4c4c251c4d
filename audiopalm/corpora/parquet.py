"""FLEURS' parquet files, as in the Hugging Face repository, converted once to the layout of the archives.

    <code>/train-00000-of-00002.parquet, validation-..., test-...
        id int32, num_samples int32, path string, audio {bytes, path}, transcription, raw_transcription string,
        gender int64 (male, female, other), lang_id, language, lang_group_id
    ->  {train,dev,test}.tsv, audio/<set>/<file>.wav
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
from pyarrow import parquet

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.archives import fill_once

SPLITS = {"train": "train", "dev": "validation", "test": "test"}
COLUMNS = ["id", "num_samples", "path", "audio", "transcription", "raw_transcription", "gender"]
GENDERS = ("MALE", "FEMALE", "OTHER")
ROWS_AT_ONCE = 32  # a recording has about 0.7 MB


def find_parquet(folder: Path) -> dict[str, list[Path]]:
    """{set: files} of a language; empty where `folder` has no parquet files.

    The names are those of the repository, `validation-00000-of-00001.parquet`, or of its converted branches,
    `fleurs-validation.parquet` and `validation/0000.parquet`.
    """
    files = {name: sorted([*folder.glob(f"{split}-*.parquet"), *folder.glob(f"fleurs-{split}*.parquet"),
                           *folder.glob(f"{split}/*.parquet")]) for name, split in SPLITS.items()}
    return files if any(files.values()) else {}


def unpack_parquet(files: dict[str, list[Path]], target: Path) -> None:
    """Write the tables and recordings of a language into the folder `target`, unless it has them already.

    Raises AudioPaLMError when a file or a set is missing, a file is damaged, or a column is missing.
    """
    for name, parts in files.items():
        _check_complete(name, parts)
    fill_once(target, [part for parts in files.values() for part in parts],
              lambda folder: {"files": sum(_unpack_set(parts, folder, name) for name, parts in files.items())})


def _check_complete(name: str, parts: list[Path]) -> None:
    """Raise AudioPaLMError where a set has no file, or fewer files than their names state."""
    if not parts:
        raise AudioPaLMError(f"no parquet file of the set {SPLITS[name]!r} beside those of the other sets; fetch it")
    for part in parts:
        stated = re.search(r"-of-(\d+)\.parquet$", part.name)
        if stated and int(stated.group(1)) != len(parts):
            raise AudioPaLMError(f"{part} is one of {int(stated.group(1))} files, but only {len(parts)} are in the "
                                 "folder; fetch the others")


def _unpack_set(parts: list[Path], folder: Path, name: str) -> int:
    """Write <folder>/<name>.tsv and the recordings that it names; return the number of recordings."""
    audio = folder / "audio" / name
    audio.mkdir(parents=True)
    files = 0
    with open(folder / f"{name}.tsv", "w", encoding="utf-8", newline="\n") as table:
        for row in (row for part in parts for row in _rows(part)):
            sound = row["audio"] or {}
            # Only the last component of the stated path is used, so that no file is written outside of the folder.
            file = PurePosixPath(sound.get("path") or row["path"] or "").name
            cells = [row["id"], file, row["raw_transcription"], row["transcription"], "", row["num_samples"],
                     GENDERS[row["gender"]] if row["gender"] in range(len(GENDERS)) else ""]
            table.write("\t".join(_cell(cell) for cell in cells) + "\n")
            if sound.get("bytes") is not None and not (audio / file).exists():  # "" and ".." are folders, which exist
                (audio / file).write_bytes(sound["bytes"])
                files += 1
    return files


def _rows(part: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, a few at a time: of about 500 MB, about three row groups are in memory at once."""
    try:
        with parquet.ParquetFile(part, pre_buffer=False, buffer_size=1 << 20) as file:
            missing = [column for column in COLUMNS if column not in file.schema_arrow.names]
            if missing:
                raise AudioPaLMError(f"{part} has no column {missing[0]!r}: it is no file of FLEURS")
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=COLUMNS, use_threads=False):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise AudioPaLMError(f"{part} is damaged or cut off ({str(error).splitlines()[0]}); fetch it again") from None


def _cell(value: object) -> str:
    """A cell of a table without quotes: tabs and line ends become spaces."""
    return "" if value is None else re.sub(r"[\t\r\n]+", " ", str(value))
