"""Attention within the documents of packed rows. `packed_attention` chooses the kernel by device and precision.

| device | precision, model | kernel | reason |
| --- | --- | --- | --- |
| CPU | all | products with a dense mask: `DenseAttention` | the fastest kernel on a CPU |
| CUDA | 16 bits, no cap on scores | FlashAttention: `VariableLengthAttention` | no mask, and nothing to compile |
| CUDA | float32, or a cap (Gemma 2) | Flex attention: `FlexAttention` | FlashAttention supports neither |

Neither CUDA kernel copies grouped keys or makes the host wait: the numbers on which shapes depend are counted on the
host (`Sizes`). The attention of the decode step is chosen in audiopalm/lm/generation/cache.py.
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
FLASH_HEAD_DIM, FLASH_HEAD_STEP = 256, 8  # FlashAttention supports multiples of the second number up to the first


def packed_attention(segments: Tensor, sizes: Sizes, window: int | None, dtype: torch.dtype, head_dim: int,
                     cap: float | None) -> dict[bool, Attend]:
    """{whether a layer has the window: its attention} in rows of packed documents.

    segments: int64 `[B, T]`, the number of each token's document. A token attends to the tokens of its document up to
    itself; in a layer with the window, to the last `window` of these. Padding (segment 0) counts as a document. dtype:
    of queries and keys.
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
    """{whether a layer has the window: its attention} by a dense mask.

    mask: bool `[B, 1, T, S]`, True where a query attends to a key.
    """
    attends: dict[bool, Attend] = {False: DenseAttention(mask)}
    if window is not None:
        attends[True] = DenseAttention(within_window(mask, window))
    return attends


class DenseAttention:
    """Attention with a mask in memory. bias: of `attention_bias`, `[B, 1, T, S]`."""

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

    The last query is at the last key. Documents are contiguous, so distances in the row and in the document are equal.
    """
    queries, keys = mask.shape[-2:]
    return mask & torch.ones(queries, keys, dtype=torch.bool, device=mask.device).triu(keys - queries - window + 1)


def per_query_head(heads: Tensor, groups: int) -> Tensor:
    """Keys or values `[B, kv_heads, S, head_dim]` -> `[B, kv_heads * groups, S, head_dim]`, one for each query head."""
    return heads if groups == 1 else heads.repeat_interleave(groups, dim=1)
