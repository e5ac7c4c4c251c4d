"""The voice prompt: speech as units and codec tokens, of one fixed length in training and in generation."""

import numpy as np

from audiopalm.core.errors import AudioPaLMError

UNITS_RATE = 25  # Hz
FRAMES_PER_UNIT = 2  # codec frames (50 Hz) per unit (25 Hz)


def align(units: np.ndarray, codec: np.ndarray) -> np.ndarray:
    """Codec tokens cut or extended to `[2 * len(units), levels]`; an extension repeats the last frame.

    units: `[T]`. codec: `[frames, levels]`. For an odd number of codec frames the last unit has only one frame, so at
    most one frame is missing. Raises AudioPaLMError if there is no unit or no codec frame.
    """
    if len(units) == 0 or len(codec) == 0:
        raise AudioPaLMError("a voice prompt without a single unit and codec frame cannot be used")
    return codec[np.minimum(np.arange(FRAMES_PER_UNIT * len(units)), len(codec) - 1)]


def fit_prompt(units: np.ndarray, codec: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Exactly `length` units and `2 * length` codec frames: a shorter prompt is repeated, a longer prompt is cut.

    Arguments and errors as in `align`.
    """
    codec = align(units, codec)
    unit_index = np.arange(length) % len(units)
    frame_index = np.arange(FRAMES_PER_UNIT * length) % len(codec)
    return units[unit_index], codec[frame_index]
