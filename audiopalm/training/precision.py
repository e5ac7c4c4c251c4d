"""float32 or bfloat16: chosen by measuring, because only some processors have units for bfloat16."""

import logging
import os
import time
from pathlib import Path

import torch

PRECISIONS = ("auto", "32-true", "bf16-mixed")  # but for auto, Lightning Fabric's names
WORTH = 1.3  # bfloat16 must be this much faster at products: some is lost on conversions


def matrix_seconds(dtype: torch.dtype, size: int = 1024, device: str | torch.device = "cpu") -> float:
    """Seconds for the product of two matrices `[size, size]`, the best of 5."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # a GPU is asked for the result, or else it would only have been told to begin
        best = min(best, time.perf_counter() - start)
    return best


def peak_operations(dtype: torch.dtype, device: str | torch.device = "cpu") -> float:
    """Operations a second of matrix products, the best over several sizes: small products do not reach the peak."""
    sizes = (512, 1024, 2048) if torch.device(device).type == "cpu" else (2048, 4096, 8192)
    return max(2 * size ** 3 / matrix_seconds(dtype, size, device) for size in sizes)


def choose_precision(wanted: str, output: str | Path) -> str:
    """`auto` becomes bf16-mixed where that is faster, else 32-true; another one of PRECISIONS stays as it is.

    The choice stands in `output`/precision.txt: a resumed run, and every process of one run, take the same, whatever
    the load of the machine makes them measure.
    """
    if wanted != "auto":
        return wanted
    path = Path(output) / "precision.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"precision.{os.getpid()}.tmp")
        temporary.write_text(measured_precision(), encoding="utf-8")
        try:
            os.link(temporary, path)  # of several processes the first decides
        except FileExistsError:
            pass
        temporary.unlink()
    return path.read_text(encoding="utf-8")


def measured_precision() -> str:
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    speed = matrix_seconds(torch.float32) / matrix_seconds(torch.bfloat16)
    chosen = "bf16-mixed" if speed >= WORTH else "32-true"
    logging.info("precision %s: bfloat16 products take %.2f times as long as float32 here", chosen, 1 / speed)
    return chosen


def full_precision(device: torch.device) -> torch.autocast:
    """A context in which autocast is off: spectra and losses are computed in float32."""
    return torch.autocast(device.type, enabled=False)
