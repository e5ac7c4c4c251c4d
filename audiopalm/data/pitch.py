"""The pitch of recordings by librosa, for the training of the spectral codec and for measures of prosody."""

import threading
from functools import cache
from typing import Any

import numpy as np

from audiopalm.core.compiling import compiling_alone
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE

LOWEST_PITCH, HIGHEST_PITCH = 60.0, 500.0  # Hz
FRAME = 1024  # samples of a window
AGREEING = 0.04  # relative difference of two estimates of the same pitch
_one_thread = threading.Lock()


def measure_pitch(samples: np.ndarray, hop: int) -> np.ndarray:
    """Samples float32 `[B, T]` -> pitch in Hz, float32 `[B, T // hop + 1]`, 0 where speech is unvoiced.

    Both estimates are librosa's. pYIN says which frames are voiced and in which octave, on a coarse scale that makes it
    fast enough for training; YIN is more exact where it agrees. Threads may call it at the same time. Raises
    AudioPaLMError where librosa is not installed.
    """
    with _one_thread:
        librosa = _compiled_librosa()
    return _estimate(librosa, samples.astype(np.float32, copy=False), hop)


@cache
def _compiled_librosa() -> Any:
    """librosa, after a first estimate, for which numba compiles its functions or reads those that it has stored."""
    with compiling_alone():
        try:
            import librosa  # here, because its import takes seconds
        except ImportError:
            raise AudioPaLMError('the pitch of recordings needs librosa: pip install "audiopalm[train]"') from None
        _estimate(librosa, np.zeros((1, 2 * FRAME), np.float32), FRAME // 4)
    return librosa


def _estimate(librosa: Any, samples: np.ndarray, hop: int) -> np.ndarray:
    coarse = np.nan_to_num(librosa.pyin(samples, fmin=LOWEST_PITCH, fmax=HIGHEST_PITCH, sr=SAMPLE_RATE,
                                        frame_length=FRAME, hop_length=hop, resolution=0.25, n_thresholds=20)[0])
    exact = librosa.yin(samples, fmin=LOWEST_PITCH, fmax=HIGHEST_PITCH, sr=SAMPLE_RATE, frame_length=FRAME,
                        hop_length=hop)
    return np.where(np.abs(exact - coarse) < AGREEING * exact, exact, coarse).astype(np.float32)
