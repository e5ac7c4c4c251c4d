"""K-means of units: fit and assignment, ours (faiss; one product and an argmin) against scikit-learn's.

Same points, centroids, iterations and threads, interleaved. The limit of an assignment is its matrix product alone.
The last line is JSON: {what: seconds}.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

from audiopalm.core.kmeans import kmeans
from audiopalm.core.quantiser import nearest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=65536)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--size", type=int, default=512, help="centroids")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    points = mixture(arguments.points, arguments.dim, arguments.size)
    lloyd = KMeans(arguments.size, init="random", n_init=1, max_iter=arguments.iterations, tol=0, algorithm="lloyd")
    batches = MiniBatchKMeans(arguments.size, init="random", n_init=1, batch_size=10000, max_iter=arguments.iterations)
    fits: dict[str, Callable[[], np.ndarray]] = {
        "fit, ours": lambda: kmeans(points, arguments.size, 0, arguments.iterations),
        "fit, scikit-learn KMeans": lambda: lloyd.fit(points).cluster_centers_,
        "fit, scikit-learn MiniBatchKMeans": lambda: batches.fit(points).cluster_centers_}
    fitting, centroids = interleave(fits, arguments.rounds)
    for name, taken in fitting.items():
        report(name, taken, f"mean squared distance {distance(points, centroids[name]):.4f}")
    codes = np.ascontiguousarray(centroids["fit, ours"])
    fitted = KMeans(arguments.size, init=codes, n_init=1, max_iter=1).fit(codes)
    fitted.cluster_centers_ = codes
    tensor, codebook = torch.from_numpy(points), torch.from_numpy(codes)
    assigning, ids = interleave({"assign, ours": lambda: nearest(tensor, codebook).numpy(),
                                 "assign, scikit-learn predict": lambda: fitted.predict(points),
                                 "assign, the matrix product alone": lambda: tensor @ codebook.T},
                                arguments.rounds + 3)
    for name, taken in assigning.items():
        report(name, taken, f"{len(points) / taken:,.0f} points a second")
    same = np.mean(ids["assign, ours"] == ids["assign, scikit-learn predict"])
    print(f"{100 * same:.3f} % of assignments are the same")
    print(json.dumps(fitting | assigning))


def mixture(number: int, dim: int, size: int) -> np.ndarray:
    """Points around as many centres as there are codes."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(size, dim)).astype(np.float32)
    return centres[random.integers(0, size, number)] + random.normal(size=(number, dim)).astype(np.float32)


def interleave(what: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The best seconds of each and what it gave, by turns."""
    seconds, results = dict.fromkeys(what, float("inf")), {}
    for _ in range(rounds):
        for name, function in what.items():
            started = time.perf_counter()
            results[name] = function()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds, results


def distance(points: np.ndarray, centroids: np.ndarray) -> float:
    ids = nearest(torch.from_numpy(points), torch.from_numpy(centroids)).numpy()
    return float(np.square(points - centroids[ids]).sum(1).mean())


def report(name: str, seconds: float, more: str) -> None:
    print(f"{name:34} {seconds:8.3f} s  {more}", flush=True)


if __name__ == "__main__":
    main()
