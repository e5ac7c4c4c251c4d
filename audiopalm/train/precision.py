"""What training in bfloat16 needs on a CPU."""

import torch


def prefer_plain_attention() -> None:
    """Attention by matrix products instead of the fused kernel, which takes twice as long in bfloat16 on a CPU."""
    torch.backends.cuda.enable_flash_sdp(False)  # the names say cuda; the flags hold for every device
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
