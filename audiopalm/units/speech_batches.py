"""Batches of recordings with their texts for the trainings of audio tokenizers, and augmentation of log-mels."""

import itertools
import logging
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
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
from audiopalm.data.speech import Speech, SpeechList, length_batches, open_speech
from audiopalm.units.encoder import HOP


@dataclass
class SpeechBatchConfig:
    """A micro-batch: recordings of similar length, at most `seconds` in all, padding included."""

    seconds: float = ranged(12.0, above=0)
    longest_seconds: float = ranged(16.0, above=0)  # longer recordings are left out
    dev_recordings: int = ranged(64, low=1)  # recordings of the dev set, evenly spread


def select_speech(data: str | Path, config: SpeechBatchConfig, with_text: bool) -> SpeechList:
    """The recordings of a data directory that batches may contain. Logs how many are left out and why.

    Raises AudioPaLMError if none remains.
    """
    every = open_speech(data)
    short = every.where(every.samples <= config.longest_seconds * SAMPLE_RATE)
    speech = short.where(short.has_text) if with_text else short
    for number, reason in ((len(every) - len(short), f"longer than batch.longest_seconds ({config.longest_seconds:g})"),
                           (len(short) - len(speech), "without a text")):
        if number:
            logging.warning("left out %d of %d recordings of %s: %s", number, len(every), data, reason)
    if not len(speech):
        raise AudioPaLMError(f"{data} has no recording of at most {config.longest_seconds:g} s"
                             f"{' with a text' if with_text else ''}; raise batch.longest_seconds")
    logging.info("opened %s: %d recordings, %.1f h", data, len(speech),
                 speech.samples.sum() / SAMPLE_RATE / 3600)
    return speech


