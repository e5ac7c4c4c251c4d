"""The `log-mel` kind, a baseline without a trained encoder: k-means clusters of log-mel frames of 40 ms."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.data.mel import LogMel
from audiopalm.units.encoder import MEL_HOP, SpeechEncoder, pad_to_units


@dataclass
class LogMelConfig:
    """config.json for `kind: log-mel`."""

    bands: int = ranged(80, low=1, high=MAX_SIZE)
    size: int = ranged(1024, low=1, high=MAX_SIZE)  # codes


class LogMelUnits(SpeechEncoder):
    """The features of a unit are four concatenated log-mel frames of 10 ms."""

    def __init__(self, config: LogMelConfig):
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config.bands, n_fft=512, hop=MEL_HOP)
        self.register_buffer("codebook", torch.zeros(config.size, 4 * config.bands))

    def features(self, samples: Tensor) -> Iterator[Tensor]:
        yield self.log_mel(pad_to_units(samples)[None])[0].reshape(-1, 4 * self.config.bands)
