"""What a speech encoder of a tokenizer is: samples in, features at 25 Hz out."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from audiopalm.data.audio import SAMPLE_RATE

HOP = 640  # samples of one unit: 25 Hz
MEL_HOP = 160  # samples of one mel frame: 100 Hz
RATE = SAMPLE_RATE // HOP  # units a second


class SpeechEncoder(nn.Module):
    """An encoder with a codebook behind it. `config` is a dataclass with `size`, the number of codes."""

    config: Any
    codebook: Tensor  # [size, dim of the features]

    def features(self, samples: Tensor) -> Iterator[Tensor]:
        """`[T]` at 16 kHz -> parts `[t, dim]`, of bounded length and ceil(T / 640) rows in all, one row a unit."""
        raise NotImplementedError


def count_units(samples: int) -> int:
    return -(-samples // HOP)


def pad_to_units(samples: Tensor) -> Tensor:
    """Zeros behind `[T]`, up to a whole number of units."""
    return nn.functional.pad(samples, (0, count_units(len(samples)) * HOP - len(samples)))
