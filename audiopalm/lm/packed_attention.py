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
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad

from audiopalm.lm.attention import attend, attention_bias
from audiopalm.lm.packing import IGNORED

# (queries [B, heads, T, head_dim], keys and values [B, kv_heads, T, head_dim], scale, cap) -> [B, heads, T, head_dim];
# scale and cap as in audiopalm/lm/attention.py
Attend = Callable[[Tensor, Tensor, Tensor, float | None, float | None], Tensor]

FLASH_DTYPES = (torch.bfloat16, torch.float16)
FLASH_HEAD_DIM, FLASH_HEAD_STEP = 256, 8  # FlashAttention takes heads up to this size, in multiples
BLOCK = 128  # queries and keys of a block of Flex attention
DOCUMENT_STEP, OUTPUT_STEP = 16, 128  # on a GPU, counts are rounded up to these, so that few different shapes occur


class Sizes(NamedTuple):
    """What shapes depend on in a packed batch, as numbers on the host."""

    documents: int  # runs of equal segments in all rows, padding included
    longest: int  # tokens of the longest document
    outputs: int  # tokens with loss


def count_sizes(segments: Tensor, targets: Tensor) -> Sizes:
    """The sizes of segments and targets, int64 `[B, T]`; of tensors on a GPU the host has to wait for them."""
    starts = document_starts(segments).flatten().nonzero()[:, 0]
    ends = pad(starts[1:], (0, 1), value=segments.numel())
    return Sizes(len(starts), int((ends - starts).max()), int((targets != IGNORED).sum()))


def output_positions(targets: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Positions int64 `[N]` in the flattened batch that have loss, and their targets `[N]`.

    On a GPU N is rounded up; what is too much has the target IGNORED.
    """
    flat, size = targets.flatten(), sizes.outputs
    if targets.device.type != "cpu":
        size = round_up(size, OUTPUT_STEP)
    positions = torch.nonzero_static(flat != IGNORED, size=size, fill_value=0)[:, 0]
    chosen = flat.index_select(0, positions)
    return positions, pad(chosen[:sizes.outputs], (0, size - sizes.outputs), value=IGNORED)


def packed_attention(segments: Tensor, sizes: Sizes, window: int | None, dtype: torch.dtype, head_dim: int,
                     cap: float | None) -> dict[bool, Attend]:
    """{whether a layer has the window: its attention} in rows of documents numbered by `segments` int64 `[B, T]`.

    A token attends to the tokens of its document up to itself, in a layer with the window to the last `window` of
    them. Padding (segment 0) is a document too. dtype: that of queries and keys.
    """
    if segments.device.type == "cpu":
        return dense_attention(packed_mask(segments), window)
    flash = dtype in FLASH_DTYPES and cap is None and head_dim <= FLASH_HEAD_DIM and head_dim % FLASH_HEAD_STEP == 0
    kernel = VariableLengthAttention if flash else FlexAttention
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


class VariableLengthAttention:
    """FlashAttention over documents that lie one behind another.

    starts: int32 `[N + 1]`, where each document begins in the flattened batch, and its end; documents that are too
    many, by rounding, are empty.
    """

    def __init__(self, segments: Tensor, sizes: Sizes, window: int | None):
        total, documents = segments.numel(), round_up(sizes.documents, DOCUMENT_STEP)
        starts = torch.nonzero_static(document_starts(segments).flatten(), size=documents, fill_value=total)[:, 0]
        self.starts = pad(starts, (0, 1), value=total).int()
        self.longest = sizes.longest
        self.window = (-1, 0) if window is None else (window - 1, 0)  # tokens before and behind the query

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float | None,
                 cap: float | None) -> Tensor:
        batch, _, length, _ = queries.shape
        # Norms of queries and keys may have made these float32 under autocast.
        flat = [one.to(values.dtype).transpose(1, 2).flatten(0, 1) for one in (queries, keys, values)]
        output = varlen_attn(*flat, self.starts, self.starts, self.longest, self.longest, scale=scale,
                             window_size=self.window, enable_gqa=True)
        return output.unflatten(0, (batch, length)).transpose(1, 2)


class FlexAttention:
    """Flex attention, compiled for the model's caps; `block_mask` says which blocks of keys a block of queries sees."""

    def __init__(self, segments: Tensor, sizes: Sizes, window: int | None):
        self.block_mask = document_blocks(segments, window)

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float | None,
                 cap: float | None) -> Tensor:
        def capped(score: Tensor, *place: Tensor) -> Tensor:
            return cap * torch.tanh(score / cap)

        kernel = flex_attention if queries.device.type == "cpu" else compiled_flex_attention()
        queries, keys = queries.to(values.dtype), keys.to(values.dtype)
        return kernel(queries, keys, values, score_mod=None if cap is None else capped, block_mask=self.block_mask,
                      scale=scale, enable_gqa=True)


@cache
def compiled_flex_attention() -> Callable:
    return torch.compile(flex_attention)


def document_blocks(segments: Tensor, window: int | None) -> BlockMask:
    """The mask of packed documents in blocks of BLOCK queries and keys, from segments `[B, T]`, without a dense mask.

    A query sees the keys from its document's first one (or the window's) to itself. These ranges move forward from
    query to query, so that the first and the last query of a block say what the block sees in part and what wholly.
    """
    batch, length = segments.shape
    places = torch.arange(length, device=segments.device)
    first = torch.where(document_starts(segments), places, 0).cummax(dim=1).values
    if window is not None:
        first = torch.maximum(first, places - window + 1)
    begins = torch.arange(0, length, BLOCK, device=segments.device)
    ends = (begins + BLOCK - 1).clamp(max=length - 1)
    seen = (ends[None, None] >= first[:, begins, None]) & (begins[None, None] <= ends[:, None])
    whole = (begins[None, None] >= first[:, ends, None]) & (ends[None, None] <= begins[:, None])

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first[row, query])

    return BlockMask.from_kv_blocks(*_in_order(seen & ~whole), *_in_order(whole), BLOCK, visible, (length, length))


def _in_order(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """bool `[B, queries, keys]` -> the number of True blocks int32 `[B, 1, queries]`, and the blocks, these first."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(dim=-1, dtype=torch.int32)[:, None], order.int()[:, None]


def document_starts(segments: Tensor) -> Tensor:
    """bool `[B, T]`: whether a token is the first one of a document; rows begin with one."""
    return pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)


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


def round_up(number: int, step: int) -> int:
    return -(-number // step) * step
