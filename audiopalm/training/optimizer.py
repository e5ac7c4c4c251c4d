"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.training.muon import Muon
from audiopalm.training.parallel import whole

OUTPUT_LAYERS = ("head", "ctc")  # names of layers that give logits


@dataclass
class OptimizerConfig:
    name: str = "adamw"
    learning_rate: float = 2e-3  # the peak
    final_rate: float = 1e-5  # what the schedule decays to
    warmup_steps: int = 100
    schedule: str = "cosine"
    weight_decay: float = 0.1
    clip: float = 1.0  # largest norm of the gradient


Optimizers = dict[str, torch.optim.Optimizer]  # by a name that snapshots use


def make_optimizers(config: OptimizerConfig, model: nn.Module) -> Optimizers:
    """`adamw`, `adafactor` (the paper's, 3.5) or `muon`; only matrices of linear layers decay.

    Muon (arXiv 2502.16982) orthogonalises the updates of these matrices, and AdamW has all else; its rate is on AdamW's
    scale. It is not the paper's: here because small models need fewer steps with it (egs/mini/README.md).
    """
    matrices = [module.weight for name, module in model.named_modules()
                if isinstance(module, nn.Linear) and name not in OUTPUT_LAYERS]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.name == "adamw":
        return {"optimizer": _adamw(groups, config.learning_rate)}
    if config.name == "adafactor":
        return {"optimizer": torch.optim.Adafactor(groups, lr=config.learning_rate)}
    if config.name == "muon":
        if any(isinstance(matrix, DTensor) for matrix in matrices):
            raise AudioPaLMError("optimizer: muon needs whole matrices; with strategy fsdp use adamw or adafactor")
        muon = Muon(matrices, config.learning_rate, config.weight_decay)
        return {"optimizer": muon, "adamw": _adamw(groups[1:], config.learning_rate)}
    known = ["adamw", "adafactor", "muon"]
    raise AudioPaLMError(f"optimizer: unknown name {config.name!r}; {nearest(config.name, known)}")


def _adamw(groups: list[dict], rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-9, fused=True)


def set_rate(optimizers: Optimizers, rate: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate


def update(optimizers: Optimizers) -> None:
    """One step of each, and gradients forgotten."""
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


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
    _clip(embeddings, limit)
    return _clip(rest, limit)


def _clip(parameters: list[Tensor], limit: float) -> float:
    norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return float(norm)
