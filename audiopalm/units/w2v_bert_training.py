"""Training of `w2v-bert` units: contrastive loss and masked prediction on speech without texts, then k-means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor

from audiopalm.core.config import ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import no_grad
from audiopalm.core.kmeans import kmeans
from audiopalm.training.batches import load_ahead
from audiopalm.training.config import TrainingConfig
from audiopalm.training.loop import Loss, Run, Training, Weights, run_training
from audiopalm.training.optimizer import OptimizerConfig, UpdateGroup, update_group
from audiopalm.training.precision import full_precision
from audiopalm.training.record import made_from_speech
from audiopalm.units.kmeans_training import KMeansConfig, fit_codebook
from audiopalm.units.mel_conformer import measure_scale, positions_of, valid_mask
from audiopalm.units.registry import save_units
from audiopalm.units.speech_batches import (
    SpeechBatch,
    SpeechBatchConfig,
    dev_batches,
    make_batch,
    plan_batches,
    select_speech,
)
from audiopalm.units.w2v_bert import W2vBert, W2vBertConfig, draw_mask


@dataclass
class W2vBertTraining:
    """conf/units.yaml for `kind: w2v-bert`."""

    RENAMED: ClassVar[dict[str, str]] = {
        "steps": "training.steps", "batch_seconds": "batch.seconds", "longest_seconds": "batch.longest_seconds",
        "learning_rate": "optimizer.learning_rate", "warmup": "optimizer.warmup_steps",
        "weight_decay": "optimizer.weight_decay", "checkpoint_every": "training.save_every"}

    kind: str = "w2v-bert"
    model: W2vBertConfig = field(default_factory=W2vBertConfig)
    batch: SpeechBatchConfig = field(default_factory=lambda: SpeechBatchConfig(seconds=240, longest_seconds=30))
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=100_000, save_every=1000,
                                                                            validate_every=1000))
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(
        learning_rate=5e-4, warmup_steps=2000, weight_decay=0.01))
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)
    target_batches: int = ranged(16, low=1)  # batches whose frames are clustered into the codes that training predicts
    mask_start: float = ranged(0.08, above=0, high=1)  # the fraction of frames that begin a masked span
    mask_span: int = ranged(5, low=1)  # frames of 40 ms


def train_w2v_bert(data: str | Path, config: W2vBertTraining, output: Path, seed: int,
                   dev: str | Path | None = None) -> None:
    """Train on the speech of a data directory, and write config.json, model.safetensors and log.jsonl to `output`.

    Raises AudioPaLMError if `config.model.layer` is not one of the blocks.
    """
    depth = config.model.contrastive_blocks + config.model.masked_blocks
    if not 1 <= config.model.layer <= depth:
        raise AudioPaLMError(f"model.layer is {config.model.layer}, there are blocks 1 to {depth}")
    run = Run(output, "model.safetensors", seed, config.training, made_from_speech(config, seed, data, dev))
    run_training(run, lambda fabric: W2vBertUnits(config, data, dev, output, seed, fabric))


class W2vBertUnits(Training):
    """The contrastive and the masked loss. The codebook is clustered after the training of the encoder."""

    def __init__(self, config: W2vBertTraining, data: str | Path, dev: str | Path | None, output: Path, seed: int,
                 fabric: Fabric):
        self.config, self.output, self.seed, self.device = config, output, seed, fabric.device
        self.speech = select_speech(data, config.batch, with_text=False)
        self.dev = dev_batches(dev, config.batch, with_text=False)
        self.model = W2vBert(config.model).to(fabric.device)
        self.modules = {"model": self.model}
        number = config.training.steps * config.training.micro_batches
        self.plan = plan_batches(self.speech, config.batch, number, seed)

    def load(self, number: int) -> SpeechBatch:
        return make_batch([self.speech[index] for index in self.plan[number].tolist()], "")

    def update_groups(self) -> dict[str, UpdateGroup]:
        return {"model": update_group(self.model, self.config.optimizer, self.config.training.steps)}

    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[SpeechBatch]:
        return load_ahead(self.load, numbers, self.config.training.workers)

    def begin_step(self, step: int) -> bool:
        if step > 0:
            return False
        batches = [self.load(number).to(self.device)
                   for number in range(min(self.config.target_batches, len(self.plan)))]
        measure_scale(self.model, [(batch.samples, batch.frames) for batch in batches])
        start_targets(self.model, batches, self.seed)
        return True

    def step(self, batch: SpeechBatch, step: int) -> Iterator[Loss]:
        losses = self.losses(batch.to(self.device))
        yield Loss(sum(losses.values()), values={name: (loss.detach(), 1) for name, loss in losses.items()})

    def losses(self, batch: SpeechBatch) -> dict[str, Tensor]:
        valid = valid_mask(batch.frames, int(batch.frames.max()))
        masked = draw_mask(valid, self.config.mask_start, self.config.mask_span)
        valid = valid.to(batch.samples.device, non_blocking=True)
        with torch.no_grad(), full_precision(self.device):
            mel = self.model.normalise(self.model.log_mel(batch.samples), valid)
        return self.model.losses(mel, valid, masked)

    def evaluate(self) -> dict[str, float]:
        """Means over the dev batches, whose masks are the same every time. `loss` is the sum of both losses."""
        if not self.dev:
            return {}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            by_batch = [self.losses(make_batch(items, "").to(self.device)) for items in self.dev]
        means = {name: sum(float(losses[name]) for losses in by_batch) / len(by_batch) for name in by_batch[0]}
        return means | {"loss": sum(means.values())}

    def utterances(self, batch: SpeechBatch) -> list[str]:
        return batch.paths

    def finish(self, weights: Weights) -> None:
        fit_codebook(self.model, self.speech, self.config.kmeans, self.seed)
        save_units(self.model, self.output)


@no_grad
def start_targets(model: W2vBert, batches: list[SpeechBatch], seed: int) -> None:
    """Set the codes that training predicts to the k-means clusters of the frames of `batches`."""
    frames = []
    for batch in batches:
        valid = valid_mask(batch.frames, int(batch.frames.max()))
        positions = positions_of(valid, batch.samples.device)
        mel = model.normalise(model.log_mel(batch.samples), valid.to(batch.samples.device, non_blocking=True))
        frames.append(model.frames(mel).flatten(0, 1).index_select(0, positions))
    model.centres.copy_(torch.from_numpy(kmeans(torch.cat(frames).cpu().numpy(), len(model.centres), seed)))
