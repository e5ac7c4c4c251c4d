"""The attention kernels of CUDA for packed documents; audiopalm/lm/packed_attention.py chooses between them."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad

from audiopalm.lm.packed_sizes import Sizes, document_starts, round_up

BLOCK = 128  # queries and keys of a block of Flex attention
DOCUMENT_STEP = 16  # the number of documents is rounded up to this, so that few different shapes occur


class VariableLengthAttention:
    """FlashAttention over documents that stand one after another in the flattened batch.

    starts: int32 `[N + 1]`, the first token of each document in the flattened batch, and the end of the batch. The
    number of documents is rounded up; the additional documents are empty.
    """

    def __init__(self, segments: Tensor, sizes: Sizes, window: int | None):
        total, documents = segments.numel(), round_up(sizes.documents, DOCUMENT_STEP)
        starts = torch.nonzero_static(document_starts(segments).flatten(), size=documents, fill_value=total)[:, 0]
        self.starts = pad(starts, (0, 1), value=total).int()
        self.longest = sizes.longest
        self.window = (-1, 0) if window is None else (window - 1, 0)  # numbers of tokens before and after the query

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float | None,
                 cap: float | None) -> Tensor:
        batch, _, length, _ = queries.shape
        # Under autocast, the norms of queries and keys may have returned float32.
        flat = [heads.to(values.dtype).transpose(1, 2).flatten(0, 1) for heads in (queries, keys, values)]
        output = varlen_attn(*flat, self.starts, self.starts, self.longest, self.longest, scale=scale,
                             window_size=self.window, enable_gqa=True)
        return output.unflatten(0, (batch, length)).transpose(1, 2)


class FlexAttention:
    """Flex attention, compiled on a GPU. block_mask: the blocks of keys that each block of queries attends to."""

    def __init__(self, segments: Tensor, sizes: Sizes, window: int | None):
        self.block_mask = document_blocks(segments, window)

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float | None,
                 cap: float | None) -> Tensor:
        def capped(score: Tensor, *indices: Tensor) -> Tensor:
            return cap * torch.tanh(score / cap)

        kernel = flex_attention if queries.device.type == "cpu" else compiled_flex_attention()
        queries, keys = queries.to(values.dtype), keys.to(values.dtype)
        return kernel(queries, keys, values, score_mod=None if cap is None else capped, block_mask=self.block_mask,
                      scale=scale, enable_gqa=True)


@cache
def compiled_flex_attention() -> Callable[..., Tensor]:
    """Flex attention compiled by torch.compile, once in a process."""
    return torch.compile(flex_attention)


def document_blocks(segments: Tensor, window: int | None) -> BlockMask:
    """The mask of packed documents in blocks of BLOCK queries and keys, built without a dense mask.

    segments: int64 `[B, T]`, the document of each token. A query attends to the keys from the start of its document
    (or of its window) to itself. The starts never decrease from query to query. The first query of a block therefore
    decides which blocks of keys are visible at all, and the last query which blocks are visible as a whole.
    """
    length = segments.shape[1]
    positions = torch.arange(length, device=segments.device)
    first = torch.where(document_starts(segments), positions, 0).cummax(dim=1).values
    if window is not None:
        first = torch.maximum(first, positions - window + 1)
    begins = torch.arange(0, length, BLOCK, device=segments.device)
    ends = (begins + BLOCK - 1).clamp(max=length - 1)
    in_part = (ends[None, None] >= first[:, begins, None]) & (begins[None, None] <= ends[:, None])
    whole = (begins[None, None] >= first[:, ends, None]) & (ends[None, None] <= begins[:, None])

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first[row, query])

    return BlockMask.from_kv_blocks(*_in_order(in_part & ~whole), *_in_order(whole), BLOCK, visible, (length, length))


def _in_order(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """The arguments of BlockMask for `blocks`, bool `[B, query blocks, key blocks]`.

    Returns the number of True key blocks, int32 `[B, 1, query blocks]`, and the indices of all key blocks with the True
    ones first, int32 `[B, 1, query blocks, key blocks]`.
    """
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(dim=-1, dtype=torch.int32)[:, None], order.int()[:, None]
