"""The voice prompt: a fixed stretch of speech as units and codec tokens; its length is the same in training and use."""

import numpy as np

from audiopalm.core.errors import AudioPaLMError

UNITS_RATE = 25  # Hz
FRAMES_PER_UNIT = 2  # 50 Hz codec frames for each 25 Hz unit


def align(units: np.ndarray, codec: np.ndarray) -> np.ndarray:
    """Codec tokens `[2 * len(units), levels]`: the last frame is repeated or surplus frames dropped.

    An odd number of codec frames belongs to one unit more than half of it, so at most one frame is missing.
    """
    if len(units) == 0 or len(codec) == 0:
        raise AudioPaLMError("a voice prompt without a single unit and codec frame cannot be used")
    return codec[np.minimum(np.arange(FRAMES_PER_UNIT * len(units)), len(codec) - 1)]


def fit_prompt(units: np.ndarray, codec: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Exactly `length` units and `2 * length` codec frames: repeated when shorter, cut when longer."""
    codec = align(units, codec)
    unit_index = np.arange(length) % len(units)
    frame_index = np.arange(FRAMES_PER_UNIT * length) % len(codec)
    return units[unit_index], codec[frame_index]
