"""Codebooks: k-means uses every code, gradients pass straight through, unused codes come back."""

import numpy as np
import torch

from audiopalm.core.kmeans import kmeans
from audiopalm.core.quantiser import VectorQuantiser, nearest


def test_every_code_of_kmeans_is_the_nearest_of_some_point():
    points = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    codebook = kmeans(points, 64, seed=0)
    assert len(set(nearest(torch.from_numpy(points), torch.from_numpy(codebook)).tolist())) == 64
    assert np.array_equal(codebook, kmeans(points, 64, seed=0))


def test_fewer_points_than_codes_still_fill_the_codebook():
    codebook = kmeans(np.eye(3, dtype=np.float32), 8, seed=0)
    assert codebook.shape == (8, 3) and np.isfinite(codebook).all()


def test_nearest_is_the_smallest_distance():
    points, codebook = torch.randn(50, 6), torch.randn(9, 6)
    assert torch.equal(nearest(points, codebook), torch.cdist(points, codebook).argmin(1))


def test_gradient_passes_straight_through_to_the_input():
    quantiser = VectorQuantiser(4, 3)
    quantiser.codebook.normal_()
    x = torch.randn(10, 3, requires_grad=True)
    codes, _ = quantiser(x)
    (codes * torch.arange(3.0)).sum().backward()
    assert torch.equal(x.grad, torch.arange(3.0).expand(10, 3))


def test_unused_codes_come_back():
    torch.manual_seed(0)
    quantiser = VectorQuantiser(8, 2, decay=0.8)
    quantiser.start(torch.from_numpy(np.random.default_rng(0).normal(100, 1, (8, 2))))
    for _ in range(60):  # all inputs are far from where the codes started
        index = quantiser(torch.randn(200, 2))[1]
    assert len(index.unique()) == 8


def test_evaluation_leaves_the_codebook_alone():
    quantiser = VectorQuantiser(4, 3).eval()
    quantiser.codebook.normal_()
    before = quantiser.codebook.clone()
    quantiser(torch.randn(10, 3))
    assert torch.equal(quantiser.codebook, before)
