"""Training of `w2v-bert` units: contrastive loss and masked prediction on speech without texts, then k-means."""

import itertools
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from audiopalm.core.config import to_dict
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.quantiser import kmeans
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.speech import ahead, length_batches, list_speech
from audiopalm.training.checkpoint import Snapshots, seed_step
from audiopalm.training.log import StepLog
from audiopalm.training.optimizer import OptimizerConfig, Optimizers, make_optimizers, set_rate, update
from audiopalm.units.kmeans_training import KMeansConfig, fit_codebook
from audiopalm.units.mel_conformer import measure_scale, valid_mask
from audiopalm.units.registry import save_units
from audiopalm.units.usm_v2_training import Batch, make_batch, schedule
from audiopalm.units.w2v_bert import W2vBert, W2vBertConfig, draw_mask


@dataclass
class W2vBertTraining:
    kind: str = "w2v-bert"
    model: W2vBertConfig = field(default_factory=W2vBertConfig)
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)
    steps: int = 100000
    batch_seconds: float = 240.0  # padding included
    longest_seconds: float = 30.0  # longer recordings are left out
    target_batches: int = 16  # that the codes of training are clustered from
    mask_start: float = 0.08  # share of frames that begin a masked span
    mask_span: int = 5  # frames of 40 ms
    optimizer: str = "adamw"  # or muon
    learning_rate: float = 5e-4
    warmup: int = 2000
    weight_decay: float = 0.01
    checkpoint_every: int = 1000


def train_w2v_bert(data: str | Path, config: W2vBertTraining, output: Path, seed: int) -> None:
    """Train on the speech of a data directory; write config.json, model.safetensors, log.jsonl."""
    depth = config.model.contrastive_blocks + config.model.masked_blocks
    if not 1 <= config.model.layer <= depth:
        raise AudioPaLMError(f"model.layer is {config.model.layer}, there are blocks 1 to {depth}")
    speech = [item for item in list_speech(data) if item.samples <= config.longest_seconds * SAMPLE_RATE]
    if not speech:
        raise AudioPaLMError(f"{data} has no recording of at most {config.longest_seconds} s")
    logging.info("read %s: %d recordings, %.1f h", data, len(speech),
                 sum(item.samples for item in speech) / SAMPLE_RATE / 3600)
    torch.manual_seed(seed)
    device = best_device()
    model = W2vBert(config.model).to(device)
    optimizers = make_optimizers(OptimizerConfig(config.optimizer, config.learning_rate,
                                                 weight_decay=config.weight_decay), model)
    most = int(config.batch_seconds * SAMPLE_RATE)
    batches = list(itertools.islice(length_batches([item.samples for item in speech], most, seed), config.steps))

    def load(number: int) -> Batch:
        return make_batch([speech[index] for index in batches[number]], "")

    snapshots = Snapshots(output, {"config": to_dict(config), "seed": seed})
    first = (snapshots.load({"model": model}, optimizers) or {"step": 0})["step"]
    if first == 0:
        heard = [load(number).to(device) for number in range(min(config.target_batches, config.steps))]
        measure_scale(model, [(batch.samples, batch.frames) for batch in heard])
        start_targets(model, heard, seed)
    output.mkdir(parents=True, exist_ok=True)
    log, started = StepLog(output / "log.jsonl", first), time.monotonic()
    for step, batch in zip(range(first, config.steps), ahead(load, first, config.steps), strict=True):
        seed_step(seed, step)
        set_rate(optimizers, config.learning_rate * schedule(step, config.warmup, config.steps))
        losses = train_step(model, optimizers, batch.to(device), config)
        if step % 20 == 0 or step + 1 == config.steps:
            seconds = round(time.monotonic() - started, 1)
            log.write(step=step + 1, **{f"{name}_loss": value for name, value in losses.items()}, seconds=seconds)
            logging.info("step %d/%d %s, %.0f s", step + 1, config.steps,
                         ", ".join(f"{name} {value:.3f}" for name, value in losses.items()), seconds)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            snapshots.save({"model": model}, optimizers, {"step": step + 1})
    fit_codebook(model, speech, config.kmeans, seed)
    save_units(model, output)
    snapshots.remove()


@torch.no_grad()
def start_targets(model: W2vBert, batches: list[Batch], seed: int) -> None:
    """The codes of training: clusters of the frames of `batches`."""
    frames = [model.frames(model.log_mel(batch.samples))[valid_mask(batch.frames, int(batch.frames.max()))]
              for batch in batches]
    model.centres.copy_(torch.from_numpy(kmeans(torch.cat(frames).cpu().numpy(), len(model.centres), seed)))


def train_step(model: W2vBert, optimizers: Optimizers, batch: Batch, config: W2vBertTraining) -> dict[str, float]:
    model.train()
    valid = valid_mask(batch.frames, int(batch.frames.max()))
    masked = draw_mask(valid, config.mask_start, config.mask_span)
    losses = model.losses(model.log_mel(batch.samples), valid, masked)
    sum(losses.values()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    update(optimizers)
    return {name: round(loss.item(), 4) for name, loss in losses.items()}
