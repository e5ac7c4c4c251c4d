"""Attention with a dense mask, by the kernel that is fastest for the device and the precision.

The language model's packed documents choose their kernel in audiopalm/lm/packed_attention.py.
"""

import torch
from torch import Tensor
from torch.nn import functional

MAX_GROUPS = 2  # a decode step on a CPU computes at most this many query heads of one key head at once


def product_dtype(device: torch.device, default: torch.dtype) -> torch.dtype:
    """The dtype of matrix products on `device`: autocast's if it is enabled there, else `default`."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return default


def attention_bias(visible: Tensor) -> Tensor:
    """The additive mask `[..., T, S]` in the dtype of matrix products: 0 where `visible`, minus infinity elsewhere.

    visible: bool `[..., T, S]`, True where a query attends to a key.
    """
    dtype = product_dtype(visible.device, torch.get_default_dtype())
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float | None = None,
           cap: float | None = None) -> Tensor:
    """Attention output `[B, heads, T, head_dim]`.

    queries: `[B, heads, T, head_dim]`. keys, values: `[B, heads, S, head_dim]`. bias: of `attention_bias`, broadcast
    to `[B, heads, T, S]`; every query must attend to at least one key. Scores are products times `scale` (default:
    1 / sqrt(head_dim)). If `cap` is given, tanh limits the scores to the range from -`cap` to `cap`.

    In bfloat16 on a CPU, plain products are used: PyTorch's fused kernel takes twice as long, and its unfused version
    takes half as long again because it checks for queries without keys.
    """
    bias = None if bias is None else bias.to(queries.dtype)
    plain_products = queries.device.type == "cpu" and queries.dtype == torch.bfloat16
    if cap is None and not plain_products:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=scale)
    return attention_scores(queries, keys, bias, scale, cap).softmax(dim=-1) @ values


def attention_scores(queries: Tensor, keys: Tensor, bias: Tensor | None, scale: float | None,
                     cap: float | None) -> Tensor:
    """Scores before the softmax, `[B, heads, T, S]`; arguments as in `attend`."""
    scores = (queries * (queries.shape[-1] ** -0.5 if scale is None else scale)) @ keys.mT
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if bias is not None:
        scores += bias
    return scores


def attend_one(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float,
               cap: float | None = None) -> Tensor:
    """Attention output `[N, groups, head_dim]` of one token per sequence, as in a decode step.

    queries: `[N, groups, head_dim]`, with N = sequences * key heads and `groups` query heads per key head.
    keys, values: `[N, S, head_dim]`. bias: `[N, 1, S]`. scale, cap: as in `attend`.

    Plain products are used, because a fused kernel saves no memory traffic here. On a CPU at most MAX_GROUPS query
    heads are multiplied at once, because the last bits of larger products depend on S.
    """
    bias = bias.to(queries.dtype)
    if queries.shape[1] > MAX_GROUPS and queries.device.type == "cpu":
        return torch.cat([attend_one(part, keys, values, bias, scale, cap) for part in queries.split(MAX_GROUPS, 1)], 1)
    if cap is None:
        scores = torch.baddbmm(bias, queries, keys.mT, alpha=scale)
    else:
        scores = cap * torch.tanh(torch.bmm(queries, keys.mT) * (scale / cap)) + bias
    return torch.bmm(scores.softmax(dim=-1), values)
