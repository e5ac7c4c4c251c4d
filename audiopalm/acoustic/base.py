"""From units and a voice prompt to codec tokens, for a batch of utterances: the code that all acoustic models share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, UNITS_RATE, fit_prompt
from audiopalm.core.config import check_fields, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import inference_mode

CONFIG, MODEL = "config.json", "model.safetensors"
MADE_BY = "stage 9 (acoustic)"
DEFAULT = "soundstorm"  # the kind of a configuration without `kind`
PROMPT_UNITS = 75  # 3 s

Prompt = tuple[np.ndarray, np.ndarray]  # units `[75]`, codec tokens `[150, levels]`
Generated = list[np.ndarray]  # codec tokens `[frames, levels]` of each utterance so far


@dataclass
class WindowConfig:
    """Long utterances are generated in windows. Each window begins with the last frames of the window before it."""

    window_seconds: float = ranged(8.0, low=0.1, high=60)
    overlap_seconds: float = ranged(1.0, low=0, high=60)
    batch_frames: int = ranged(4000, low=1, high=10 ** 6)  # maximum number of frames in a batch, padding included

    def __post_init__(self) -> None:
        check_fields(self, "generation")
        if round(self.overlap_seconds * UNITS_RATE) >= round(self.window_seconds * UNITS_RATE):
            raise AudioPaLMError(f"generation: overlap_seconds {self.overlap_seconds} must be shorter than "
                                 f"window_seconds {self.window_seconds}, by at least one unit of {1 / UNITS_RATE} s")


@dataclass
class Window:
    """Units `first` to `last` (exclusive) of an utterance; the first `overlap` frames are already generated."""

    utterance: int
    first: int
    last: int
    overlap: int

    @property
    def frames(self) -> int:
        """The number of codec frames, overlap included."""
        return FRAMES_PER_UNIT * (self.last - self.first)

    @property
    def start(self) -> int:
        """The first new frame, counted from the beginning of the utterance."""
        return FRAMES_PER_UNIT * self.first + self.overlap

    def overlap_codes(self, generated: Generated) -> np.ndarray:
        """The codec tokens of the overlap, `[overlap, levels]`."""
        return generated[self.utterance][self.start - self.overlap:self.start]


class Acoustic(ABC):
    """A trained acoustic model with its generation settings.

    meta: its config.json, with the hashes of the unit and codec models that it was trained with.
    """

    def __init__(self, model: nn.Module, generation: WindowConfig, meta: dict[str, Any] | None = None):
        self.model, self.generation, self.meta = model.eval(), generation, meta or {}

    @inference_mode
    def generate(self, units: list[np.ndarray], prompt_units: list[np.ndarray], prompt_codec: list[np.ndarray],
                 seed: int = 0, prompt_length: int = PROMPT_UNITS) -> list[np.ndarray]:
        """Codec tokens int64 `[2 * T, levels]` of each utterance, prompt not included.

        units: int `[T]` of each utterance, at 25 Hz; may be empty. prompt_units, prompt_codec: the voice prompt of each
        utterance as units, int `[P]`, and codec tokens, int `[2 * P or 2 * P - 1, levels]`; levels beyond the model's
        are ignored. prompt_length: the units that a prompt is cut or repeated to; models are trained with 75 (3 s).
        The result of an utterance depends on the seed, but not on the other utterances.

        Raises AudioPaLMError for ids out of range and for an empty prompt.
        """
        config = self.model.config
        prompts: list[Prompt] = []
        fitted: dict[tuple[int, int], Prompt] = {}
        for ids, voice_units, voice_codec in zip(units, prompt_units, prompt_codec, strict=True):
            voice = id(voice_units), id(voice_codec)
            voice_codec = np.asarray(voice_codec)[:, :config.levels]
            if voice not in fitted:  # utterances with the same voice share one object, which is encoded once
                fitted[voice] = fit_prompt(np.asarray(voice_units), voice_codec, prompt_length)
            prompts.append(fitted[voice])
            _check_range("unit", ids, config.units_size)
            _check_range("prompt unit", voice_units, config.units_size)
            _check_range("prompt codec token", voice_codec, config.codec_size)
        return self._generate(units, prompts, seed)

    @abstractmethod
    def _generate(self, units: list[np.ndarray], prompts: list[Prompt], seed: int) -> list[np.ndarray]:
        """The result of `generate` for checked units and prompts of one length."""


def _check_range(name: str, ids: np.ndarray, size: int) -> None:
    outside = np.asarray(ids)[(np.asarray(ids) < 0) | (np.asarray(ids) >= size)]
    if len(outside):
        raise AudioPaLMError(f"{name} {outside[0]} is outside 0..{size - 1} of the acoustic model")


def generate_in_windows(lengths: list[int], levels: int, config: WindowConfig,
                        extend: Callable[[list[Window], Generated], list[np.ndarray]]) -> Generated:
    """Codec tokens int64 `[2 * length, levels]` of utterances of `lengths` units.

    `extend(windows, generated)` returns the new frames `[n, levels]` of windows of similar length and equal overlap.
    """
    generated = [np.zeros((0, levels), dtype=np.int64) for _ in lengths]
    pending = [index for index, length in enumerate(lengths) if length]
    while pending:
        windows = [next_window(index, len(generated[index]), lengths[index], config) for index in pending]
        for batch in batch_windows(sorted(windows, key=lambda window: window.frames), config.batch_frames):
            for window, frames in zip(batch, extend(batch, generated), strict=True):
                generated[window.utterance] = np.concatenate([generated[window.utterance], frames])
        pending = [index for index in pending if len(generated[index]) < FRAMES_PER_UNIT * lengths[index]]
    return generated


def next_window(utterance: int, frames: int, length: int, config: WindowConfig) -> Window:
    """The next window of an utterance of `length` units after `frames` generated codec frames."""
    overlap = min(frames, FRAMES_PER_UNIT * round(config.overlap_seconds * UNITS_RATE))
    first = (frames - overlap) // FRAMES_PER_UNIT
    return Window(utterance, first, min(length, first + round(config.window_seconds * UNITS_RATE)), overlap)


def batch_windows(windows: list[Window], max_frames: int) -> list[list[Window]]:
    """Batches of consecutive windows, which are sorted by length. A batch has at most `max_frames` frames with padding.
    """
    batches: list[list[Window]] = []
    for window in windows:
        if not batches or window.frames * (len(batches[-1]) + 1) > max_frames:
            batches.append([])
        batches[-1].append(window)
    return batches


def sample_codes(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, int64 `[N]`, and their log probabilities, float32 `[N]`, from logits `[N, codes]`.

    uniform: random numbers `[N]` in [0, 1) that determine the samples. Temperature 0 takes the most probable code.
    """
    if temperature == 0:
        log_probability = logits.log_softmax(dim=-1)
        best = log_probability.max(dim=-1)
        return best.indices, best.values
    probability = (logits / temperature).softmax(dim=-1)
    cumulative = probability.cumsum(dim=-1)
    token = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    token = token.clamp(max=logits.shape[1] - 1)
    return token[:, 0], probability.gather(1, token)[:, 0].clamp(min=1e-30).log()
