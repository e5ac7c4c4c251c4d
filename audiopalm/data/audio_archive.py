"""Recordings as files, or as entries `archive:offset` of a Kaldi archive.

The archives are those of ESPnet's `--audio_format flac.ark`: kaldiio's container of whole FLAC or WAV files. They are
read here and not by kaldiio, which runs commands and unpickles; here an entry is only a path and a number.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import kaldiio
import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError

ENTRY = re.compile(r"(.+):([0-9]{1,18})", re.DOTALL)
# soundfile's settings by format; level 0 compresses speech nearly as well as the default, in a third of the time.
SETTINGS: dict[str, dict[str, Any]] = {
    "flac": {"format": "FLAC", "subtype": "PCM_16", "compression_level": 0},
    "wav": {"format": "WAV", "subtype": "PCM_16"}}
CONTAINER, RIFF = b"AUDIO", b"RIFF"  # the first bytes of an entry: of one with a length and a file; of a bare WAV file
MAX_LENGTH_BYTES = 8


def split_entry(path: str | Path) -> tuple[str, int | None]:
    """(file, None) for a recording that is a file, (archive, offset in bytes) for a recording in an archive."""
    match = ENTRY.fullmatch(str(path))
    if match is None or os.path.isfile(path):
        return str(path), None
    return match[1], int(match[2])


def audio_exists(path: str | Path) -> bool:
    """Whether the file or the archive exists."""
    return os.path.isfile(split_entry(path)[0])


def open_audio(path: str | Path) -> BinaryIO:
    """A stream over the bytes of a recording: any audio file, or a FLAC or WAV file in an archive.

    Raises AudioPaLMError for a file or archive that does not exist and for an entry without audio, and OSError for a
    file that cannot be read.
    """
    file, offset = split_entry(path)
    if not os.path.isfile(file):
        what = f"{str(path)!r}" if offset is None else f"archive {file!r}"
        raise AudioPaLMError(f"audio {what} does not exist or is not a file")
    if offset is None:
        return open(file, "rb")
    with open(file, "rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(min(offset, end))
        length = _length(stream)
        if length is None:
            raise AudioPaLMError(f"audio archive {path} has no recording at this offset; run the stage that wrote it "
                                 "again")
        content = stream.read(length) if length <= end - stream.tell() else b""
        if len(content) < length:
            raise AudioPaLMError(f"audio archive {path} is cut off: a recording of {length} bytes begins there; run "
                                 "the stage that wrote it again")
    return io.BytesIO(content)


def _length(stream: BinaryIO) -> int | None:
    """The size in bytes of the file in an entry, None where there is no file. The stream then stands at its start."""
    begin = stream.tell()
    head = stream.read(len(CONTAINER))
    if head == CONTAINER:
        width = int.from_bytes(stream.read(1), "little")
        return int.from_bytes(stream.read(width), "little") if 0 < width <= MAX_LENGTH_BYTES else None
    if head.startswith(RIFF):
        stream.seek(begin + len(RIFF))
        length = len(RIFF) + 4 + int.from_bytes(stream.read(4), "little")
        stream.seek(begin)
        return length
    return None


def hash_audio(path: str | Path) -> str:
    """SHA-256 of a recording's file, which may lie in an archive. Raises as `open_audio` does."""
    digest = hashlib.sha256()
    with open_audio(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_audio_ark(path: str | Path, recordings: Iterable[tuple[str, np.ndarray]], rate: int
                    ) -> Iterator[tuple[str, int, int]]:
    """Write recordings, (name, samples `[T]` in [-1, 1]), as FLAC into an archive at `path`, each as it arrives.

    Yields (name, offset in bytes, number of samples) of each.
    """
    with open(path, "wb") as stream:
        for name, samples in recordings:
            offset = stream.tell() + len(name.encode()) + 1  # after the name and a space
            kaldiio.save_ark(stream, {name: (np.clip(samples, -1, 1), rate)}, write_function="soundfile",
                             write_kwargs=dict(SETTINGS["flac"]))
            yield name, offset, len(samples)


def audio_info(path: str | Path) -> tuple[int, int]:
    """(samples of a channel, rate in Hz) as the header states them. Raises AudioPaLMError for a file without audio."""
    with open_audio(path) as stream:
        try:
            with soundfile.SoundFile(stream) as file:
                return file.frames, file.samplerate
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioPaLMError(f"audio {path} cannot be decoded: {error}") from None


def read_part(path: str | Path, start: int, length: int) -> np.ndarray:
    """At most `length` samples `[T]` float32 from sample `start` on, of a recording with one channel."""
    with open_audio(path) as stream, soundfile.SoundFile(stream) as file:
        file.seek(start)
        return file.read(length, dtype="float32")
