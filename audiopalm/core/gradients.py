"""PyTorch's decorators that switch gradients off, with types: the type checker counts torch as untyped."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.inference_mode()` as a decorator: the results can never enter a backward pass."""
    return torch.inference_mode()(function)


def no_grad(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.no_grad()` as a decorator: operations are not recorded. The results may enter a later backward pass."""
    return torch.no_grad()(function)
