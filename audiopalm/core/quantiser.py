"""Vector quantisers: k-means codebooks, nearest code, straight-through training with moving averages."""

import logging

import numpy as np
import torch
from torch import Tensor, nn

logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # tells of every build for other processors it cannot load
import faiss  # noqa: E402

BLOCK = 512  # points whose distances to all codes are computed at once: they stay in the cache


def kmeans(points: np.ndarray, size: int, seed: int, iterations: int = 20) -> np.ndarray:
    """Centroids `[size, dim]` float32 of `points` `[N, dim]`; none is without points (faiss splits large clusters)."""
    if len(points) < size:  # a tiny data set still gives a full codebook; the doubles are never the nearest twice
        points = np.concatenate([points] * -(-size // max(len(points), 1)))
        points = points + np.random.default_rng(seed).normal(0, 1e-3, points.shape)
    clustering = faiss.Kmeans(points.shape[1], size, niter=iterations, seed=seed, max_points_per_centroid=1 << 20,
                              min_points_per_centroid=1)
    clustering.train(np.ascontiguousarray(points, dtype=np.float32))
    return clustering.centroids


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index `[...]` of the closest row of `codebook` `[size, dim]` to each of `points` `[..., dim]`."""
    norms = codebook.square().sum(1)

    def index(block: Tensor) -> Tensor:
        # |p - c|^2 without |p|^2, which is the same for every code.
        scores = torch.addmm(norms, block, codebook.T, alpha=-2)
        if scores.is_cuda:
            return scores.argmin(-1)
        return torch.from_numpy(scores.detach().numpy().argmin(-1))  # twenty times as fast as torch's on a CPU

    return torch.cat([index(block) for block in points.flatten(0, -2).split(BLOCK)]).view(points.shape[:-1])


class VectorQuantiser(nn.Module):
    """A codebook that follows its inputs: buffers `codebook` `[size, dim]`, `count` `[size]`, `total` `[size, dim]`."""

    def __init__(self, size: int, dim: int, decay: float = 0.98):
        super().__init__()
        self.decay = decay
        self.register_buffer("codebook", torch.zeros(size, dim))
        self.register_buffer("count", torch.ones(size))
        self.register_buffer("total", torch.zeros(size, dim))

    def start(self, points: np.ndarray, seed: int) -> None:
        """Set the codebook to the k-means centroids of `points` `[N, dim]`."""
        self.codebook.copy_(torch.from_numpy(kmeans(points, len(self.codebook), seed)))
        self.count.fill_(1.0)
        self.total.copy_(self.codebook)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, dim]` -> the nearest codes `[N, dim]` and their indices `[N]`; gradients pass straight through to `x`.

        In training the codes move to the average of what chose them; a code that nothing chooses any more is placed
        on a random input.
        """
        with torch.no_grad():
            index = nearest(x, self.codebook)
            if self.training:
                self._follow(x.detach(), index)
        return x + (self.codebook[index] - x).detach(), index

    def _follow(self, x: Tensor, index: Tensor) -> None:
        count = torch.zeros_like(self.count).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.total).index_add_(0, index, x)
        # In proportion to use, so that the threshold below does not depend on the batch size.
        share = len(self.count) / max(len(x), 1)
        self.count.lerp_(count * share, 1 - self.decay)
        self.total.lerp_(total * share, 1 - self.decay)
        dead = self.count < 0.03
        if dead.any() and len(x):
            chosen = torch.randint(len(x), (int(dead.sum()),))
            self.total[dead] = x[chosen]
            self.count[dead] = 1.0
        self.codebook.copy_(self.total / self.count[:, None])