def dev_batches(data: str | Path | None, config: SpeechBatchConfig, with_text: bool) -> list[list[Speech]]:
    """Recordings of the dev set in batches, the same at every call; empty without a dev set."""
    if data is None:
        return []
    speech = select_speech(data, config, with_text)
    speech = speech[::-(-len(speech) // config.dev_recordings)]
    batches: list[list[Speech]] = []
    seen = 0
    for batch in length_batches(speech.samples, int(config.seconds * SAMPLE_RATE), 0):
        batches.append([speech[index] for index in batch.tolist()])
        seen += len(batch)
        if seen == len(speech):
            return batches
    return batches


def plan_batches(speech: SpeechList, config: SpeechBatchConfig, number: int, seed: int, short: int = 0,
                 short_share: float = 1.0) -> "BatchPlan":
    """`number` batches of indices into `speech`.

    The first `short` batches, or all if there are fewer, use only the shortest recordings, a fraction `short_share` of
    all.
    """
    most, short = int(config.seconds * SAMPLE_RATE), min(short, number)
    shortest = np.argsort(speech.samples, kind="stable")[:max(1, int(len(speech) * short_share))]
    first = itertools.islice(length_batches(speech.samples[shortest], most, seed), short)
    rest = itertools.islice(length_batches(speech.samples, most, seed), number - short)
    return BatchPlan(itertools.chain((shortest[batch] for batch in first), rest))


class BatchPlan:
    """Batches of indices, int32 arrays, stored in one array. Lists of Python would take ten times the memory."""

    def __init__(self, batches: Iterable[np.ndarray]):
        sizes = array("i")
        self._indices = np.fromiter(_counted(batches, sizes), dtype=np.int32)
        self._begins = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._begins) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return self._indices[self._begins[number]:self._begins[number + 1]]


def _counted(batches: Iterable[np.ndarray], sizes: "array[int]") -> Iterator[int]:
    """The indices of all batches; the sizes of the batches are appended to `sizes`."""
    for batch in batches:
        sizes.append(len(batch))
        yield from batch.tolist()


@dataclass
class SpeechBatch:
    """A batch of recordings with their texts as classes of CTC."""

    samples: Tensor  # float32 [B, T] at 16 kHz, the encoder's input
    clean: Tensor  # float32 [B, T], the same recordings without distortion
    frames: Tensor  # int64 [B], lengths in units; stays on the host
    targets: Tensor  # int64 [characters of all texts]
    target_lengths: Tensor  # int64 [B]; stays on the host
    paths: list[str]  # of the recordings, for messages

    def to(self, device: torch.device) -> "SpeechBatch":
        """This batch with samples and targets on `device`. Lengths stay on the host, which reads them."""
        samples, clean, targets = (tensor.to(device, non_blocking=True)
                                   for tensor in (self.samples, self.clean, self.targets))
        return SpeechBatch(samples, clean, self.frames, targets, self.target_lengths, self.paths)


def make_batch(items: list[Speech], characters: str, distortion: "RandomDistortion | None" = None) -> SpeechBatch:
    """The batch of these recordings, distorted by `distortion`; class i of CTC is the character `characters[i - 1]`."""
    index = {character: position for position, character in enumerate(characters, start=1)}
    examples = [_undistorted(item) if distortion is None else distortion.distort(item) for item in items]
    frames = [-(-len(samples) // HOP) for (samples, _), _ in examples]
    samples, clean = np.zeros((2, len(examples), max(frames) * HOP), dtype=np.float32)
    for row, ((distorted, undistorted), _) in enumerate(examples):
        samples[row, :len(distorted)] = distorted
        clean[row, :len(undistorted)] = undistorted
    targets = [[index[character] for character in text if character in index] for _, text in examples]
    return SpeechBatch(torch.from_numpy(samples), torch.from_numpy(clean), torch.tensor(frames),
                       torch.tensor(sum(targets, [])), torch.tensor([len(target) for target in targets]),
                       [item.path for item in items])


def _undistorted(item: Speech) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    samples = read_audio(item.path)
    return (samples, samples), item.text


class RandomDistortion:
    """Random distortions of the recordings of one batch, reproducible from `seed`."""

    def __init__(self, config: DistortionConfig, speech: Sequence[Speech], longest_seconds: float,
                 seed: tuple[int, ...]):
        self.config, self.speech, self.random = config, speech, np.random.default_rng(seed)
        self.longest = longest_seconds * SAMPLE_RATE

    def distort(self, item: Speech) -> tuple[tuple[np.ndarray, np.ndarray], str]:
        """Distorted and clean samples, float32 `[T]` each, and the text; two joined recordings have both texts."""
        samples, text = read_audio(item.path), item.text
        if self.random.random() >= self.config.share:
            return (samples, samples), text
        other = self.speech[int(self.random.integers(len(self.speech)))]
        if self.random.random() < self.config.join and other.samples + item.samples < self.longest:
            samples = join([samples, read_audio(other.path)], self.random)
            text = f"{text} {other.text}"
        return distort(samples, self.config, self.random, self.speaker), text

    def speaker(self, random: np.random.Generator) -> np.ndarray:
        """The samples of a random recording, for babble noise."""
        return read_audio(self.speech[int(random.integers(len(self.speech)))].path)


def augment(mel: Tensor, clean: Tensor, frames: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Random tempo, voice, channel, loudness and noise, and SpecAugment.

    mel, clean: log-mels `[B, 4 T, bands]` of the speech and of its clean version. frames: `[B]`, their units. mean:
    `[bands]`, the value of masked bands and frames. Returns both log-mels, of another length, and their units. Only the
    tempo of `clean` changes.
    """
    (batch, _, bands), device = mel.shape, mel.device
    tempo = torch.empty(()).uniform_(0.93, 1.08).item()
    length = max(1, round(mel.shape[1] / 4 * tempo)) * 4
    mel, clean = (functional.interpolate(log_mel.transpose(1, 2), size=length, mode="linear").transpose(1, 2)
                  for log_mel in (mel, clean))
    frames = (frames * tempo).ceil().long().clamp(1, length // 4)
    # Shifting the formants by a factor per utterance changes the voice.
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
        positions = torch.arange(mel.shape[dim], device=device)
        for _ in range(number):
            width = torch.randint(most, (batch, 1), device=device)
            start = (torch.rand(batch, 1, device=device) * mel.shape[dim]).long()
            hidden = (positions >= start) & (positions < start + width)
            mel = torch.where(hidden[:, None, :] if dim == 2 else hidden[:, :, None], mean, mel)
    return mel, clean, frames
