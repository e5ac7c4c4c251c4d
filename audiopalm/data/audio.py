"""Reading and writing speech: mono float32 at one sample rate."""

import io
import os
from collections.abc import Iterable
from math import gcd
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, check_writable
from audiopalm.data.audio_archive import open_audio
from audiopalm.data.cut_off import missing_bytes, with_size
from audiopalm.data.mp3 import states_its_length, with_length

SAMPLE_RATE = 16000  # Hz, everywhere after stage 2
MIN_RATE, MAX_RATE = 1000, 768000  # Hz of a recording; resampling from other rates could take any amount of memory
FORMATS = (".wav", ".flac")  # formats that speech is written in
BLOCK = 2 ** 20  # samples of each channel that are read at once
MP3_SLACK = 2304  # samples by which the header's length of an undamaged mp3 may differ from the decoded length


class DamagedAudio(AudioPaLMError):
    """A file that exists and cannot be used as audio; `reason` says why, in a few words."""

    def __init__(self, path: str | Path, reason: str, detail: str = ""):
        super().__init__(f"audio {path} {reason}{detail and f': {detail}'}")
        self.reason = reason


def read_audio(path: str | Path | bytes, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Samples `[T]` float32 in [-1, 1] at `rate` Hz, channels averaged, from a file, from an entry `archive:offset`
    (audio_archive.py) or from the bytes of a file.

    Raises AudioPaLMError for a missing file. Raises DamagedAudio for a file that cannot be decoded, is empty, or holds
    values that are not finite; for an impossible rate; and for a file with fewer samples than its header states
    (decoders return the first part of a cut-off file without an error).
    """
    if isinstance(path, bytes):
        with io.BytesIO(path) as stream:
            return resample(*_read(stream, f"of {len(path)} bytes"), rate)
    if not isinstance(path, str | Path):
        raise AudioPaLMError(f"audio must be a path, found {type(path).__name__}")
    try:
        with open_audio(path) as stream:
            return resample(*_read(stream, path), rate)
    except OSError as error:
        raise AudioPaLMError(f"audio {path} cannot be read: {error.strerror or error}") from None


def _read(stream: BinaryIO, path: str | Path) -> tuple[np.ndarray, int]:
    """Samples `[T]` and their rate; `path` names the file in errors."""
    try:
        with soundfile.SoundFile(stream) as file:
            if not MIN_RATE <= file.samplerate <= MAX_RATE:
                raise DamagedAudio(path, "states an impossible sample rate", f"{file.samplerate} Hz")
            rate, stated, is_mp3 = file.samplerate, file.frames, file.format in ("MP3", "MPEG")
            tagged = False
            if is_mp3:
                position = stream.tell()
                tagged = states_its_length(stream)
                stream.seek(position)
            samples = _mono(file) if tagged or not is_mp3 else _read_untagged(stream)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = str(error).rpartition(": ")[2] if isinstance(error, soundfile.LibsndfileError) else str(error)
        raise DamagedAudio(path, "cannot be decoded", f"{reason} WAV, FLAC, OGG, Opus and MP3 can be decoded; convert "
                                                      "other formats by ffmpeg") from None
    if len(samples) == 0:
        if (stated_again := with_size(stream)) is not None:
            return _read(stated_again, path)
        raise DamagedAudio(path, "holds no samples")
    finite(samples, path)
    if lost := missing_bytes(stream):
        raise DamagedAudio(path, "is cut off", f"{lost} bytes of its samples are missing")
    if (not is_mp3 and len(samples) < stated) or (tagged and abs(stated - len(samples)) > MP3_SLACK):
        raise DamagedAudio(path, "is damaged", f"{len(samples)} of {stated} samples can be decoded")
    return samples, rate


def finite(samples: np.ndarray, path: str | Path) -> np.ndarray:
    """The samples of the file `path`. Raises DamagedAudio if one of them is not a number."""
    if not np.isfinite(samples).all():
        raise DamagedAudio(path, "holds samples that are not numbers")
    return samples


def _mono(file: soundfile.SoundFile) -> np.ndarray:
    """The mean of the channels, `[T]` float32. Read in blocks, because an hour of stereo would be a gigabyte."""
    blocks = []
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block.mean(axis=1))
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


def _read_untagged(stream: BinaryIO) -> np.ndarray:
    """All samples `[T]` of an mp3 whose length is not stated."""
    stream.seek(0)
    content, silent = with_length(stream.read())
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        return _mono(file)[silent:]


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    """Polyphase resampling of samples `[T]` float32 from `source` to `target` Hz."""
    if source == target:
        return samples
    from scipy.signal import resample_poly  # slow to import, and not needed after stage 2

    divisor = gcd(source, target)
    return resample_poly(samples, target // divisor, source // divisor).astype(np.float32)


def write_audio(path: str | Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write `[T]` float samples as 16-bit PCM; the format follows the suffix (.wav, .flac)."""
    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), np.clip(samples, -1.0, 1.0), rate, subtype="PCM_16")


def check_output(path: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Return `path` if speech can be written there. Call it before the speech is made.

    Raises AudioPaLMError for a path that cannot be written, and for one of `inputs`, the recordings that are read.
    """
    for recording in inputs:
        if os.path.exists(path) and os.path.exists(recording) and os.path.samefile(path, recording):
            raise AudioPaLMError(f"{path} is a recording that is read, and would be overwritten; name another file")
    return check_writable(path, FORMATS)


def check_samples(samples: np.ndarray) -> np.ndarray:
    """`[T]` float32, at least one sample, all finite; raises AudioPaLMError otherwise."""
    try:
        samples = np.asarray(samples, dtype=np.float32)
    except (TypeError, ValueError):
        raise AudioPaLMError("audio must be numbers") from None
    if samples.ndim != 1 or len(samples) == 0:
        raise AudioPaLMError(f"audio must be one channel with at least one sample, found shape {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise AudioPaLMError("audio holds samples that are not numbers")
    return samples
