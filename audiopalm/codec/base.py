"""The interface of codecs: speech <-> ids of several levels at a fixed frame rate."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.errors import AudioPaLMError

MADE_BY = "stage 4 (codec)"


class Codec(ABC):
    """Recordings float32 `[T]` at 16 kHz <-> ids int64 `[frames, levels]`, `frames = ceil(T * rate / 16000)`."""

    rate: int  # frames per second
    levels: int  # ids per frame, coarse to fine
    size: int  # codes per level; ids are 0 .. size - 1

    @abstractmethod
    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        """Recordings `[T]` -> ids `[frames, levels]` each. A result does not depend on the other recordings."""

    @abstractmethod
    def decode(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Ids of the q coarsest levels, `[frames, q]` -> recordings `[frames * 16000 / rate]` each."""

    def codebooks(self) -> Tensor | None:
        """The vectors of the codes, float32 `[levels, size, dim]`, for the initial embeddings of acoustic models."""
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
    """What `convert` makes of `items`, given to it in lists of similar lengths and as many levels: at most `most` in
    all, padding included."""
    found: dict[int, np.ndarray] = {}
    batch: list[int] = []
    order = sorted(range(len(items)), key=lambda index: (items[index].shape[1:], len(items[index])))
    for place, index in enumerate(order):
        batch.append(index)
        following = items[order[place + 1]] if place + 1 < len(order) else None
        if (following is None or following.shape[1:] != items[index].shape[1:]
                or len(following) * (len(batch) + 1) > most):
            found |= dict(zip(batch, convert([items[one] for one in batch]), strict=True))
            batch = []
    return [found[index] for index in range(len(items))]


def pad_together(items: list[np.ndarray]) -> np.ndarray:
    """Arrays `[T, ...]` -> one `[B, longest T, ...]`, with zeros at the ends."""
    padded = np.zeros((len(items), max(map(len, items)), *items[0].shape[1:]), dtype=items[0].dtype)
    for row, item in zip(padded, items, strict=True):
        row[:len(item)] = item
    return padded


def padding_mask(lengths: list[int], device: torch.device) -> Tensor | None:
    """float32 `[B, longest, 1]`, 0 on padding; None where all lengths are equal."""
    if min(lengths) == max(lengths):
        return None
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return mask[..., None].float().to(device, non_blocking=True)
