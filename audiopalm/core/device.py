"""Where stages run. Trainings of the language model have Lightning Fabric for that (audiopalm/training/parallel.py)."""

import torch
from torch import nn


def best_device() -> torch.device:
    """One GPU where torch finds any (`CUDA_VISIBLE_DEVICES=` hides them), or the CPU. No GPU has been tried yet."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(module: nn.Module) -> torch.device:
    """That of its parameters."""
    return next(module.parameters()).device
