"""Attention of training and of a decode step against PyTorch's, and the maps that the page shows."""

import pytest
import torch
from torch.nn import functional

from audiopalm.lm.attention import attend, attend_one, attention_bias
from audiopalm.lm.attention_maps import attention_maps
from audiopalm.lm.model import Decoder, ModelConfig


def test_attention_is_that_of_pytorch_in_float32_and_bfloat16():
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(2, 3, 7, 8) for _ in range(3))
    visible = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    expected = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
    torch.testing.assert_close(attend(queries, keys, values, attention_bias(visible)), expected)
    half = attend(queries.bfloat16(), keys.bfloat16(), values.bfloat16(), attention_bias(visible))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.03, rtol=0.03)


def test_the_bias_has_the_dtype_of_products():
    visible = torch.tensor([[True, False]])
    assert attention_bias(visible).tolist() == [[0.0, -torch.inf]]
    with torch.autocast("cpu", torch.bfloat16):
        assert attention_bias(visible).dtype == torch.bfloat16


def test_one_token_attends_as_pytorch_does_and_unseen_keys_change_no_bit():
    """Five queries share a head of keys, which are processed in blocks."""
    torch.manual_seed(0)
    queries, (keys, values) = torch.randn(6, 5, 32), torch.randn(2, 6, 512, 32)
    bias = torch.zeros(6, 1, 512).masked_fill_(torch.arange(512) >= 200, -torch.inf)
    attended = attend_one(queries, keys, values, bias, 0.3)
    expected = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=0.3)
    torch.testing.assert_close(attended, expected)
    for seen in (224, 256, 384):
        assert torch.equal(attend_one(queries, keys[:, :seen], values[:, :seen], bias[..., :seen], 0.3), attended)


@torch.inference_mode()
@pytest.mark.parametrize("options", [{}, {"attention_cap": 2.0, "window": 4, "local_layers": [0]}])
def test_maps_are_the_weights_of_the_values_in_the_forward_pass(options):
    """With one head, the values weighted by the map are the output of the layer."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig(50, dim=32, layers=2, heads=1, kv_heads=1, hidden_dim=48, **options)).eval()
    ids, passes = torch.randint(0, 50, (9,)), []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda module, inputs, output: passes.append((module, inputs, output)))
    maps = attention_maps(model, ids)
    assert maps.shape == (2, 9, 9) and torch.equal(maps, maps.tril())
    torch.testing.assert_close(maps.sum(dim=2), torch.ones(2, 9))
    for weights, (module, (x, rotary, _), output) in zip(maps, passes, strict=True):
        values = module.project(x, rotary)[2][0, 0]
        torch.testing.assert_close(module.output(weights @ values)[None], output)
