"""Where the bytes of a recording lie: a file of its own, or an entry `archive:offset` of a Kaldi archive.

The archives are those of ESPnet's `--audio_format flac.ark`: kaldiio's container of whole FLAC or WAV files. They are
read here and not by kaldiio, which runs commands and unpickles; an entry is nothing but a path and a number.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import kaldiio
import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError

ENTRY = re.compile(r"(.+):([0-9]{1,18})", re.DOTALL)
# How recordings are written, by format; level 0 packs speech nearly as well as the default at a third of the time.
SETTINGS = {"flac": {"format": "FLAC", "subtype": "PCM_16", "compression_level": 0},
            "wav": {"format": "WAV", "subtype": "PCM_16"}}
CONTAINER, RIFF = b"AUDIO", b"RIFF"  # before a length and a file; a WAV file itself
MAX_LENGTH_BYTES = 8


def split_entry(path: str | Path) -> tuple[str, int | None]:
    """(file, None) of a recording with a file of its own, (archive, offset in bytes) of one in an archive."""
    found = ENTRY.fullmatch(str(path))
    if found is None or os.path.isfile(path):
        return str(path), None
    return found[1], int(found[2])


def audio_exists(path: str | Path) -> bool:
    """Whether the file or the archive is there."""
    return os.path.isfile(split_entry(path)[0])


def open_audio(path: str | Path) -> BinaryIO:
    """A stream over the bytes of a recording, which is a FLAC or WAV file in an archive, and any audio file elsewhere.

    Raises AudioPaLMError for what does not exist and for an entry without audio; OSError for what cannot be read.
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
    """Bytes of the file that follows; None where there is none. The stream is left where it begins."""
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
    """SHA-256 of the file, or of the file in an archive."""
    digest = hashlib.sha256()
    with open_audio(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_audio_ark(path: str | Path, recordings: Iterable[tuple[str, np.ndarray]], rate: int
                    ) -> Iterator[tuple[str, int, int]]:
    """Write (name, samples `[T]` in [-1, 1]) as FLAC into an archive at `path`, each when it comes.

    Yields its (name, offset in bytes, samples).
    """
    with open(path, "wb") as stream:
        for name, samples in recordings:
            offset = stream.tell() + len(name.encode()) + 1  # behind the name and a space
            kaldiio.save_ark(stream, {name: (np.clip(samples, -1, 1), rate)}, write_function="soundfile",
                             write_kwargs=dict(SETTINGS["flac"]))
            yield name, offset, len(samples)


def audio_info(path: str | Path) -> tuple[int, int]:
    """(samples of a channel, rate in Hz) as the header states them; raises AudioPaLMError for what is no audio."""
    with open_audio(path) as stream:
        try:
            with soundfile.SoundFile(stream) as file:
                return file.frames, file.samplerate
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioPaLMError(f"audio {path} cannot be decoded: {error}") from None


def read_part(path: str | Path, start: int, length: int) -> np.ndarray:
    """At most `length` samples `[T]` float32 from sample `start` on, of a recording of one channel."""
    with open_audio(path) as stream, soundfile.SoundFile(stream) as file:
        file.seek(start)
        return file.read(length, dtype="float32")
