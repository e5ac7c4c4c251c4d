"""Training of `usm-v2` units: CTC on the plain encoder, k-means on its latents, CTC through the quantiser."""

import itertools
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import jiwer
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiopalm.core.config import to_dict
from audiopalm.core.device import best_device, device_of
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.speech import Speech, ahead, length_batches, list_speech
from audiopalm.training.checkpoint import Snapshots, seed_step
from audiopalm.training.log import StepLog
from audiopalm.training.optimizer import OptimizerConfig, Optimizers, make_optimizers, set_rate, update
from audiopalm.units.encoder import HOP
from audiopalm.units.mel_conformer import measure_scale, valid_mask
from audiopalm.units.registry import save_units
from audiopalm.units.usm_v2 import UnitConfig, UnitModel


@dataclass
class UnitTraining:
    kind: str = "usm-v2"
    model: UnitConfig = field(default_factory=UnitConfig)
    batch_seconds: float = 12.0  # padding included
    longest_seconds: float = 16.0  # longer recordings are left out
    plain_steps: int = 1300  # without the quantiser
    quantised_steps: int = 500
    short_steps: int = 400  # the first of the plain steps, on the shortest recordings: CTC finds its way sooner
    short_share: float = 0.2  # of the recordings
    augment_from: int = 250  # first step with augmentation
    kmeans_batches: int = 150
    commitment: float = 0.1  # weight of the pull of latents to their codes
    spectrum: float = 1.0  # weight of the squared error of the spectrum, so that a unit says what its 40 ms sound like
    optimizer: str = "adamw"  # or muon
    learning_rate: float = 5e-4  # 1e-3 stays on the plateau of blanks
    warmup: int = 40
    weight_decay: float = 0.01
    bf16: bool = False
    checkpoint_every: int = 100


@dataclass
class Batch:
    samples: Tensor  # [B, T]
    frames: Tensor  # [B] units
    targets: Tensor  # [characters of all texts]
    target_lengths: Tensor  # [B]

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in (self.samples, self.frames, self.targets, self.target_lengths)))


