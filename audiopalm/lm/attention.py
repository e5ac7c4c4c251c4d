"""Attention of masked queries, by the kernel that is fastest for the device and the precision."""

import torch
from torch import Tensor
from torch.nn import functional

QUERIES = 2  # of one token and one head of keys that are computed at once


def attention_bias(visible: Tensor) -> Tensor:
    """bool `[..., T, S]`, True where a query may look -> 0 or minus infinity, in the type that products have here."""
    device = visible.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.get_default_dtype()
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float | None = None,
           cap: float | None = None) -> Tensor:
    """`[B, heads, T, width]`, `[B, heads, S, width]` twice, bias broadcast to `[B, heads, T, S]` -> as `queries`.

    Scores are products times `scale` (1 / sqrt(width) unless given), held within +-`cap` by tanh where that is given.
    Every query must see at least one key. On a CPU PyTorch's kernels take twice as long in bfloat16 as plain products,
    and its own plain products check for queries that see nothing, which takes half of their time again.
    """
    bias = None if bias is None else bias.to(queries.dtype)
    plain = queries.device.type == "cpu" and queries.dtype == torch.bfloat16
    if cap is None and not plain:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=scale)
    return attention_scores(queries, keys, bias, scale, cap).softmax(dim=-1) @ values


def attention_scores(queries: Tensor, keys: Tensor, bias: Tensor | None, scale: float | None,
                     cap: float | None) -> Tensor:
    """`[B, heads, T, S]`, of which the softmax says how much of each value is taken; arguments as of `attend`."""
    scores = (queries * (queries.shape[-1] ** -0.5 if scale is None else scale)) @ keys.mT
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if bias is not None:
        scores += bias
    return scores


def attend_one(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float,
               cap: float | None = None) -> Tensor:
    """One token a row: `[N, groups, width]`, `[N, S, width]` twice, bias `[N, 1, S]` -> as `queries`.

    N is rows times heads of keys, `groups` the queries that share one. Plain products: there is nothing that a fused
    kernel could save from memory here. On a CPU those of many queries are not the same for every number of keys.
    """
    bias = bias.to(queries.dtype)
    if queries.shape[1] > QUERIES and queries.device.type == "cpu":
        return torch.cat([attend_one(part, keys, values, bias, scale, cap) for part in queries.split(QUERIES, 1)], 1)
    if cap is None:
        scores = torch.baddbmm(bias, queries, keys.mT, alpha=scale)
    else:
        scores = cap * torch.tanh(torch.bmm(queries, keys.mT) * (scale / cap)) + bias
    return torch.bmm(scores.softmax(dim=-1), values)
