"""The interface of codecs: speech <-> ids of several levels at a fixed frame rate."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE

MADE_BY = "stage 4 (codec)"
FRAME_RATE = 50  # Hz, of every codec: acoustic models generate two frames for each unit


def check_hop(hop: int) -> None:
    """Raise AudioPaLMError unless `hop` samples per frame give FRAME_RATE frames a second."""
    if hop * FRAME_RATE != SAMPLE_RATE:
        raise AudioPaLMError(f"codec: {hop} samples per frame are {SAMPLE_RATE / hop:g} frames a second, but acoustic "
                             f"models need {FRAME_RATE}: {SAMPLE_RATE // FRAME_RATE} samples")


class Codec(ABC):
    """Recordings float32 `[T]` at 16 kHz <-> ids int64 `[frames, levels]`, `frames = ceil(T * rate / 16000)`."""

    rate: int  # frames per second
    levels: int  # ids per frame, coarse to fine
    size: int  # codes per level; ids are 0 .. size - 1

    @classmethod
    @abstractmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> "Codec":
        """Read config.json and model.safetensors. Raises AudioPaLMError for missing or damaged files."""

    @abstractmethod
    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        """Recordings, float32 `[T]` at 16 kHz -> ids, int64 `[frames, levels]` each.

        The ids of a recording do not depend on the other recordings.
        """

    @abstractmethod
    def decode(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Ids of the q coarsest levels, int `[frames, q]` -> recordings, float32 `[frames * 16000 / rate]` each.

        Raises AudioPaLMError as `check_ids` does.
        """

    def codebooks(self) -> Tensor | None:
        """The vectors of the codes, float32 `[levels, size, dim]`, for the initial embeddings of acoustic models.

        None if the codec has no such vectors.
        """
        return None

    def check_ids(self, ids: np.ndarray) -> np.ndarray:
        """`ids` as int64. Raises AudioPaLMError for a wrong shape or an id out of range."""
        ids = np.asarray(ids, dtype=np.int64)
        if ids.ndim != 2 or len(ids) == 0 or not 1 <= ids.shape[1] <= self.levels:
            raise AudioPaLMError(f"codec ids must be [frames, 1 to {self.levels}], found shape {list(ids.shape)}")
        if ids.min() < 0 or ids.max() >= self.size:
            raise AudioPaLMError(f"codec ids must be 0 to {self.size - 1}, found {ids.min()} to {ids.max()}")
        return ids


def in_batches(convert: Callable[[list[np.ndarray]], list[np.ndarray]], items: list[np.ndarray],
               most: int) -> list[np.ndarray]:
    """The results of `convert` for `items`, which is called with batches.

    The items `[T, ...]` of a batch have similar lengths and equal other axes. Their lengths add up to at most `most`,
    padding included.
    """
    converted: dict[int, np.ndarray] = {}
    batch: list[int] = []
    order = sorted(range(len(items)), key=lambda index: (items[index].shape[1:], len(items[index])))
    for position, index in enumerate(order):
        batch.append(index)
        following = items[order[position + 1]] if position + 1 < len(order) else None
        if (following is None or following.shape[1:] != items[index].shape[1:]
                or len(following) * (len(batch) + 1) > most):
            converted |= dict(zip(batch, convert([items[member] for member in batch]), strict=True))
            batch = []
    return [converted[index] for index in range(len(items))]


def pad_together(items: list[np.ndarray]) -> np.ndarray:
    """Arrays `[T, ...]` -> an array `[B, longest T, ...]`, with zeros at the ends."""
    padded = np.zeros((len(items), max(map(len, items)), *items[0].shape[1:]), dtype=items[0].dtype)
    for row, item in zip(padded, items, strict=True):
        row[:len(item)] = item
    return padded


def padding_mask(lengths: list[int], device: torch.device) -> Tensor | None:
    """float32 `[B, longest, 1]`, 1 on frames and 0 on padding; None if all lengths are equal."""
    if min(lengths) == max(lengths):
        return None
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return mask[..., None].float().to(device, non_blocking=True)
