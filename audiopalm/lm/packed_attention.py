"""Attention within the documents of packed rows, and the one place where its kernel is chosen by device.

| device | precision, model | kernel | reason |
| --- | --- | --- | --- |
| CPU | all | products with a dense mask: `DenseAttention` | the fastest one there |
| CUDA | 16 bits, no cap on scores | FlashAttention: `VariableLengthAttention` | no mask, and nothing to compile |
| CUDA | float32, or a cap (Gemma 2) | Flex attention: `FlexAttention` | FlashAttention has neither |

Neither CUDA kernel copies grouped keys or waits for the device: what shapes depend on is counted on the host (`Sizes`).
The decode step has its own choice in audiopalm/lm/generation/cache.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from audiopalm.lm.attention import attend, attention_bias
from audiopalm.lm.packed_sizes import Sizes

# (queries [B, heads, T, head_dim], keys and values [B, kv_heads, T, head_dim], scale, cap) -> [B, heads, T, head_dim];
# scale and cap as in audiopalm/lm/attention.py
Attend = Callable[[Tensor, Tensor, Tensor, float | None, float | None], Tensor]

FLASH_DTYPES = (torch.bfloat16, torch.float16)
FLASH_HEAD_DIM, FLASH_HEAD_STEP = 256, 8  # FlashAttention takes heads up to this size, in multiples


def packed_attention(segments: Tensor, sizes: Sizes, window: int | None, dtype: torch.dtype, head_dim: int,
                     cap: float | None) -> dict[bool, Attend]:
    """{whether a layer has the window: its attention} in rows of documents numbered by `segments` int64 `[B, T]`.

    A token attends to the tokens of its document up to itself, in a layer with the window to the last `window` of
    them. Padding (segment 0) is a document too. dtype: that of queries and keys.
    """
    if segments.device.type == "cpu":
        return dense_attention(packed_mask(segments), window)
    from audiopalm.lm import cuda_attention  # it imports torch's compiler, which takes a second

    flash = dtype in FLASH_DTYPES and cap is None and head_dim <= FLASH_HEAD_DIM and head_dim % FLASH_HEAD_STEP == 0
    kernel = cuda_attention.VariableLengthAttention if flash else cuda_attention.FlexAttention
    attends: dict[bool, Attend] = {False: kernel(segments, sizes, None)}
    if window is not None:
        attends[True] = kernel(segments, sizes, window)
    return attends


def dense_attention(mask: Tensor, window: int | None) -> dict[bool, Attend]:
    """The same by a mask bool `[B, 1, T, S]`, True where a query attends to a key."""
    attends: dict[bool, Attend] = {False: DenseAttention(mask)}
    if window is not None:
        attends[True] = DenseAttention(within_window(mask, window))
    return attends


class DenseAttention:
    """Attention under a mask in memory. bias: of `attention_bias`, `[B, 1, T, S]`."""

    def __init__(self, mask: Tensor):
        self.bias = attention_bias(mask)

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float | None,
                 cap: float | None) -> Tensor:
        groups = queries.shape[1] // keys.shape[1]
        return attend(queries, per_query_head(keys, groups), per_query_head(values, groups), self.bias, scale, cap)


def packed_mask(segments: Tensor) -> Tensor:
    """Causal, block-diagonal attention mask: bool `[B, 1, T, T]` from segments `[B, T]`.

    Padding (segment 0) attends to padding only.
    """
    length = segments.shape[1]
    same_document = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return (same_document & causal)[:, None]


def within_window(mask: Tensor, window: int) -> Tensor:
    """`mask` `[B, 1, T, S]` without the keys that are `window` or more tokens before the query.

    The last query is at the last key. Documents are contiguous, so the distance in a row is that in the document.
    """
    queries, keys = mask.shape[-2:]
    return mask & torch.ones(queries, keys, dtype=torch.bool, device=mask.device).triu(keys - queries - window + 1)


def per_query_head(heads: Tensor, groups: int) -> Tensor:
    """Keys or values `[B, kv_heads, S, head_dim]`, each repeated for the `groups` query heads that it serves."""
    return heads if groups == 1 else heads.repeat_interleave(groups, dim=1)
