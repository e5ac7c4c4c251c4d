"""Units and a voice prompt to codec tokens, many utterances at once: what every kind of acoustic model shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, UNITS_RATE, fit_prompt
from audiopalm.core.errors import AudioPaLMError

CONFIG, MODEL = "config.json", "model.safetensors"
PROMPT_UNITS = 75  # 3 s

Prompt = tuple[np.ndarray, np.ndarray]  # units `[75]`, codec tokens `[150, levels]`
Made = list[np.ndarray]  # codec tokens `[frames, levels]` of each utterance so far


@dataclass
class WindowConfig:
    """Longer speech is made in windows, each going on from the one before."""

    window_seconds: float = 8.0
    overlap_seconds: float = 1.0
    batch_frames: int = 4000  # of a batch, padding included

    def __post_init__(self):
        if not 0 <= self.overlap_seconds < self.window_seconds:
            raise AudioPaLMError(f"generation: overlap_seconds {self.overlap_seconds} must be shorter than "
                                 f"window_seconds {self.window_seconds}")


@dataclass
class Window:
    """Units `first` to `last` of an utterance, of whose frames the first `known` are made already."""

    utterance: int
    first: int
    last: int
    known: int

    @property
    def frames(self) -> int:
        return FRAMES_PER_UNIT * (self.last - self.first)

    @property
    def begin(self) -> int:
        """The first frame of the utterance that is new."""
        return FRAMES_PER_UNIT * self.first + self.known

    def known_of(self, made: Made) -> np.ndarray:
        """`[known, levels]`"""
        return made[self.utterance][self.begin - self.known:self.begin]


class Acoustic(ABC):
    """A trained acoustic model with its decoding settings and the hashes of the tokens it speaks."""

    def __init__(self, model: nn.Module, generation: WindowConfig, meta: dict | None = None):
        self.model, self.generation, self.meta = model.eval(), generation, meta or {}

    @torch.inference_mode()
    def generate(self, units: list[np.ndarray], prompt_units: list[np.ndarray], prompt_codec: list[np.ndarray],
                 seed: int = 0) -> list[np.ndarray]:
        """Codec tokens int64 `[2 * T, levels]` of each utterance, prompt not included.

        units: int `[T]` at 25 Hz, may be empty; prompt_units: `[P]`, prompt_codec: `[2 * P or 2 * P - 1, levels]` of
        the same stretch of speech of the wanted voice; levels finer than the model's are left out. The result of an
        utterance depends on the seed, and not on the other utterances. Raises AudioPaLMError for ids out of range and
        for an empty prompt.
        """
        config = self.model.config
        prompts = []
        for one, prompt_one, prompt_many in zip(units, prompt_units, prompt_codec, strict=True):
            prompt_many = np.asarray(prompt_many)[:, :config.levels]
            prompts.append(fit_prompt(np.asarray(prompt_one), prompt_many, PROMPT_UNITS))
            for what, values, size in (("unit", one, config.units_size), ("prompt unit", prompt_one, config.units_size),
                                       ("prompt codec token", prompt_many, config.codec_size)):
                outside = np.asarray(values)[(np.asarray(values) < 0) | (np.asarray(values) >= size)]
                if len(outside):
                    raise AudioPaLMError(f"{what} {outside[0]} is outside 0..{size - 1} of the acoustic model")
        return self.make(units, prompts, seed)

    @abstractmethod
    def make(self, units: list[np.ndarray], prompts: list[Prompt], seed: int) -> list[np.ndarray]:
        """What `generate` returns, of checked units and prompts of exactly 3 s."""


def make_in_windows(lengths: list[int], levels: int, config: WindowConfig,
                    extend: Callable[[list[Window], Made], list[np.ndarray]]) -> Made:
    """Codec tokens int64 `[2 * length, levels]` of utterances of `lengths` units.

    `extend` makes the new frames `[n, levels]` of windows of about one length, all of which know equally many frames.
    """
    made = [np.zeros((0, levels), dtype=np.int64) for _ in lengths]
    pending = [index for index, length in enumerate(lengths) if length]
    while pending:
        windows = [next_window(index, len(made[index]), lengths[index], config) for index in pending]
        for group in batches(sorted(windows, key=lambda window: window.frames), config.batch_frames):
            for window, frames in zip(group, extend(group, made), strict=True):
                made[window.utterance] = np.concatenate([made[window.utterance], frames])
        pending = [index for index in pending if len(made[index]) < FRAMES_PER_UNIT * lengths[index]]
    return made


def next_window(utterance: int, done: int, length: int, config: WindowConfig) -> Window:
    """What to work on after `done` frames of an utterance of `length` units."""
    known = min(done, FRAMES_PER_UNIT * round(config.overlap_seconds * UNITS_RATE))
    first = (done - known) // FRAMES_PER_UNIT
    return Window(utterance, first, min(length, first + round(config.window_seconds * UNITS_RATE)), known)


def batches(windows: list[Window], most: int) -> list[list[Window]]:
    """Neighbours in length that hold at most `most` frames, padding included."""
    groups: list[list[Window]] = []
    for window in windows:
        if not groups or window.frames * (len(groups[-1]) + 1) > most:
            groups.append([])
        groups[-1].append(window)
    return groups


def choose(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Token `[N]` and its log-probability from logits `[N, codes]`: by `uniform [N]`, or the best at temperature 0."""
    if temperature == 0:
        log_probability = logits.log_softmax(dim=-1)
        best = log_probability.max(dim=-1)
        return best.indices, best.values
    probability = (logits / temperature).softmax(dim=-1)
    cumulative = probability.cumsum(dim=-1)
    token = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    token = token.clamp(max=logits.shape[1] - 1)
    return token[:, 0], probability.gather(1, token)[:, 0].clamp(min=1e-30).log()
