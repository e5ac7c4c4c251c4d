"""PyTorch's decorators that switch gradients off, with types: the type checker counts torch as untyped."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.inference_mode()` as a decorator: the function's tensors can never take part in a backward pass."""
    return torch.inference_mode()(function)


def no_grad(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.no_grad()` as a decorator: the function records no gradients, its tensors may still get some later."""
    return torch.no_grad()(function)
