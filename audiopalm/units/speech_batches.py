"""Batches of recordings with their texts for the trainings of audio tokenizers, and augmentation of log-mels."""

import itertools
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiopalm.core.config import ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.distortion import DistortionConfig, distort, join
from audiopalm.data.speech import Speech, length_batches, list_speech
from audiopalm.units.encoder import HOP


@dataclass
class SpeechBatchConfig:
    """A micro-batch: recordings of similar length, `seconds` in all with their padding."""

    seconds: float = ranged(12.0, above=0)
    longest_seconds: float = ranged(16.0, above=0)  # longer recordings are left out
    dev_recordings: int = ranged(64, low=1)  # of the dev set, evenly spread


def select_speech(data: str | Path, config: SpeechBatchConfig, with_text: bool) -> list[Speech]:
    """The recordings of a data directory that batches may hold; says how many are left out and why.

    Raises AudioPaLMError where none is left.
    """
    every = list_speech(data)
    short = [item for item in every if item.samples <= config.longest_seconds * SAMPLE_RATE]
    speech = [item for item in short if item.text or not with_text]
    for number, reason in ((len(every) - len(short), f"longer than batch.longest_seconds ({config.longest_seconds:g})"),
                           (len(short) - len(speech), "without a text")):
        if number:
            logging.warning("left out %d of %d recordings of %s: %s", number, len(every), data, reason)
    if not speech:
        raise AudioPaLMError(f"{data} has no recording of at most {config.longest_seconds:g} s"
                             f"{' with a text' if with_text else ''}; raise batch.longest_seconds")
    logging.info("read %s: %d recordings, %.1f h", data, len(speech),
                 sum(item.samples for item in speech) / SAMPLE_RATE / 3600)
    return speech


