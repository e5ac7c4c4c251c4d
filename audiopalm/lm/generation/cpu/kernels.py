"""CPU kernels of a decode step in float32, compiled by numba: everything between the matrix products.

A decode step computes little. PyTorch would need about forty calls per layer, each of which costs more than its
computation. The sums of a row do not depend on the other rows.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

# The compiler may reorder sums, which lets it vectorise them. Infinities and NaN keep their meaning.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}
# Functions that a kernel calls are inlined. Otherwise code from numba's cache rounds differently from the code in the
# process that compiled it.
INLINE = "always"

P = ParamSpec("P")
Floats: TypeAlias = npt.NDArray[np.float32]


def compiled(inline: str = "never") -> Callable[[Callable[P, None]], Callable[P, None]]:
    """numba's decorator with the options of all kernels and with types: the type checker counts numba as untyped."""
    return numba.njit(nogil=True, cache=True, fastmath=FAST_MATH, inline=inline)


@compiled()
def rms_norm(x: Floats, weight: Floats, eps: np.float32, out: Floats) -> None:
    """`out = x / sqrt(mean(x ** 2) + eps) * weight`; `x` and `out` are float32 `[N, dim]`."""
    for row in range(x.shape[0]):
        total = np.float32(0)
        for axis in range(x.shape[1]):
            total += x[row, axis] * x[row, axis]
        scale = np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + eps)
        for axis in range(x.shape[1]):
            out[row, axis] = x[row, axis] * scale * weight[axis]


@compiled(INLINE)
def rotate_scaled(vector: Floats, cosine: Floats, sine: Floats, scale: np.float32, out: Floats) -> None:
    """`out = rotate(vector) * scale`, with `rotate` of audiopalm/lm/model.py; all vectors are `[head_dim]`."""
    half = len(vector) // 2
    for axis in range(half):
        low, high = vector[axis], vector[axis + half]
        out[axis] = (low * cosine[axis] - high * sine[axis]) * scale
        out[axis + half] = (high * cosine[axis + half] + low * sine[axis + half]) * scale


@compiled(INLINE)
def attend_query(query: Floats, keys: Floats, values: Floats, cap: np.float32, scores: Floats, out: Floats) -> None:
    """Attention of one `query` `[head_dim]` to `keys` and `values` `[S, head_dim]`, written to `out` `[head_dim]`.

    `scores`, of at least S numbers, is working memory. Unless `cap` is 0, tanh limits the scores to +-`cap`.
    """
    tokens, head_dim = keys.shape
    highest = np.float32(-np.inf)
    for token in range(tokens):
        score = np.float32(0)
        for axis in range(head_dim):
            score += query[axis] * keys[token, axis]
        if cap > 0:
            score = cap * np.tanh(score / cap)
        scores[token] = score
        highest = max(highest, score)
    total = np.float32(0)
    for token in range(tokens):
        scores[token] = np.exp(scores[token] - highest)
        total += scores[token]
    out[:] = 0
    for token in range(tokens):
        probability = scores[token] / total
        for axis in range(head_dim):
            out[axis] += probability * values[token, axis]


@compiled()
def attend_step(projected: Floats, heads: int, cosines: Floats, sines: Floats, keys: Floats, values: Floats,
                lengths: npt.NDArray[np.int64], window: int, scale: np.float32, cap: np.float32, active: int,
                out: Floats) -> None:  # twelve arguments: numba compiles no dataclasses
    """Attention of one new token in each of the first `active` slots; its key and value are written to the cache.

    projected: queries, keys and values `[slots, heads + 2 * kv_heads, head_dim]`, not yet rotated.
    cosines, sines: `[slots, head_dim]`, of the new token's position.
    keys, values: the cache of this layer, `[slots * kv_heads, capacity, head_dim]`.
    lengths: int64 `[slots]`, tokens in each slot before this step.
    window: a token attends to this many of the latest tokens, itself included.
    scale, cap: scores are products times `scale`. Unless `cap` is 0, tanh limits them to +-`cap`.
    out: `[slots, heads * head_dim]`; the rows of other slots become zero.
    """
    head_dim, capacity = projected.shape[2], keys.shape[1]
    kv_heads = (projected.shape[1] - heads) // 2
    groups = heads // kv_heads
    query, scores = np.empty(head_dim, np.float32), np.empty(capacity, np.float32)
    for slot in range(active):
        length, cosine, sine = lengths[slot], cosines[slot], sines[slot]
        first = max(0, length + 1 - window)
        for kv_head in range(kv_heads):
            key, value = keys[slot * kv_heads + kv_head], values[slot * kv_heads + kv_head]
            rotate_scaled(projected[slot, heads + kv_head], cosine, sine, np.float32(1), key[length])
            value[length] = projected[slot, heads + kv_heads + kv_head]
            for head in range(kv_head * groups, (kv_head + 1) * groups):
                rotate_scaled(projected[slot, head], cosine, sine, scale, query)
                attend_query(query, key[first:length + 1], value[first:length + 1], cap, scores,
                             out[slot, head * head_dim:(head + 1) * head_dim])
    out[active:] = 0
