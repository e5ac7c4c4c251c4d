"""SoundStorm's training masks (arXiv 2305.09636, section 3.3) and its decoding schedule."""

import math

import numpy as np


def level_probabilities(levels: int, bias: float) -> np.ndarray:
    """Probability `[levels]` of training each level; `bias` 1 is uniform (the paper), below 1 favours low levels."""
    weights = bias ** np.arange(levels)
    return weights / weights.sum()


def draw_levels(random: np.random.Generator, batch: int, levels: int, bias: float) -> np.ndarray:
    """Level `[B]` to learn in each example: stratified, so that every batch holds its share of each level."""
    edges = level_probabilities(levels, bias).cumsum()
    points = (random.permutation(batch) + random.random(batch)) / batch
    return np.minimum(np.searchsorted(edges, points, side="right"), levels - 1)


def draw_mask(random: np.random.Generator, cuts: np.ndarray, frames: int, whole_share: float) -> np.ndarray:
    """Masked positions `[B, frames]` of the level that is learned.

    Frames before `cuts[b]` are known and never masked. Behind it all are masked in a share `whole_share` of the
    examples; in the others the masked share is cos(u), u ~ U[0, pi/2], and at least one frame is masked.
    """
    mask = np.zeros((len(cuts), frames), dtype=bool)
    for row, cut in enumerate(cuts):
        share = 1.0 if random.random() < whole_share else math.cos(random.uniform(0.0, math.pi / 2))
        count = max(1, round(share * (frames - cut)))
        mask[row, cut + random.permutation(frames - cut)[:count]] = True
    return mask


def still_masked(frames: int, iteration: int, iterations: int) -> int:
    """How many of `frames` stay masked after `iteration` (from 0) of `iterations`: cosine schedule, 0 at the end."""
    if iteration + 1 >= iterations:
        return 0
    return min(frames - 1, int(frames * math.cos(math.pi / 2 * (iteration + 1) / iterations)))


def hide(codec: np.ndarray, mask: np.ndarray, levels: np.ndarray, cuts: np.ndarray, code: int) -> np.ndarray:
    """`codec [B, T, levels]` with `code` put in at the masked places.

    These are `mask [B, T]` of level `levels [B]`, and all higher levels from frame `cuts [B]` on.
    """
    index = np.arange(codec.shape[2])
    behind = np.arange(codec.shape[1]) >= cuts[:, None]
    chosen = levels[:, None, None]
    hidden = (mask[:, :, None] & (index == chosen)) | (behind[:, :, None] & (index > chosen))
    return np.where(hidden, code, codec)
