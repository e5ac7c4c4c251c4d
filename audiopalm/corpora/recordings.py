"""Recordings of corpora, inspected without decoding: their lengths, or the reasons why they cannot be used."""

from dataclasses import dataclass
from pathlib import Path

import soundfile

UNKNOWN_SIZE = 0xFFFFFFFF  # the size in the header of a wav file that was written into a pipe


@dataclass(frozen=True)
class Recording:
    """A recording of a corpus; without a path it is missing."""

    path: Path | None
    frames: int = 0  # samples of a channel
    rate: int = 1  # Hz
    problem: str = ""  # the reason why it cannot be used: "missing", "of zero bytes" ...; empty for a usable recording

    @property
    def seconds(self) -> float:
        """The length."""
        return self.frames / self.rate


def look_at(path: Path | None) -> Recording:
    """The length that the header of a file states, or the problem of the file; `path` may be None for a missing file.

    This is not for mp3 files, whose headers may state a wrong length; stage 2 decodes them.
    """
    if path is None or not path.is_file():
        return Recording(path, problem="missing")
    size = path.stat().st_size
    if size == 0:
        return Recording(path, problem="of zero bytes")
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError:
        return Recording(path, problem="cannot be decoded")
    if info.frames == 0:
        return Recording(path, problem="without samples")
    if _is_cut_off(path, size):
        return Recording(path, problem="cut off")
    return Recording(path, info.frames, info.samplerate)


def _is_cut_off(path: Path, size: int) -> bool:
    """Whether a wav file is shorter than its header states; libsndfile reads the first part of it without an error."""
    with open(path, "rb") as stream:
        head = stream.read(8)
    stated = int.from_bytes(head[4:], "little")
    return head[:4] == b"RIFF" and stated != UNKNOWN_SIZE and stated + 8 > size
