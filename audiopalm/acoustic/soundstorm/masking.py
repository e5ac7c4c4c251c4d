"""SoundStorm's training masks and decoding schedule (arXiv 2305.09636, section 3.3)."""

import math

import numpy as np


def level_probabilities(levels: int, bias: float) -> np.ndarray:
    """The probability of training each level, `[levels]`.

    A `bias` of 1 is uniform (the paper); a smaller one favours low levels.
    """
    weights = bias ** np.arange(levels)
    return weights / weights.sum()


def draw_levels(random: np.random.Generator, batch: int, levels: int, bias: float) -> np.ndarray:
    """The level to train in each example, int64 `[B]`.

    The draw is stratified: each level occurs in a batch in proportion to its probability.
    """
    edges = level_probabilities(levels, bias).cumsum()
    points = (random.permutation(batch) + random.random(batch)) / batch
    return np.minimum(np.searchsorted(edges, points, side="right"), levels - 1)


def draw_mask(random: np.random.Generator, cuts: np.ndarray, frames: int, whole_share: float) -> np.ndarray:
    """The masked frames of the trained level, bool `[B, frames]`.

    Frames before `cuts[b]` are never masked. From there on, all frames are masked in a fraction `whole_share` of the
    examples. In the other examples, a fraction cos(u) with u ~ U[0, pi/2] is masked, but at least one frame.
    """
    mask = np.zeros((len(cuts), frames), dtype=bool)
    for row, cut in enumerate(cuts):
        fraction = 1.0 if random.random() < whole_share else math.cos(random.uniform(0.0, math.pi / 2))
        count = max(1, round(fraction * (frames - cut)))
        mask[row, cut + random.permutation(frames - cut)[:count]] = True
    return mask


def still_masked(frames: int, iteration: int, iterations: int) -> int:
    """The number of frames out of `frames` that are still masked after `iteration` (from 0) of `iterations`.

    It follows a cosine schedule down to 0.
    """
    if iteration + 1 >= iterations:
        return 0
    return min(frames - 1, int(frames * math.cos(math.pi / 2 * (iteration + 1) / iterations)))


def hide(codec: np.ndarray, mask: np.ndarray, levels: np.ndarray, cuts: np.ndarray, code: int) -> np.ndarray:
    """`codec [B, T, levels]` with the masked tokens replaced by `code`.

    In level `levels [B]`, the frames `mask [B, T]` are masked. In all higher levels, the frames from `cuts [B]` on are.
    """
    level_index = np.arange(codec.shape[2])
    after_cut = np.arange(codec.shape[1]) >= cuts[:, None]
    level = levels[:, None, None]
    masked = (mask[:, :, None] & (level_index == level)) | (after_cut[:, :, None] & (level_index > level))
    return np.where(masked, code, codec)
