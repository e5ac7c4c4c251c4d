"""The interface of a tokenizer's speech encoder: samples in, features at 25 Hz out."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from audiopalm.data.audio import SAMPLE_RATE

HOP = 640  # samples per unit: 25 Hz
MEL_HOP = 160  # samples per mel frame: 100 Hz
RATE = SAMPLE_RATE // HOP  # units per second


class SpeechEncoder(nn.Module):
    """An encoder and the codebook of its features. `config` is a dataclass with `size`, the number of codes."""

    config: Any
    codebook: Tensor  # float32 [size, dim of the features]

    def features(self, samples: Tensor) -> Iterator[Tensor]:
        """Samples `[T]` at 16 kHz -> features in consecutive parts `[t, dim]` of bounded length.

        A row is one unit; all parts together have ceil(T / 640) rows.
        """
        raise NotImplementedError


def count_units(samples: int) -> int:
    """The number of units of a recording of `samples` samples; the last unit may be partly padding."""
    return -(-samples // HOP)


def pad_to_units(samples: Tensor) -> Tensor:
    """Samples `[T]` with zeros appended up to a whole number of units."""
    return nn.functional.pad(samples, (0, count_units(len(samples)) * HOP - len(samples)))
