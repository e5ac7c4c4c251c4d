"""The speech of a data directory of stage 1: whole recordings, or cuts of them (`segments`) joined in order."""

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import check_id, languages_of, read_table

MADE_BY = "stage 1 (prepare)"
WHOLE = ["0", "-1"]  # in `segments`: from the beginning to the end of a recording


@dataclass(frozen=True)
class Speech:
    """One piece of speech: cuts of source files in seconds, joined in order; no cuts stands for the whole file."""

    path: str
    cuts: tuple[tuple[str, float, float], ...] = ()

    def name(self) -> str:
        """File name: a hash of the source (path, size, time of change) and the cuts."""
        parts = [signature(self.path)] + [f"{signature(path)} {start} {end}" for path, start, end in self.cuts]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20] + ".flac"


@cache
def signature(path: str) -> str:
    """Changes when the file is replaced, so that a stale FLAC is never taken for the new speech."""
    if not Path(path).is_file():
        raise AudioPaLMError(f"audio {path} does not exist")
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def read_speech(directory: Path, suffix: str = "") -> dict[str, Speech]:
    """{utterance: Speech} of the utterances themselves (suffix "") or of their translations (".<language>")."""
    segments = directory / f"segments{suffix}"
    if not segments.exists():
        return {check_id(key, directory / f"wav.scp{suffix}"): Speech(path)
                for key, path in _read_paths(directory / f"wav.scp{suffix}").items()}
    recordings = _read_paths(directory / "wav.scp")
    table = {}
    for key, value in read_table(segments).items():
        check_id(key, segments)
        fields = value.split()
        if not fields or len(fields) % 3:
            raise AudioPaLMError(f"{segments}: {key}: expected `recording start end` once or more, found {value!r}")
        try:
            cuts = tuple((recordings[fields[i]], float(fields[i + 1]), float(fields[i + 2]))
                         for i in range(0, len(fields), 3))
        except (KeyError, ValueError) as error:
            raise AudioPaLMError(f"{segments}: {key}: unknown recording or bad time: {error}") from None
        table[key] = Speech(cuts[0][0], () if fields[1:] == WHOLE else cuts)
    return table


def _read_paths(path: Path) -> dict[str, str]:
    """{id: file} of a wav.scp. Raises AudioPaLMError for a command in the place of a file, which nothing here runs."""
    table = read_table(path, MADE_BY)
    for key, value in table.items():
        if value.endswith("|"):
            raise AudioPaLMError(f"{path}: {key}: {value!r} is a command, and commands in tables are not run; write "
                                 "its output to a file and name that")
    return table


def all_speech(directory: Path) -> dict[str, dict[str, Speech]]:
    """{"": speech of the utterances, ".<language>": speech of their translations}, by utterance."""
    spoken = {"": read_speech(directory)}
    for name in ("segments", "wav.scp"):
        for language in languages_of(directory, name):
            spoken.setdefault(f".{language}", read_speech(directory, f".{language}"))
    return spoken
