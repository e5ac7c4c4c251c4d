"""The section `optimizer:` of every configuration: the optimizers, the learning-rate schedule, gradient clipping."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from audiopalm.core.config import chosen, ranged
from audiopalm.training.adafactor import Adafactor
from audiopalm.training.muon import Muon
from audiopalm.training.parallel import whole

# {schedule: (fraction of the decay that is done, final rate / peak rate) -> rate / peak rate}. The paper's PaLM runs
# are `constant`, its PaLM-2 runs `exponential`.
SHAPES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda done, floor: 1.0,
    "exponential": lambda done, floor: max(floor, 1e-8) ** done,
    "cosine": lambda done, floor: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)),
}

NAMES = ("adamw", "adafactor", "muon")
OUTPUT_LAYERS = ("head", "ctc")  # names of the layers that output logits: their weights do not decay
Optimizers = dict[str, torch.optim.Optimizer]  # {name in checkpoints: optimizer}
Schedule = Callable[[int], float]  # step, from 0 -> learning rate


@dataclass
class OptimizerConfig:
    """An optimizer, its learning-rate schedule (warm-up, then `schedule` down to `final_rate`) and clipping."""

    name: str = chosen("adamw", NAMES)
    learning_rate: float = ranged(2e-3, above=0)  # at its peak, after the warm-up
    final_rate: float = ranged(1e-5, low=0)
    warmup_steps: int = ranged(100, low=0)
    schedule: str = chosen("cosine", tuple(SHAPES))
    betas: tuple[float, float] = ranged((0.9, 0.98), low=0, high=0.99999)  # of AdamW
    weight_decay: float = ranged(0.1, low=0)
    clip: float = ranged(1.0, above=0)  # largest norm of the gradient


def learning_rate(config: OptimizerConfig, steps: int) -> Schedule:
    """The schedule over `steps` steps: a linear warm-up, then the shape that `config.schedule` names."""
    floor = config.final_rate / config.learning_rate

    def rate(step: int) -> float:
        ramp = min((step + 1) / max(config.warmup_steps, 1), 1.0)
        done = min(max(step - config.warmup_steps, 0) / max(steps - config.warmup_steps, 1), 1.0)
        return config.learning_rate * ramp * SHAPES[config.schedule](done, floor)

    return rate


def make_optimizers(config: OptimizerConfig, model: nn.Module) -> Optimizers:
    """`adamw`, `adafactor` (the paper's, 3.5) or `muon` for all parameters that require gradients.

    Weight decay applies to the matrices of linear layers only. With `muon`, Muon (arXiv 2502.16982) updates these
    matrices, and AdamW all other parameters; the learning rate of both is on AdamW's scale. The paper does not use
    Muon; small models need fewer steps with it.
    """
    matrices = [module.weight for name, module in model.named_modules()
                if isinstance(module, nn.Linear) and name not in OUTPUT_LAYERS and module.weight.requires_grad]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in chosen]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": config.weight_decay},
                                    {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw":
        return {"optimizer": _adamw(groups, config)}
    if config.name == "adafactor":
        return {"optimizer": Adafactor(groups, lr=config.learning_rate)}
    muon = Muon(matrices, config.learning_rate, config.weight_decay)
    return {"optimizer": muon, "adamw": _adamw(groups[1:], config)}


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=tuple(config.betas), eps=1e-9, fused=True)


@dataclass
class UpdateGroup:
    """The parameters of `module`, updated together after a backward pass, by `optimizers` at the rate of `schedule`.

    `clip` is the largest norm of their gradients. Parameters whose name contains a word of `clip_apart` are clipped to
    the same norm separately. This is for the embedding: at a zero audio row the first RMSNorm has derivative
    1/sqrt(eps), so in the first steps after the vocabulary is extended the embedding's gradient is huge, and clipping
    all gradients together would shrink the other gradients to almost nothing.
    """

    module: nn.Module
    optimizers: Optimizers
    schedule: Schedule
    clip: float = 1.0
    clip_apart: tuple[str, ...] = field(default=())

    def parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def clip_gradients(self) -> None:
        """Clip the gradients, those of `clip_apart` separately."""
        apart = [parameter for name, parameter in self.module.named_parameters()
                 if any(word in name for word in self.clip_apart)]
        separate = {id(parameter) for parameter in apart}
        clip(apart, self.clip)
        clip([parameter for parameter in self.module.parameters() if id(parameter) not in separate], self.clip)

    def update(self, step: int) -> None:
        """Clip the gradients, let every optimizer make its step, and drop the gradients."""
        self.clip_gradients()
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.schedule(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def update_group(module: nn.Module, config: OptimizerConfig, steps: int,
                 clip_apart: tuple[str, ...] = ()) -> UpdateGroup:
    """All parameters of `module`, updated as `config` says in a training of `steps` steps."""
    return UpdateGroup(module, make_optimizers(config, module), learning_rate(config, steps), config.clip, clip_apart)


def clip(parameters: Iterable[Tensor], limit: float) -> None:
    """Scale the gradients of `parameters` so that their common norm is at most `limit`.

    Sharded gradients count in full, so every process must call this.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if parameters:
        norm = whole(torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters]))
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
