"""Vector quantisation: k-means, the nearest code, and a codebook trained by moving averages."""

import logging

import numpy as np
import torch
from torch import Tensor, nn

# At INFO faiss reports an import error for every build of it, for other processors, that is not installed.
logging.getLogger("faiss.loader").setLevel(logging.WARNING)
import faiss  # noqa: E402

BLOCK = 512  # points whose distances to all codes are computed at once; these fit into the CPU's cache


def kmeans(points: np.ndarray, size: int, seed: int, iterations: int = 20) -> np.ndarray:
    """k-means centroids `[size, dim]`, float32, of `points` `[N, dim]`.

    No centroid is without points, because faiss splits large clusters. Fewer points than centroids are repeated with a
    little noise, so that a tiny data set gives a full codebook without equal centroids.
    """
    if len(points) < size:
        points = np.concatenate([points] * -(-size // max(len(points), 1)))
        points = points + np.random.default_rng(seed).normal(0, 1e-3, points.shape)
    clustering = faiss.Kmeans(points.shape[1], size, niter=iterations, seed=seed, max_points_per_centroid=1 << 20,
                              min_points_per_centroid=1)
    clustering.train(np.ascontiguousarray(points, dtype=np.float32))
    return clustering.centroids


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of `codebook` `[size, dim]` for each of `points` `[..., dim]`, int64 `[...]`."""
    norms = codebook.square().sum(1)

    def index(block: Tensor) -> Tensor:
        # The squared distance |p - c|^2 without |p|^2, which is equal for all codes.
        scores = torch.addmm(norms, block, codebook.T, alpha=-2)
        if scores.is_cuda:
            return scores.argmin(-1)
        return torch.from_numpy(scores.detach().numpy().argmin(-1))  # on a CPU 20 times as fast as torch's argmin

    return torch.cat([index(block) for block in points.flatten(0, -2).split(BLOCK)]).view(points.shape[:-1])


class VectorQuantiser(nn.Module):
    """A codebook trained by exponential moving averages of the inputs that select each code.

    Buffers: `codebook` `[size, dim]`, and the averages `count` `[size]` and `total` `[size, dim]` of inputs per code.
    """

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
        """`[N, dim]` -> the nearest codes `[N, dim]` and their indices `[N]`. Gradients pass straight through to `x`.

        In training, each code moves to the average of the inputs that select it. A code that is no longer selected is
        replaced by a random input.
        """
        with torch.no_grad():
            index = nearest(x, self.codebook)
            if self.training:
                self._update(x.detach(), index)
        return x + (self.codebook[index] - x).detach(), index

    def _update(self, x: Tensor, index: Tensor) -> None:
        """Move the codes towards the inputs `x` `[N, dim]` that selected them, `index` `[N]`."""
        count = torch.zeros_like(self.count).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.total).index_add_(0, index, x)
        # Counts are scaled to an average of 1 per code, so that the threshold below does not depend on the batch size.
        scale = len(self.count) / max(len(x), 1)
        self.count.lerp_(count * scale, 1 - self.decay)
        self.total.lerp_(total * scale, 1 - self.decay)
        unused = self.count < 0.03
        if unused.any() and len(x):
            replacements = torch.randint(len(x), (int(unused.sum()),))
            self.total[unused] = x[replacements]
            self.count[unused] = 1.0
        self.codebook.copy_(self.total / self.count[:, None])
