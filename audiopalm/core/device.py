"""Where stages run. Trainings of the language model have Lightning Fabric for that (audiopalm/training/parallel.py)."""

import torch
from torch import nn

from audiopalm.core.errors import AudioPaLMError


def best_device() -> torch.device:
    """One GPU where torch finds any (`CUDA_VISIBLE_DEVICES=` hides them), or the CPU. No GPU has been tried yet."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def usable_device(name: str | torch.device) -> torch.device:
    """The device `name`, or for `auto` the best one; AudioPaLMError where this machine or its PyTorch has none."""
    try:
        device = best_device() if name == "auto" else torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise AudioPaLMError(f"the device {str(name)!r} cannot be used here ({reason[:80]}); give cpu, or cuda on a "
                             "machine with a GPU") from None
    return device


def device_of(module: nn.Module) -> torch.device:
    """That of its parameters."""
    return next(module.parameters()).device
