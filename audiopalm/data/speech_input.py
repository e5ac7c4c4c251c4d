"""Conversion of a caller's speech (a file, the bytes of a file, an array, a tensor) to samples at 16 kHz."""

import operator
from pathlib import Path
from typing import Any, SupportsIndex, TypeAlias, TypeGuard

import numpy as np
import torch

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import MAX_RATE, MIN_RATE, SAMPLE_RATE, read_audio, resample

MAX_CHANNELS = 8
# The value of a full-scale sample of each integer format, and the value of silence.
FULL_SCALE = {"int16": (2.0 ** 15, 0.0), "int32": (2.0 ** 31, 0.0), "uint8": (2.0 ** 7, 128.0)}
LOUDEST = 2.0 ** 31  # floats may have the scale of an integer format; larger values are no samples

Speech: TypeAlias = str | Path | bytes | np.ndarray | torch.Tensor | tuple[Any, int]


def to_samples(speech: Speech, sampling_rate: int | None = None, what: str = "speech") -> np.ndarray:
    """Samples `[T]` float32 at 16 kHz, channels averaged.

    speech: a path, the bytes of a file, an array or tensor with `sampling_rate` in Hz, or a pair (array, rate). Arrays
    are `[T]`, `[T, channels]` or `[channels, T]`, of floats or of int16, int32 or uint8 (centred on 128). `what` names
    the argument in errors.

    Raises AudioPaLMError for other types and shapes, for a missing or impossible rate of an array, and for values that
    are not finite. The header of a file states its rate.
    """
    if isinstance(speech, tuple):
        if len(speech) != 2 or not is_array(speech[0]):
            raise AudioPaLMError(f"{what} must be (array, sampling rate) where it is a tuple, found "
                                 f"{shown_types(speech)}")
        speech, sampling_rate = speech
    if is_array(speech):
        return resample(_mono(_as_array(speech, what), what), _rate(sampling_rate, what), SAMPLE_RATE)
    if not isinstance(speech, str | Path | bytes):
        raise AudioPaLMError(f"{what} must be a path, bytes of a file, an array or a tensor, found "
                             f"{type(speech).__name__}")
    return read_audio(speech)


def is_array(value: object) -> TypeGuard[np.ndarray | torch.Tensor]:
    """Whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray | torch.Tensor)


def shown_types(values: tuple[Any, ...]) -> str:
    """The types of the values, for error messages."""
    return f"({', '.join(type(value).__name__ for value in values)})"


def _rate(value: object, what: str) -> int:
    if value is None:
        raise AudioPaLMError(f"{what} is an array, whose sampling rate is not known: give sampling_rate=, in Hz")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        rate = operator.index(value) if isinstance(value, SupportsIndex) else None
    except TypeError:  # a tensor of floats
        rate = None
    if rate is None or isinstance(value, bool) or not MIN_RATE <= rate <= MAX_RATE:
        raise AudioPaLMError(f"the sampling rate of {what} must be {MIN_RATE} to {MAX_RATE} Hz, found {value!r}")
    return rate


def _as_array(speech: np.ndarray | torch.Tensor, what: str) -> np.ndarray:
    """The samples as float32 with full scale 1. Raises AudioPaLMError for other types and for values too large."""
    if isinstance(speech, torch.Tensor):
        speech = speech.detach().cpu()
        speech = (speech.float() if speech.dtype == torch.bfloat16 else speech).numpy()
    if speech.dtype.name in FULL_SCALE:
        scale, silence = FULL_SCALE[speech.dtype.name]
        return ((speech.astype(np.float64) - silence) / scale).astype(np.float32)
    if speech.dtype.kind != "f":
        raise AudioPaLMError(f"{what} has values of type {speech.dtype}; give floats, int16, int32 or uint8")
    if not np.isfinite(speech).all():
        raise AudioPaLMError(f"{what} holds samples that are not numbers (NaN or infinite)")
    loudest = float(np.abs(speech).max(initial=0))
    if loudest > LOUDEST:
        raise AudioPaLMError(f"{what} holds values up to {loudest:.3g}, which are no samples")
    return speech.astype(np.float32)


def _mono(samples: np.ndarray, what: str) -> np.ndarray:
    """`[T]`, `[T, channels]` or `[channels, T]` -> `[T]`; the much shorter of two axes is the axis of the channels."""
    shape = list(samples.shape)
    if samples.ndim == 2 and min(shape) <= MAX_CHANNELS and max(shape) >= 100 * max(min(shape), 1):
        samples = samples.mean(axis=int(np.argmin(shape)))
    if samples.ndim != 1 or len(samples) == 0:
        raise AudioPaLMError(f"{what} must be one channel, [T], or up to {MAX_CHANNELS}, [T, channels] or "
                             f"[channels, T], found shape {shape}")
    return samples
