"""The device that a stage runs on. Trainings get theirs from Lightning Fabric (audiopalm/training/parallel.py)."""

import os
import socket

import torch
from torch import nn

from audiopalm.core.errors import AudioPaLMError

GPU_REQUESTED = "AUDIOPALM_GPU"  # 1 in the environment of a job that has asked its launcher for GPUs


def check_gpu() -> None:
    """Raise AudioPaLMError in a job that has asked for a GPU if torch finds none: it would run on the CPU for weeks."""
    if os.environ.get(GPU_REQUESTED) == "1" and not torch.cuda.is_available():
        reason = "the build of torch has no CUDA" if torch.version.cuda is None else "torch finds none"
        raise AudioPaLMError(f"this job has asked for a GPU, but on {socket.gethostname()} {reason} (torch "
                             f"{torch.__version__}); AUDIOPALM_DEVICE=gpu tools/setup.sh installs the build with CUDA, "
                             "and --ngpu 0 runs on the CPU")


def best_device() -> torch.device:
    """One GPU where torch finds any (`CUDA_VISIBLE_DEVICES=` hides them), otherwise the CPU. No GPU has been tried.

    Raises AudioPaLMError as `check_gpu` does.
    """
    check_gpu()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def usable_device(name: str | torch.device) -> torch.device:
    """The device `name`, or the best device for `auto`. Raises AudioPaLMError for a device that cannot be used."""
    try:
        device = best_device() if name == "auto" else torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise AudioPaLMError(f"the device {str(name)!r} cannot be used here ({reason[:80]}); give cpu, or cuda on a "
                             "machine with a GPU") from None
    return device


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's parameters."""
    return next(module.parameters()).device