def dev_batches(data: str | Path | None, config: SpeechBatchConfig, with_text: bool) -> list[list[Speech]]:
    """Recordings of the dev set in batches, always the same ones; none without a dev set."""
    if data is None:
        return []
    speech = select_speech(data, config, with_text)
    speech = speech[::-(-len(speech) // config.dev_recordings)]
    lengths = [item.samples for item in speech]
    batches, seen = [], 0
    for batch in length_batches(lengths, int(config.seconds * SAMPLE_RATE), 0):
        batches.append([speech[index] for index in batch])
        seen += len(batch)
        if seen == len(speech):
            return batches
    return batches


def plan_batches(speech: list[Speech], config: SpeechBatchConfig, number: int, seed: int, short: int = 0,
                 short_share: float = 1.0) -> list[list[int]]:
    """Indices into `speech` of `number` batches; the first `short` of them have the shortest `short_share` only."""
    most = int(config.seconds * SAMPLE_RATE)
    by_length = np.argsort([item.samples for item in speech], kind="stable")
    shortest = by_length[:max(1, int(len(speech) * short_share))].tolist()
    first = itertools.islice(length_batches([speech[index].samples for index in shortest], most, seed), short)
    rest = itertools.islice(length_batches([item.samples for item in speech], most, seed), number - short)
    return [[shortest[index] for index in batch] for batch in first] + list(rest)


@dataclass
class SpeechBatch:
    samples: Tensor  # [B, T] at 16 kHz, as the encoder hears them
    clean: Tensor  # [B, T], the same without distortion
    frames: Tensor  # [B] units; stays on the host
    targets: Tensor  # [characters of all texts]
    target_lengths: Tensor  # [B]; stays on the host
    paths: list[str]  # of the recordings, for messages

    def to(self, device: torch.device) -> "SpeechBatch":
        """The same with samples and targets on `device`. Lengths stay on the host, which reads them."""
        samples, clean, targets = (tensor.to(device, non_blocking=True)
                                   for tensor in (self.samples, self.clean, self.targets))
        return SpeechBatch(samples, clean, self.frames, targets, self.target_lengths, self.paths)


def make_batch(items: list[Speech], characters: str, distortion: "RandomDistortion | None" = None) -> SpeechBatch:
    """The batch of these recordings, distorted by `distortion`."""
    index = {character: position for position, character in enumerate(characters, start=1)}
    if distortion is None:
        audio = [(samples, samples) for samples in (read_audio(item.path) for item in items)]
        texts = [item.text for item in items]
    else:
        audio, texts = zip(*(distortion.distort(item) for item in items), strict=True)
    frames = [-(-len(samples) // HOP) for samples, _ in audio]
    padded = np.zeros((2, len(audio), max(frames) * HOP), dtype=np.float32)
    for row, pair in enumerate(audio):
        for place, samples in enumerate(pair):
            padded[place, row, :len(samples)] = samples
    targets = [[index[character] for character in text if character in index] for text in texts]
    return SpeechBatch(*torch.from_numpy(padded), torch.tensor(frames), torch.tensor(sum(targets, [])),
                       torch.tensor([len(target) for target in targets]), [item.path for item in items])


class RandomDistortion:
    """Random distortions of the recordings of one batch, which `seed` decides."""

    def __init__(self, config: DistortionConfig, speech: list[Speech], longest_seconds: float, seed: tuple[int, ...]):
        self.config, self.speech, self.random = config, speech, np.random.default_rng(seed)
        self.longest = longest_seconds * SAMPLE_RATE

    def distort(self, item: Speech) -> tuple[tuple[np.ndarray, np.ndarray], str]:
        """Distorted samples `[T]`, clean samples `[T]` and the text; both recordings' texts where two are joined."""
        samples, text = read_audio(item.path), item.text
        if self.random.random() >= self.config.share:
            return (samples, samples), text
        other = self.speech[self.random.integers(len(self.speech))]
        if self.random.random() < self.config.join and other.samples + item.samples < self.longest:
            samples = join([samples, read_audio(other.path)], self.random)
            text = f"{text} {other.text}"
        return distort(samples, self.config, self.random, self.speaker), text

    def speaker(self, random: np.random.Generator) -> np.ndarray:
        """The samples of any recording, for babble."""
        return read_audio(self.speech[random.integers(len(self.speech))].path)


def augment(mel: Tensor, clean: Tensor, frames: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Other tempo, voice, channel, loudness and noise, and SpecAugment.

    Log-mels `[B, 4 T, bands]` of `frames` `[B]` units, and those of the clean speech -> both of another length, with
    their frames; the clean ones have nothing but the other tempo.
    """
    (batch, _, bands), device = mel.shape, mel.device
    tempo = torch.empty(()).uniform_(0.93, 1.08).item()
    length = max(1, round(mel.shape[1] / 4 * tempo)) * 4
    mel, clean = (functional.interpolate(one.transpose(1, 2), size=length, mode="linear").transpose(1, 2)
                  for one in (mel, clean))
    frames = (frames * tempo).ceil().long().clamp(1, length // 4)
    # Moving the formants, by one factor for each utterance, makes one voice into many.
    factor = torch.empty(batch, 1, device=device).uniform_(0.9, 1.12)
    position = (torch.arange(bands, device=device) * factor).clamp(0, bands - 1.001)
    low, weight = position.long(), position.frac()[:, None, :]
    low = low[:, None, :].expand(-1, length, -1)
    mel = mel.gather(2, low) * (1 - weight) + mel.gather(2, low + 1) * weight
    wave = torch.cos(math.pi * torch.arange(bands, device=device) / bands * torch.arange(1, 5, device=device)[:, None])
    tone = torch.randn(batch, 1, 4, device=device) * 0.2 @ wave
    mel = mel + tone + torch.empty(batch, 1, 1, device=device).uniform_(-1.5, 1.0)
    loud = mel.mean(2).amax(1)[:, None, None]
    noise = loud - torch.empty(batch, 1, 1, device=device).uniform_(3.5, 10.0)
    noise = noise + torch.randn(batch, 1, 4, device=device) * 0.5 @ wave
    mel = torch.logaddexp(mel, noise + 0.3 * torch.randn_like(mel))
    for dim, most, number in ((2, bands // 8, 1), (1, 10, 1 + length // 200)):
        places = torch.arange(mel.shape[dim], device=device)
        for _ in range(number):
            width = torch.randint(most, (batch, 1), device=device)
            start = (torch.rand(batch, 1, device=device) * mel.shape[dim]).long()
            hidden = (places >= start) & (places < start + width)
            mel = torch.where(hidden[:, None, :] if dim == 2 else hidden[:, :, None], mean, mel)
    return mel, clean, frames
