"""Attention maps of every layer, for plots. The model's own forward pass does not store them."""

from typing import Any

import torch
from torch import Tensor

from audiopalm.core.gradients import inference_mode
from audiopalm.lm.attention import attention_scores
from audiopalm.lm.model import Attention, Decoder
from audiopalm.lm.packed_attention import per_query_head


@inference_mode
def attention_maps(model: Decoder, ids: Tensor) -> Tensor:
    """Attention weights `[layers, T, T]` of `ids` int64 `[T]`, averaged over heads; rows are queries, columns keys."""
    inputs: list[tuple[Any, ...]] = []
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments)) for layer in layers]
    length = len(ids)
    model.eval().hidden(ids[None], torch.arange(length, device=ids.device)[None],
                        torch.ones(1, 1, length, length, dtype=torch.bool, device=ids.device).tril())
    for hook in hooks:
        hook.remove()
    maps = []
    for layer, (x, rotary, attend) in zip(layers, inputs, strict=True):
        queries, keys, _ = layer.project(x, rotary)
        keys = per_query_head(keys, layer.heads // layer.kv_heads)
        scores = attention_scores(queries, keys, attend.bias, layer.scale, layer.cap)
        maps.append(scores.softmax(dim=-1)[0].mean(dim=0))
    return torch.stack(maps).float()
