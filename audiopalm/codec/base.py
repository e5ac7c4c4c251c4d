"""What every codec offers: speech <-> ids of several levels at a fixed frame rate."""

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from audiopalm.core.errors import AudioPaLMError

MADE_BY = "stage 4 (codec)"


class Codec(ABC):
    """Recordings float32 `[T]` at 16 kHz <-> ids int64 `[frames, levels]`, `frames = ceil(T * rate / 16000)`."""

    rate: int  # frames per second
    levels: int  # ids of one frame, coarse to fine
    size: int  # ids of one level are 0 .. size - 1

    @abstractmethod
    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        """Recordings `[T]` -> ids `[frames, levels]` each; what else is in the list changes nothing."""

    @abstractmethod
    def decode(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Ids `[frames, q]`, q <= levels, the finest left out -> recordings `[frames * 16000 / rate]` each."""

    def codebooks(self) -> Tensor | None:
        """The vectors behind the ids, `[levels, size, dim]` float32, which an acoustic model may start from."""
        return None

    def check_ids(self, ids: np.ndarray) -> np.ndarray:
        """`ids` as int64; raises AudioPaLMError for a wrong shape or an id outside the codebooks."""
        ids = np.asarray(ids, dtype=np.int64)
        if ids.ndim != 2 or len(ids) == 0 or not 1 <= ids.shape[1] <= self.levels:
            raise AudioPaLMError(f"codec ids must be [frames, 1 to {self.levels}], found shape {list(ids.shape)}")
        if ids.min() < 0 or ids.max() >= self.size:
            raise AudioPaLMError(f"codec ids must be 0 to {self.size - 1}, found {ids.min()} to {ids.max()}")
        return ids
