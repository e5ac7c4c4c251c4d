"""Training of `usm-v2` units: CTC on the plain encoder, k-means on its latents, CTC through the quantiser."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import jiwer
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from audiopalm.core.config import ranged
from audiopalm.core.device import device_of
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import no_grad
from audiopalm.core.kmeans import kmeans
from audiopalm.data.distortion import DistortionConfig
from audiopalm.data.speech import Speech
from audiopalm.training.batches import load_ahead
from audiopalm.training.config import TrainingConfig
from audiopalm.training.loop import Loss, Run, Training, Weights, run_training
from audiopalm.training.optimizer import OptimizerConfig, UpdateGroup, update_group
from audiopalm.training.parallel import world_size
from audiopalm.training.precision import full_precision
from audiopalm.training.record import made_from_speech
from audiopalm.units.encoder import HOP
from audiopalm.units.mel_conformer import measure_scale, positions_of, valid_mask
from audiopalm.units.registry import save_units
from audiopalm.units.speech_batches import (
    RandomDistortion,
    SpeechBatch,
    SpeechBatchConfig,
    augment,
    dev_batches,
    make_batch,
    plan_batches,
    select_speech,
)
from audiopalm.units.usm_v2 import UnitConfig, UnitModel

SCALE_BATCHES = 4  # the scale of log-mels is measured on this many of the first batches


@dataclass
class UnitTraining:
    """conf/units.yaml for `kind: usm-v2`."""

    RENAMED: ClassVar[dict[str, str]] = {
        "batch_seconds": "batch.seconds", "longest_seconds": "batch.longest_seconds",
        "plain_steps": "quantise_from", "quantised_steps": "training.steps, less quantise_from",
        "learning_rate": "optimizer.learning_rate", "warmup": "optimizer.warmup_steps",
        "weight_decay": "optimizer.weight_decay", "bf16": "training.precision",
        "checkpoint_every": "training.save_every"}

    kind: str = "usm-v2"
    model: UnitConfig = field(default_factory=UnitConfig)
    batch: SpeechBatchConfig = field(default_factory=SpeechBatchConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=1800))
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(
        learning_rate=5e-4, warmup_steps=40, weight_decay=0.01))  # 1e-3 stays on the plateau of blanks
    quantise_from: int = ranged(1300, low=1)  # first step with the quantiser
    short_steps: int = ranged(400, low=0)  # the first steps, on the shortest recordings: CTC converges sooner
    short_share: float = ranged(0.2, above=0, high=1)  # the fraction of recordings that these steps use
    augment_from: int = ranged(250, low=0)  # first step with augmentation and distortion
    distortion: DistortionConfig = field(default_factory=lambda: DistortionConfig(share=0.0))
    kmeans_batches: int = ranged(150, low=1)
    commitment: float = ranged(0.1, low=0)  # weight of the pull of latents to their codes
    spectrum: float = ranged(1.0, low=0)  # weight of the spectrum's squared error


def train_units(data: str | Path, config: UnitTraining, output: Path, seed: int, dev: str | Path | None = None) -> None:
    """Train on the speech of a data directory, and write config.json, model.safetensors and log.jsonl to `output`.

    Raises AudioPaLMError if no steps remain for the quantiser.
    """
    if config.quantise_from >= config.training.steps:
        raise AudioPaLMError(f"quantise_from is {config.quantise_from}, training.steps {config.training.steps}: the "
                             "quantiser needs steps of its own")
    made_from = made_from_speech(config, seed, data, dev)
    if world_size() > 1:
        # The codebook moves with the micro-batches of all processes together, and with those of one process in turn.
        made_from["processes"] = world_size()
    run = Run(output, "model.safetensors", seed, config.training, made_from)
    run_training(run, lambda fabric: UsmTraining(config, data, dev, output, seed, fabric))


class UsmTraining(Training):
    """The CTC loss and the spectrum loss, from step `quantise_from` on through the quantiser."""

    def __init__(self, config: UnitTraining, data: str | Path, dev: str | Path | None, output: Path, seed: int,
                 fabric: Fabric):
        self.config, self.output, self.seed, self.device = config, output, seed, fabric.device
        self.speech = select_speech(data, config.batch, with_text=True)
        config.model.characters = self.speech.characters()
        self.dev = dev_batches(dev, config.batch, with_text=True)
        self.model = UnitModel(config.model).to(fabric.device)
        self.modules = {"model": self.model}
        self.comparable_from, self.quantised = config.quantise_from, False
        per_step = config.training.micro_batches
        self.number = config.training.steps * per_step  # micro-batches of the training; those of k-means come after
        self.first_distorted = config.augment_from * per_step
        self.plan = plan_batches(self.speech, config.batch, self.number + config.kmeans_batches, seed,
                                 config.short_steps * per_step, config.short_share)

    def load(self, number: int) -> SpeechBatch:
        config, distortion = self.config, None
        if self.first_distorted <= number < self.number and config.distortion.share > 0:
            distortion = RandomDistortion(config.distortion, self.speech, config.batch.longest_seconds,
                                          (self.seed, number))
        recordings = [self.speech[index] for index in self.plan[number].tolist()]
        return make_batch(recordings, config.model.characters, distortion)

    def update_groups(self) -> dict[str, UpdateGroup]:
        return {"model": update_group(self.model, self.config.optimizer, self.config.training.steps)}

    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[SpeechBatch]:
        return load_ahead(self.load, numbers, self.config.training.workers)

    def begin_step(self, step: int) -> bool:
        self.quantised = step >= self.config.quantise_from
        if step == 0:
            batches = [self.load(number).to(self.device) for number in range(min(SCALE_BATCHES, self.number))]
            measure_scale(self.model, [(batch.samples, batch.frames) for batch in batches])
        elif step == self.config.quantise_from:
            batches = [self.load(self.number + number) for number in range(self.config.kmeans_batches)]
            start_codebook(self.model, batches, self.seed)
        return step in (0, self.config.quantise_from)

    def step(self, batch: SpeechBatch, step: int) -> Iterator[Loss]:
        ctc, heard, pull = self.losses(batch.to(self.device), step >= self.config.augment_from)
        total = ctc + self.config.commitment * self.config.model.code_dim * pull + self.config.spectrum * heard
        yield Loss(total, values={"ctc": (ctc.detach(), 1), "spectrum": (heard.detach(), 1)})

    def losses(self, batch: SpeechBatch, augmented: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The CTC loss in nats per character, and the squared errors of the spectrum and of latents to their codes."""
        model = self.model
        with torch.no_grad(), full_precision(self.device):
            mel, clean, frames = model.log_mel(batch.samples), model.log_mel(batch.clean), batch.frames
            if augmented:
                mel, clean, frames = augment(mel, clean, frames, model.mean)
            spoken = valid_mask(frames, mel.shape[1] // 4)
            positions, valid = positions_of(spoken, mel.device), spoken.to(mel.device, non_blocking=True)
            spectrum = voiceless(model, clean, valid)
        latents = codes = model.encode(mel, valid)
        pull = latents.new_zeros(())
        if self.quantised:
            spoken_latents = latents.flatten(0, 1).index_select(0, positions)
            quantised, _ = model.quantiser(spoken_latents)
            codes = latents.flatten(0, 1).index_copy(0, positions, quantised).view_as(latents)
            pull = functional.mse_loss(spoken_latents, quantised.detach())
        scores, sound = model.classify(codes, valid), model.sound(codes)
        ctc = functional.ctc_loss(scores.transpose(0, 1), batch.targets, frames, batch.target_lengths, reduction="sum",
                                  zero_infinity=True) / max(len(batch.targets), 1)
        frames_of_mel = (4 * positions[:, None] + torch.arange(4, device=positions.device)).flatten()
        heard = functional.mse_loss(*(log_mel.flatten(0, 1).index_select(0, frames_of_mel)
                                      for log_mel in (sound, spectrum)))
        return ctc, heard, pull

    def evaluate(self) -> dict[str, float]:
        """Means over the dev batches. `loss` is the training loss without the pull to the codes."""
        if not self.dev:
            return {}
        by_batch = [self.losses(make_batch(items, self.config.model.characters).to(self.device), augmented=False)
                    for items in self.dev]
        ctc, heard = (sum(float(losses[number]) for losses in by_batch) / len(by_batch) for number in (0, 1))
        return {"ctc": ctc, "spectrum": heard, "loss": ctc + self.config.spectrum * heard}

    def utterances(self, batch: SpeechBatch) -> list[str]:
        return batch.paths

    def finish(self, weights: Weights) -> None:
        save_units(self.model, self.output)


def voiceless(model: UnitModel, mel: Tensor, valid: Tensor) -> Tensor:
    """Scaled log-mels `[B, 4 T, bands]` minus their mean over the recording, which represents voice and channel."""
    scaled = (mel - model.mean) / model.scale
    weight = valid.repeat_interleave(4, dim=1)[:, :, None].float()
    return scaled - (scaled * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


@no_grad
def start_codebook(model: UnitModel, batches: list[SpeechBatch], seed: int) -> None:
    """Set the codebook by k-means on latents of speech without augmentation."""
    model.eval()
    latents = []
    for batch in batches:
        batch = batch.to(device_of(model))
        valid = valid_mask(batch.frames, batch.samples.shape[1] // HOP).to(device_of(model))
        latents.append(model.encode(model.log_mel(batch.samples), valid)[valid])
    centroids = kmeans(torch.cat(latents).cpu().numpy(), len(model.codebook), seed)
    model.quantiser.start(torch.from_numpy(centroids))
    logging.info("codebook of %d codes from %d latents", len(model.quantiser.codebook), sum(map(len, latents)))


@no_grad
def character_error_rate(model: UnitModel, speech: list[Speech]) -> float:
    """The character error rate of CTC after the quantiser, on the recordings with a text."""
    model.eval()
    items = [item for item in speech if item.text]
    heard = []
    for item in items:
        batch = make_batch([item], model.config.characters).to(device_of(model))
        valid = valid_mask(batch.frames, int(batch.frames.max())).to(device_of(model))
        codes, _ = model.quantiser(model.encode(model.log_mel(batch.samples), valid)[0])
        heard.append(model.text(model.classify(codes[None], valid)[0]))
    return jiwer.cer([item.text for item in items], heard)