def make_batch(items: list[Speech], characters: str) -> Batch:
    index = {character: position for position, character in enumerate(characters, start=1)}
    audio = [read_audio(item.path) for item in items]
    frames = [-(-len(samples) // HOP) for samples in audio]
    padded = np.zeros((len(audio), max(frames) * HOP), dtype=np.float32)
    for row, samples in zip(padded, audio, strict=True):
        row[:len(samples)] = samples
    texts = [[index[character] for character in item.text if character in index] for item in items]
    return Batch(torch.from_numpy(padded), torch.tensor(frames), torch.tensor(sum(texts, [])),
                 torch.tensor([len(text) for text in texts]))


def augment(mel: Tensor, frames: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Other tempo, voice, channel, loudness and noise, and SpecAugment.

    Log-mels `[B, 4 T, bands]` of `frames` `[B]` units -> the same of another length, their frames, and the log-mels
    with nothing but the other tempo.
    """
    (batch, _, bands), device = mel.shape, mel.device
    tempo = torch.empty(()).uniform_(0.93, 1.08).item()
    length = max(1, round(mel.shape[1] / 4 * tempo)) * 4
    mel = functional.interpolate(mel.transpose(1, 2), size=length, mode="linear").transpose(1, 2)
    frames = (frames * tempo).ceil().long().clamp(1, length // 4)
    clean = mel
    # Moving the formants, by one factor for each utterance, makes one voice into many.
    factor = torch.empty(batch, 1, device=device).uniform_(0.92, 1.08)
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
    return mel, frames, clean


def train_units(data: str | Path, config: UnitTraining, output: Path, seed: int) -> None:
    """Train on the speech of a data directory; write config.json, model.safetensors, log.jsonl."""
    speech = [item for item in list_speech(data) if item.samples <= config.longest_seconds * SAMPLE_RATE and item.text]
    if not speech:
        raise AudioPaLMError(f"{data} has no recording of at most {config.longest_seconds} s with a text")
    config.model.characters = "".join(sorted({character for item in speech for character in item.text}))
    logging.info("read %s: %d recordings, %.1f h, %d characters", data, len(speech),
                 sum(item.samples for item in speech) / SAMPLE_RATE / 3600, len(config.model.characters))
    torch.manual_seed(seed)
    device = best_device()
    model = UnitModel(config.model).to(device)
    optimizers = make_optimizers(OptimizerConfig(config.optimizer, config.learning_rate,
                                                 weight_decay=config.weight_decay), model)
    total = config.plain_steps + config.quantised_steps
    batches = plan_batches(speech, config, seed)

    def load(number: int) -> Batch:
        return make_batch([speech[index] for index in batches[number]], config.model.characters)

    snapshots = Snapshots(output, {"config": to_dict(config), "seed": seed})
    first = (snapshots.load({"model": model}, optimizers) or {"step": 0})["step"]
    if first == 0:
        measure_scale(model, [(batch.samples.to(device), batch.frames.to(device))
                              for batch in map(load, range(min(4, total)))])
    output.mkdir(parents=True, exist_ok=True)
    log, started = StepLog(output / "log.jsonl", first), time.monotonic()
    for step, batch in zip(range(first, total), ahead(load, first, total), strict=True):
        seed_step(seed, step)
        quantised = step >= config.plain_steps
        if step == config.plain_steps:
            start_codebook(model, [load(total + number) for number in range(config.kmeans_batches)], seed)
        set_rate(optimizers, config.learning_rate * schedule(step, config.warmup, total))
        loss, heard = train_step(model, optimizers, batch.to(device), quantised, step >= config.augment_from, config)
        if step % 20 == 0 or step + 1 == total:
            seconds = round(time.monotonic() - started, 1)
            log.write(step=step + 1, loss=round(loss, 4), spectrum=round(heard, 4), quantised=quantised,
                      seconds=seconds)
            logging.info("step %d/%d loss %.3f, spectrum %.3f%s, %.0f s", step + 1, total, loss, heard,
                         " (quantised)" * quantised, seconds)
        if (step + 1) % config.checkpoint_every == 0:
            snapshots.save({"model": model}, optimizers, {"step": step + 1})
    save_units(model, output)
    snapshots.remove()


def plan_batches(speech: list[Speech], config: UnitTraining, seed: int) -> list[list[int]]:
    """Indices into `speech` for every step, then for the k-means codebook."""
    most = int(config.batch_seconds * SAMPLE_RATE)
    by_length = np.argsort([item.samples for item in speech], kind="stable")
    short = by_length[:max(1, int(len(speech) * config.short_share))].tolist()
    first = itertools.islice(length_batches([speech[index].samples for index in short], most, seed), config.short_steps)
    rest = length_batches([item.samples for item in speech], most, seed)
    others = config.plain_steps + config.quantised_steps + config.kmeans_batches - config.short_steps
    return [[short[index] for index in batch] for batch in first] + list(itertools.islice(rest, others))


def schedule(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2


def train_step(model: UnitModel, optimizers: Optimizers, batch: Batch, quantised: bool,
               augmented: bool, config: UnitTraining) -> tuple[float, float]:
    """One step; the losses of CTC, nats a character, and of the spectrum."""
    model.train()
    with torch.no_grad():
        mel, frames = model.log_mel(batch.samples), batch.frames
        clean = mel
        if augmented:
            mel, frames, clean = augment(mel, frames, model.mean)
    valid = valid_mask(frames, mel.shape[1] // 4)
    spectrum = voiceless(model, clean, valid)
    with torch.autocast(mel.device.type, torch.bfloat16, enabled=config.bf16):
        latents = codes = model.encode(mel, valid)
        if quantised:
            codes = latents.clone()
            codes[valid], _ = model.quantiser(latents[valid])
        scores, sound = model.classify(codes, valid), model.sound(codes)
    loss = functional.ctc_loss(scores.transpose(0, 1), batch.targets, frames, batch.target_lengths, reduction="sum",
                               zero_infinity=True) / max(len(batch.targets), 1)
    spoken = valid.repeat_interleave(4, dim=1)
    pull = functional.mse_loss(latents[valid], codes[valid].detach()) if quantised else 0.0
    heard = functional.mse_loss(sound[spoken], spectrum[spoken])
    (loss + config.commitment * config.model.code_dim * pull + config.spectrum * heard).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    update(optimizers)
    return loss.item(), heard.item()


def voiceless(model: UnitModel, mel: Tensor, valid: Tensor) -> Tensor:
    """Scaled log-mels `[B, 4 T, bands]` less their mean over the recording, which is voice and channel."""
    scaled = (mel - model.mean) / model.scale
    weight = valid.repeat_interleave(4, dim=1)[:, :, None].float()
    return scaled - (scaled * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


@torch.no_grad()
def start_codebook(model: UnitModel, batches: list[Batch], seed: int) -> None:
    """Set the codebook by k-means on latents of speech as it is, without augmentation."""
    model.eval()
    latents = []
    for batch in batches:
        batch = batch.to(device_of(model))
        valid = valid_mask(batch.frames, batch.samples.shape[1] // HOP)
        latents.append(model.encode(model.log_mel(batch.samples), valid)[valid])
    model.quantiser.start(torch.cat(latents).cpu().numpy(), seed)
    logging.info("codebook of %d codes from %d latents", len(model.quantiser.codebook), sum(map(len, latents)))


@torch.no_grad()
def character_error_rate(model: UnitModel, speech: list[Speech]) -> float:
    """Of CTC behind the quantiser, on the recordings that have a text."""
    model.eval()
    items = [item for item in speech if item.text]
    heard = []
    for item in items:
        batch = make_batch([item], model.config.characters).to(device_of(model))
        valid = valid_mask(batch.frames, int(batch.frames.max()))
        codes, _ = model.quantiser(model.encode(model.log_mel(batch.samples), valid)[0])
        heard.append(model.text(model.classify(codes[None], valid)[0]))
    return jiwer.cer([item.text for item in items], heard)
