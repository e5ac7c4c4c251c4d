"""Reading and writing speech: mono float32 at one sample rate."""

import io
from math import gcd
from pathlib import Path

import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.data.mp3 import states_its_length, with_length

SAMPLE_RATE = 16000  # Hz, everywhere after stage 2
MP3_SLACK = 2304  # samples by which the length in the header of a sound mp3 may differ from what is decoded


class DamagedAudio(AudioPaLMError):
    """A file that exists and holds no sound speech; `reason` is what is wrong, in a few words."""

    def __init__(self, path: str | Path, reason: str, detail: str = ""):
        super().__init__(f"audio {path} {reason}{detail and f': {detail}'}")
        self.reason = reason


def read_audio(path: str | Path, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Samples `[T]` float32 in [-1, 1] at `rate` Hz, channels averaged.

    Raises AudioPaLMError for a missing file; DamagedAudio for an undecodable, empty or non-finite one, and for an mp3
    with much less in it than its header says (decoders give the first part of a cut-off file without a word).
    """
    if not Path(path).is_file():
        raise AudioPaLMError(f"audio {path} does not exist")
    try:
        with soundfile.SoundFile(str(path)) as file:
            found, claimed, is_mp3 = file.samplerate, file.frames, file.format in ("MP3", "MPEG")
            tagged = is_mp3 and states_its_length(path)
            samples = file.read(dtype="float32", always_2d=True) if tagged or not is_mp3 else _read_untagged(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise DamagedAudio(path, "cannot be decoded", str(error)) from None
    if len(samples) == 0:
        raise DamagedAudio(path, "holds no samples")
    if not np.isfinite(samples).all():
        raise DamagedAudio(path, "holds samples that are not numbers")
    if tagged and abs(claimed - len(samples)) > MP3_SLACK:
        raise DamagedAudio(path, "is damaged", f"{len(samples)} of {claimed} samples can be decoded")
    return resample(samples.mean(axis=1), found, rate)


def _read_untagged(path: str | Path) -> np.ndarray:
    """Samples `[T, channels]` of an mp3 of unknown length, to its end."""
    content, silent = with_length(Path(path).read_bytes())
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        return file.read(dtype="float32", always_2d=True)[silent:]


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    """Polyphase resampling of `[T]` from `source` to `target` Hz."""
    if source == target:
        return samples
    from scipy.signal import resample_poly  # slow to import, and only stage 2 meets other rates

    divisor = gcd(source, target)
    return resample_poly(samples, target // divisor, source // divisor).astype(np.float32)


def write_audio(path: str | Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write `[T]` float samples as 16-bit PCM; the format follows the suffix (.wav, .flac)."""
    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), np.clip(samples, -1.0, 1.0), rate, subtype="PCM_16")


def check_samples(samples: np.ndarray) -> np.ndarray:
    """`[T]` float32, at least one sample, all finite; raises AudioPaLMError otherwise."""
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or len(samples) == 0:
        raise AudioPaLMError(f"audio must be one channel with at least one sample, found shape {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise AudioPaLMError("audio holds samples that are not numbers")
    return samples
