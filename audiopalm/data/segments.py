"""The speech of a data directory of stage 1: whole recordings, or cuts of them (`segments`) joined in order."""

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio_archive import split_entry
from audiopalm.data.datadir import check_id, languages_of, read_table

MADE_BY = "stage 1 (prepare)"
WHOLE = ["0", "-1"]  # in `segments`: the whole recording


@dataclass(frozen=True)
class Speech:
    """The speech of an utterance: cuts, (source, start, end) in seconds, joined in order; no cuts mean all of `path`.

    A source is a file, an entry `archive:offset`, or a command whose output is a file, `sox x.mp3 -t wav - |`.
    """

    path: str
    cuts: tuple[tuple[str, float, float], ...] = ()

    def name(self) -> str:
        """A hash of the source (path, size, time of change) and the cuts, which names the file of the speech."""
        parts = [signature(self.path)] + [f"{signature(path)} {start} {end}" for path, start, end in self.cuts]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


@cache
def signature(path: str) -> str:
    """Path, size and time of a source's file: it changes when the file is replaced. For a command, the command.

    Raises AudioPaLMError for a missing file.
    """
    if path.endswith("|"):
        return path
    file, _ = split_entry(path)
    if not Path(file).is_file():
        raise AudioPaLMError(f"audio {file} does not exist")
    status = os.stat(file)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def read_speech(directory: Path, suffix: str = "", pipes: bool = False) -> dict[str, Speech]:
    """{utterance: Speech} of the utterances themselves (suffix "") or of their translations (".<language>").

    Raises AudioPaLMError for a missing table, a malformed line, and commands in wav.scp where `pipes` is false.
    """
    segments = directory / f"segments{suffix}"
    if not segments.exists():
        return {check_id(key, directory / f"wav.scp{suffix}"): Speech(path)
                for key, path in _read_paths(directory / f"wav.scp{suffix}", pipes).items()}
    recordings = _read_paths(directory / "wav.scp", pipes)
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


def _read_paths(path: Path, pipes: bool) -> dict[str, str]:
    """{id: source} of a wav.scp."""
    table = read_table(path, MADE_BY)
    for key, value in table.items():
        if value.endswith("|") and not pipes:
            raise AudioPaLMError(f"{path}: {key}: {value!r} is a command; where you trust it, have stage 2 run it by "
                                 "--pipes true (of run.sh: --audio_args \"--pipes true\")")
    return table


def all_speech(directory: Path, pipes: bool = False) -> dict[str, dict[str, Speech]]:
    """{"": speech of the utterances, ".<language>": speech of their translations}, by utterance."""
    spoken = {"": read_speech(directory, pipes=pipes)}
    for name in ("segments", "wav.scp"):
        for language in languages_of(directory, name):
            spoken.setdefault(f".{language}", read_speech(directory, f".{language}", pipes))
    return spoken
