"""What one step of generation does between its products, on a CPU in float32, compiled by numba.

A step has little to compute, but PyTorch would do it in some forty calls a layer, each of which costs more than what it
computes. The sums of a row do not depend on the rows beside it.
"""

import numba
import numpy as np

# Sums may be added up in any order, which makes them vectors; infinities and NaN keep their meaning.
FAST = {"reassoc", "contract", "arcp", "nsz"}


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def rms_norm(x, weight, eps, out):
    """`out = x / sqrt(mean(x ** 2) + eps) * weight`, `[N, dim]`."""
    for row in range(x.shape[0]):
        total = np.float32(0)
        for place in range(x.shape[1]):
            total += x[row, place] * x[row, place]
        scale = np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + eps)
        for place in range(x.shape[1]):
            out[row, place] = x[row, place] * scale * weight[place]


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def rotated(vector, cosine, sine, scale, out):
    """As `rotate` of audiopalm/lm/model.py, times `scale`; all `[width]`."""
    half = len(vector) // 2
    for place in range(half):
        low, high = vector[place], vector[place + half]
        out[place] = (low * cosine[place] - high * sine[place]) * scale
        out[place + half] = (high * cosine[place + half] + low * sine[place + half]) * scale


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def mix(query, keys, values, cap, scores, out):
    """`out` `[width]`: values `[S, width]`, weighted by how well their keys `[S, width]` fit the query."""
    tokens, width = keys.shape
    highest = np.float32(-np.inf)
    for token in range(tokens):
        score = np.float32(0)
        for place in range(width):
            score += query[place] * keys[token, place]
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
        share = scores[token] / total
        for place in range(width):
            out[place] += share * values[token, place]


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def attend_step(joined, heads, cosines, sines, keys, values, lengths, window, scale, cap, used, out):
    """Attention of one new token in each of the first `used` rows; its key and value are stored.

    joined: queries, keys and values `[rows, heads + 2 * kv_heads, width]`, not yet rotated. cosines, sines:
    `[rows, width]`. keys, values: `[places * kv_heads, room, width]`. lengths: int64 `[rows]`, the tokens that are
    there before. A token sees the last `window` ones, itself counted. Scores are products times `scale`, held within
    +-`cap` by tanh unless that is 0. out: `[rows, heads * width]`, zero in the other rows.
    """
    width, room = joined.shape[2], keys.shape[1]
    kv_heads = (joined.shape[1] - heads) // 2
    groups = heads // kv_heads
    query, scores = np.empty(width, np.float32), np.empty(room, np.float32)
    for row in range(used):
        length, cosine, sine = lengths[row], cosines[row], sines[row]
        first = max(0, length + 1 - window)
        for head in range(kv_heads):
            key, value = keys[row * kv_heads + head], values[row * kv_heads + head]
            rotated(joined[row, heads + head], cosine, sine, np.float32(1), key[length])
            value[length] = joined[row, heads + kv_heads + head]
            for group in range(head * groups, (head + 1) * groups):
                rotated(joined[row, group], cosine, sine, scale, query)
                mix(query, key[first:length + 1], value[first:length + 1], cap, scores,
                    out[row, group * width:(group + 1) * width])
    out[used:] = 0
