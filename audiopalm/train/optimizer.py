"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from audiopalm.errors import AudioPaLMError, nearest


@dataclass
class OptimizerConfig:
    name: str = "adamw"
    learning_rate: float = 2e-3  # the peak
    final_rate: float = 1e-5  # what the schedule decays to
    warmup_steps: int = 100
    schedule: str = "cosine"
    weight_decay: float = 0.1
    clip: float = 1.0  # largest norm of the gradient


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, or Adafactor as in the paper (3.5); matrices decay, vectors and embeddings do not."""
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and "embedding" not in name]
    kept = [p for name, p in model.named_parameters() if p.dim() <= 1 or "embedding" in name]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-9)
    if config.name == "adafactor":
        return torch.optim.Adafactor(groups, lr=config.learning_rate)
    raise AudioPaLMError(f"optimizer: unknown name {config.name!r}; {nearest(config.name, ['adamw', 'adafactor'])}")


def learning_rate(config: OptimizerConfig, steps: int) -> Callable[[int], float]:
    """Step (from 0) -> learning rate.

    `constant` (the paper's PaLM runs), `exponential` (its PaLM-2 runs: ramp up, then exponential decay) or `cosine`.
    """
    shapes = {
        "constant": lambda done: 1.0,
        "exponential": lambda done: (config.final_rate / config.learning_rate) ** done,
        "cosine": lambda done: (config.final_rate / config.learning_rate)
        + (1 - config.final_rate / config.learning_rate) * 0.5 * (1 + math.cos(math.pi * done)),
    }
    if config.schedule not in shapes:
        raise AudioPaLMError(f"optimizer: unknown schedule {config.schedule!r}; {nearest(config.schedule, shapes)}")
    shape = shapes[config.schedule]

    def rate(step: int) -> float:
        ramp = min((step + 1) / max(config.warmup_steps, 1), 1.0)
        done = min(max(step - config.warmup_steps, 0) / max(steps - config.warmup_steps, 1), 1.0)
        return config.learning_rate * ramp * shape(done)

    return rate


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Clip embeddings and the rest each to norm `limit`; return the norm of the rest.

    Apart, because at a zero audio row the first RMSNorm has derivative 1/sqrt(eps): in the first steps after the
    vocabulary is extended the embedding's gradient is huge and would shrink everybody else's to nothing.
    """
    embeddings = [p for name, p in model.named_parameters() if "embedding" in name]
    rest = [p for name, p in model.named_parameters() if "embedding" not in name]
    torch.nn.utils.clip_grad_norm_(embeddings, limit)
    return float(torch.nn.utils.clip_grad_norm_(rest, limit))
