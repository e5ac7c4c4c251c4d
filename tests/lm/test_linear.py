"""Packed products are PyTorch's, and a row of them does not depend on its company."""

import pytest
import torch
from torch.nn import functional

from audiopalm.lm.linear import LEAST_ROWS, PackedLinear


@pytest.mark.parametrize("width, sizes, biased", [(160, (160, 80, 80), False), (1152, (384,), True)])
def test_products_joined_and_alone(width, sizes, biased):
    torch.manual_seed(0)
    weights, biases = [torch.randn(size, width) for size in sizes], [torch.randn(size) for size in sizes]
    product, x = PackedLinear(weights, biases if biased else []), torch.randn(70, width)
    found = product(x)
    expected = [functional.linear(x, weight, bias if biased else None)
                for weight, bias in zip(weights, biases, strict=True)]
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)
    for rows in (LEAST_ROWS, 5, 8, 31):
        assert torch.equal(product(x[3:3 + rows].contiguous()), found[3:3 + rows])
