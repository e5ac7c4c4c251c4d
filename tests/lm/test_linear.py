"""Packed products are those of PyTorch, and a row does not depend on the other rows."""

import gc

import pytest
import torch
from decoders import tiny
from torch.nn import functional

from audiopalm.lm.generation.cache import CachedDecoder
from audiopalm.lm.generation.cpu import linear
from audiopalm.lm.generation.cpu.linear import MIN_ROWS, PackedLinear
from audiopalm.lm.generation.layers import PACKED_WEIGHTS


@pytest.mark.parametrize("plain", ["as here", "not exact"])
@pytest.mark.parametrize("width, sizes, biased", [(160, (160, 80, 80), False), (160, (90,), True),
                                                  (1152, (384,), True)])
def test_joined_products_are_pytorchs_and_do_not_depend_on_other_rows(width, sizes, biased, plain, monkeypatch):
    """Also on a processor whose plain products depend on the number of rows."""
    if plain == "not exact":
        monkeypatch.setattr(linear, "rows_are_independent", lambda size, width: False)
    torch.manual_seed(0)
    weights, biases = [torch.randn(size, width) for size in sizes], [torch.randn(size) for size in sizes]
    product, x = PackedLinear(weights, biases if biased else []), torch.randn(70, width)
    assert product.packed or plain == "as here"
    joined = product(x)
    expected = [functional.linear(x, weight, bias if biased else None)
                for weight, bias in zip(weights, biases, strict=True)]
    torch.testing.assert_close(joined, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)
    for rows in (MIN_ROWS, 5, 8, 31):
        assert torch.equal(product(x[3:3 + rows].contiguous()), joined[3:3 + rows])


def test_packed_weights_change_with_the_model_and_are_freed_with_it():
    model, prompt = tiny(), torch.arange(9)
    with torch.inference_mode():
        before = CachedDecoder(model, 1, 20).prefill(0, prompt)
        assert CachedDecoder(model, 1, 20).head is PACKED_WEIGHTS[model][1][1]
    model.logits(model.hidden(prompt[None], prompt[None], torch.ones(1, 1, 9, 9, dtype=torch.bool))).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    with torch.inference_mode():
        after = CachedDecoder(model, 1, 20).prefill(0, prompt)
        expected = model.hidden(prompt[None], prompt[None], torch.ones(1, 1, 9, 9, dtype=torch.bool).tril())[0, -1]
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before)
    gc.collect()  # models of other tests
    held = len(PACKED_WEIGHTS)
    del model
    gc.collect()
    assert len(PACKED_WEIGHTS) == held - 1
