"""k-means by faiss. Only trainings import this module, because faiss takes a while to import."""

import logging

import numpy as np

# At level INFO faiss logs an import error for each of its builds for other processors.
logging.getLogger("faiss.loader").setLevel(logging.WARNING)
import faiss  # noqa: E402


def kmeans(points: np.ndarray, size: int, seed: int, iterations: int = 20) -> np.ndarray:
    """k-means centroids `[size, dim]`, float32, of `points` `[N, dim]`.

    No centroid is without points, because faiss splits large clusters. Where there are fewer points than centroids,
    the points are repeated with a little noise, so that a tiny data set gives a full codebook without equal centroids.
    """
    if len(points) < size:
        points = np.concatenate([points] * -(-size // max(len(points), 1)))
        points = points + np.random.default_rng(seed).normal(0, 1e-3, points.shape)
    clustering = faiss.Kmeans(points.shape[1], size, niter=iterations, seed=seed, max_points_per_centroid=1 << 20,
                              min_points_per_centroid=1)
    clustering.train(np.ascontiguousarray(points, dtype=np.float32))
    return np.asarray(clustering.centroids, dtype=np.float32)
