"""The layers of the decoder for generation: the weights of a layer's products are concatenated and packed.

PACKED_WEIGHTS caches the packed weights of a model until its weights change or the model is deleted.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.lm.generation.cpu import kernels
from audiopalm.lm.generation.cpu.linear import PackedLinear
from audiopalm.lm.model import ACTIVATIONS, Block, Decoder, ModelConfig, RMSNorm, rotate

# {model: (state of its weights, (packed layers, output head))}
PACKED_WEIGHTS: WeakKeyDictionary[Decoder, tuple[list[Any], tuple[list["PackedLayer"], PackedLinear]]] = (
    WeakKeyDictionary())


class PackedLayer:
    """`Block` for tokens `[N, dim]`, without batch dimension and gradients. The caller supplies the attention."""

    def __init__(self, block: Block, config: ModelConfig):
        attention, mlp = block.attention, block.mlp
        self.block, self.head_dim = block, config.head_dim
        self.attention_norm = fast_norm(block.attention_norm)
        self.attention_post_norm = fast_norm(block.attention_post_norm)
        self.mlp_norm = None if block.mlp_norm is None else fast_norm(block.mlp_norm)
        self.mlp_post_norm = fast_norm(block.mlp_post_norm)
        self.heads, self.kv_heads, self.groups = config.heads, config.kv_heads, config.heads // config.kv_heads
        self.scale = config.head_dim ** -0.5 if attention.scale is None else attention.scale
        projections = [attention.query, attention.key, attention.value]
        biases = [projection.bias for projection in projections] if config.qkv_bias else []
        self.qkv = PackedLinear([projection.weight for projection in projections], biases)
        self.output = PackedLinear([attention.output.weight], [])
        self.gate_up = PackedLinear([mlp.gate.weight, mlp.up.weight], [])
        self.down = PackedLinear([mlp.down.weight], [])
        self.activation = ACTIVATIONS[config.activation]
        self.has_query_key_norm = isinstance(attention.query_norm, RMSNorm)

    def __call__(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        """`[N, dim]` -> `[N, dim]`.

        `attend` maps queries, keys and values `[N, heads + 2 * kv_heads, head_dim]`, not yet rotated, to the attention
        output: `N * heads * head_dim` numbers in this order.
        """
        normed, rows = self.attention_norm(x), x.shape[0]  # len() of a tensor takes longer
        projected = self.qkv(normed).view(rows, -1, self.head_dim)
        if self.has_query_key_norm:
            attention, (queries, keys, values) = self.block.attention, self.split(projected)
            projected = torch.cat([attention.query_norm(queries), attention.key_norm(keys), values], dim=1)
        attended = self.attention_post_norm(self.output(attend(projected).reshape(rows, -1)))
        if self.mlp_norm is None:
            return x + attended + self.mlp_post_norm(self._mlp(normed))
        x = x + attended
        return x + self.mlp_post_norm(self._mlp(self.mlp_norm(x)))

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[N, heads, head_dim]`, keys and values `[N, kv_heads, head_dim]`."""
        return projected.split([self.heads, self.kv_heads, self.kv_heads], dim=1)

    def split_rotated(self, projected: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`split` with queries and keys rotated; cosine and sine are `[N, 1, head_dim]`."""
        queries, keys, values = self.split(projected)
        return rotate(queries, cosine, sine), rotate(keys, cosine, sine), values

    def _mlp(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate).mul_(up))


def fast_norm(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The CPU kernel for an RMSNorm in float32 on a CPU, a plain function for no norm, else the module itself."""
    if isinstance(module, nn.Identity):
        return _unchanged
    if not isinstance(module, RMSNorm) or module.weight.device.type != "cpu" or module.weight.dtype != torch.float32:
        return module
    weight, eps = module.weight.detach().numpy(), np.float32(module.eps)

    def norm(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        kernels.rms_norm(x.numpy(), weight, eps, out.numpy())
        return out

    return norm


def _unchanged(x: Tensor) -> Tensor:
    """A call of `nn.Identity` takes several times as long, in every layer of every decode step."""
    return x


def packed_weights(model: Decoder) -> tuple[list[PackedLayer], PackedLinear]:
    """Packed layers and output head of `model`. They are packed again only after its weights have changed."""
    state = [(parameter.data_ptr(), None if parameter.is_inference() else parameter._version)
             for parameter in model.parameters()]
    if model not in PACKED_WEIGHTS or PACKED_WEIGHTS[model][0] != state:
        layers = [PackedLayer(block, model.config) for block in model.blocks]
        PACKED_WEIGHTS[model] = state, (layers, PackedLinear([model.head_weight], []))
    return PACKED_WEIGHTS[model][1]
