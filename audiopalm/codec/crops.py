"""Crops of recordings: the training examples of both codecs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.config import ranged
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.audio_archive import read_part
from audiopalm.data.speech import SpeechList, open_speech

DEV_CROPS = 32


@dataclass
class CropConfig:
    """A micro-batch: `crops` crops of `crop_seconds` seconds each."""

    crops: int = ranged(16, low=2)
    crop_seconds: float = ranged(1.28, above=0)

    @property
    def samples(self) -> int:
        """The samples of a crop at 16 kHz."""
        return round(self.crop_seconds * SAMPLE_RATE)


def make_crops(speech: SpeechList, number: int, length: int, random: np.random.Generator) -> Tensor:
    """Random crops of random recordings at random loudness, float32 `[number, length]`.

    The probability of a recording is proportional to its length. Shorter recordings are padded with zeros.
    """
    crops = np.zeros((number, length), dtype=np.float32)
    drawn = np.searchsorted(speech.cumulated, random.random(number), side="right").tolist()
    for row, index in zip(crops, drawn, strict=True):
        recording = speech[index]
        start = int(random.integers(max(1, recording.samples - length + 1)))
        samples = read_part(recording.path, start, length)
        row[:len(samples)] = samples * random.uniform(0.4, 1.1)
    return torch.from_numpy(crops)


def dev_crops(dev: str | Path | None, config: CropConfig) -> Tensor | None:
    """Crops of the dev set, float32 `[DEV_CROPS, samples]`, the same at every call; None without a dev set."""
    return None if dev is None else make_crops(open_speech(dev), DEV_CROPS, config.samples, np.random.default_rng(0))
