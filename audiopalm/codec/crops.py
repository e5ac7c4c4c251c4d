"""Crops of recordings, which the trainings of both codecs learn from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.config import ranged
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.audio_archive import read_part
from audiopalm.data.speech import SpeechList, open_speech
from audiopalm.training.record import hash_data, settings_of

DEV_CROPS = 32


@dataclass
class CropConfig:
    """A micro-batch: `crops` stretches of `crop_seconds` each."""

    crops: int = ranged(16, low=2)
    crop_seconds: float = ranged(1.28, above=0)

    @property
    def samples(self) -> int:
        return round(self.crop_seconds * SAMPLE_RATE)


def make_crops(speech: SpeechList, number: int, length: int, random: np.random.Generator) -> Tensor:
    """`[number, length]`: random stretches of random recordings, longer recordings more often, at random loudness."""
    crops = np.zeros((number, length), dtype=np.float32)
    for row, index in zip(crops, np.searchsorted(speech.cumulated, random.random(number), side="right"), strict=True):
        start = int(random.integers(max(1, speech[index].samples - length + 1)))
        samples = read_part(speech[index].path, start, length)
        row[:len(samples)] = samples * random.uniform(0.4, 1.1)
    return torch.from_numpy(crops)


def dev_crops(dev: str | Path | None, config: CropConfig) -> Tensor | None:
    """`[DEV_CROPS, samples]` of the dev set, always the same ones; None without a dev set."""
    return None if dev is None else make_crops(open_speech(dev), DEV_CROPS, config.samples, np.random.default_rng(0))


def made_from(config: Any, seed: int, data: str | Path, dev: str | Path | None) -> dict[str, Any]:
    """Everything that changes the codec that is trained."""
    return {"config": settings_of(config), "seed": seed, "data": hash_data(data), "dev": hash_data(dev)}
