"""What the trainings of both codecs share: crops of recordings, and a loop that goes on where it was stopped."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from audiopalm.core.config import to_dict
from audiopalm.core.device import device_of
from audiopalm.core.files import write_json
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.speech import Speech, ahead
from audiopalm.training.checkpoint import Snapshots, seed_step
from audiopalm.training.log import StepLog


class CropConfig(Protocol):
    batch: int  # crops
    crop_seconds: float
    checkpoint_every: int


def make_crops(speech: list[Speech], number: int, length: int, random: np.random.Generator) -> Tensor:
    """`[number, length]`: random stretches of random recordings, longer recordings more often, at random loudness."""
    shares = np.array([item.samples for item in speech], dtype=np.float64)
    crops = np.zeros((number, length), dtype=np.float32)
    for row, index in zip(crops, random.choice(len(speech), number, p=shares / shares.sum()), strict=True):
        start = int(random.integers(max(1, speech[index].samples - length + 1)))
        samples, _ = soundfile.read(speech[index].path, frames=length, start=start, dtype="float32")
        row[:len(samples)] = samples * random.uniform(0.4, 1.1)
    return torch.from_numpy(crops)


def train_on_crops(speech: list[Speech], config: CropConfig, output: Path, seed: int, total: int,
                   modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer],
                   train_step: Callable[[int, Tensor], dict[str, float]], save: Callable[[], None]) -> dict:
    """Call `train_step(step, crops [batch, samples])`, which gives losses, for all steps; then `save()` the codec.

    Crops come to the device of the first module.

    Writes log.jsonl and, last, report.json, which is returned. A run that was killed goes on from its last snapshot and
    ends with the same bits: whatever is random in a step is seeded by its number.
    """
    hours = sum(item.samples for item in speech) / SAMPLE_RATE / 3600
    logging.info("%d recordings, %.1f h", len(speech), hours)
    snapshots = Snapshots(output, {"config": to_dict(config), "seed": seed})
    first = (snapshots.load(modules, optimizers) or {"step": 0})["step"]
    output.mkdir(parents=True, exist_ok=True)
    log, started = StepLog(output / "log.jsonl", first), time.monotonic()
    length, losses, device = round(config.crop_seconds * SAMPLE_RATE), {}, device_of(next(iter(modules.values())))

    def load(number: int) -> Tensor:
        return make_crops(speech, config.batch, length, np.random.default_rng([seed, number]))

    for step, crops in zip(range(first, total), ahead(load, first, total), strict=True):
        seed_step(seed, step)
        losses = {key: round(float(value), 4) for key, value in train_step(step, crops.to(device)).items()}
        if step % 20 == 0 or step + 1 == total:
            seconds = round(time.monotonic() - started, 1)
            log.write(step=step + 1, **losses, seconds=seconds)
            shown = " ".join(f"{key} {value}" for key, value in losses.items())
            logging.info("step %d/%d %s, %.0f s", step + 1, total, shown, seconds)
        if (step + 1) % config.checkpoint_every == 0:
            snapshots.save(modules, optimizers, {"step": step + 1})
    save()
    report = {"steps": total, "seconds": round(time.monotonic() - started, 1), **losses}
    write_json(output / "report.json", report)
    snapshots.remove()
    return report


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def update(module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the optimizer, gradients clipped to a norm of 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
