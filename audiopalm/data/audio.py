"""Reading and writing speech: mono float32 at one sample rate."""

from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from audiopalm.data.files import atomic_path
from audiopalm.errors import AudioPaLMError

SAMPLE_RATE = 16000  # Hz, everywhere after stage 2


def read_audio(path: str | Path, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Samples `[T]` float32 in [-1, 1] at `rate` Hz, channels averaged.

    Raises AudioPaLMError for a missing, empty, undecodable or non-finite file.
    """
    if not Path(path).is_file():
        raise AudioPaLMError(f"audio {path} does not exist")
    try:
        samples, found = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioPaLMError(f"audio {path} cannot be decoded: {error}") from None
    if len(samples) == 0:
        raise AudioPaLMError(f"audio {path} holds no samples")
    if not np.isfinite(samples).all():
        raise AudioPaLMError(f"audio {path} holds samples that are not numbers")
    return resample(samples.mean(axis=1), found, rate)


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    """Polyphase resampling of `[T]` from `source` to `target` Hz."""
    if source == target:
        return samples
    divisor = gcd(source, target)
    return resample_poly(samples, target // divisor, source // divisor).astype(np.float32)


def write_audio(path: str | Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write `[T]` float samples as 16-bit PCM; the format follows the suffix (.wav, .flac)."""
    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), np.clip(samples, -1.0, 1.0), rate, subtype="PCM_16")
