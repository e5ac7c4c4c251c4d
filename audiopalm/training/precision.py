"""float32 or bfloat16: chosen by measuring, because only some processors have units for bfloat16."""

import logging
import os
import time
from pathlib import Path

import torch

from audiopalm.core.partials import partial_path

PRECISIONS = ("auto", "32-true", "bf16-mixed")  # the last two are Lightning Fabric's names
MIN_SPEEDUP = 1.3  # bfloat16 products must be this much faster, because conversions take time


def matrix_seconds(dtype: torch.dtype, size: int = 1024, device: str | torch.device = "cpu") -> float:
    """Seconds for the product of two matrices `[size, size]`, the best of 5."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for a GPU, which has only begun
        best = min(best, time.perf_counter() - start)
    return best


def peak_operations(dtype: torch.dtype, device: str | torch.device = "cpu") -> float:
    """Operations per second in matrix products, the best of several sizes: small products do not reach the peak."""
    sizes = (512, 1024, 2048) if torch.device(device).type == "cpu" else (2048, 4096, 8192)
    return max(2 * size ** 3 / matrix_seconds(dtype, size, device) for size in sizes)


def choose_precision(wanted: str, output: str | Path) -> str:
    """Replace `auto` by bf16-mixed where that is faster, else by 32-true; return other PRECISIONS unchanged.

    The choice is stored in `output`/precision.txt. A resumed run and all processes of a run read it there, because a
    measurement depends on the load of the machine.
    """
    if wanted != "auto":
        return wanted
    path = Path(output) / "precision.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = partial_path(path)
        temporary.write_text(measured_precision(), encoding="utf-8")
        try:
            os.link(temporary, path)  # fails in all processes but the first
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                temporary.replace(path)
        temporary.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8")


def measured_precision() -> str:
    """bf16-mixed or 32-true: on a GPU by what it supports, on a CPU by the measured speed of matrix products."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    speed = matrix_seconds(torch.float32) / matrix_seconds(torch.bfloat16)
    chosen = "bf16-mixed" if speed >= MIN_SPEEDUP else "32-true"
    logging.info("precision %s: bfloat16 products take %.2f times as long as float32 here", chosen, 1 / speed)
    return chosen


def full_precision(device: torch.device) -> torch.autocast:
    """A context in which autocast is off: spectra and losses are computed in float32."""
    return torch.autocast(device.type, enabled=False)
