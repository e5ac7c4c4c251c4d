"""The decoder-only language model: one file, read from top to bottom.

Pre-norm blocks of rotary grouped-query attention and a gated MLP, as in Gemma, Llama and Qwen. With `parallel_block`
both are computed from one norm, as in PaLM. Other differences between the families are options of `ModelConfig`;
audiopalm/lm/huggingface/ sets these options for each family.

Several documents may share a row ("packing"). `segments` numbers them, and attention stays within a document.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audiopalm.core.config import chosen, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.attention import product_dtype
from audiopalm.lm.packed_attention import Attend, dense_attention, packed_attention
from audiopalm.lm.packed_sizes import Sizes, count_sizes, output_positions

MAX_LOGITS = 2 ** 26  # logits in memory at once, 256 MiB in float32: 262 output tokens of a vocabulary of 256,000
MAX_VOCABULARY, MAX_DIM, MAX_LAYERS = 10 ** 7, 2 ** 18, 1000  # no model exceeds these; a larger number is a mistake
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu, "gelu_tanh": partial(F.gelu, approximate="tanh")}


@dataclass
class RopeScaling:
    """Llama 3's scaling of rotary frequencies, for sequences longer than those of the first training.

    A frequency with fewer than `low_freq_factor` rotations within `original_length` tokens is divided by `factor`. A
    frequency with more than `high_freq_factor` rotations is unchanged. Frequencies between are interpolated.
    """

    factor: float = ranged(above=0)
    low_freq_factor: float = ranged(above=0)
    high_freq_factor: float = ranged(above=0)
    original_length: int = ranged(low=1)


@dataclass
class ModelConfig:
    """The shape of a decoder, and the options in which families differ."""

    vocabulary_size: int = ranged(low=1, high=MAX_VOCABULARY)
    dim: int = ranged(256, low=1, high=MAX_DIM)
    layers: int = ranged(6, low=1, high=MAX_LAYERS)
    heads: int = ranged(4, low=1, high=MAX_DIM)
    kv_heads: int = ranged(2, low=1, high=MAX_DIM)
    head_dim: int = ranged(0, low=0, high=MAX_DIM)  # 0: dim / heads
    hidden_dim: int = ranged(768, low=1, high=MAX_DIM)
    activation: str = chosen("silu", ACTIVATIONS)  # of the MLP's gate; Gemma has gelu_tanh
    rope_theta: float = ranged(10000.0, above=0)
    rope_scaling: RopeScaling | None = None  # for all layers except `local_layers` (Llama 3)
    norm_eps: float = ranged(1e-5, low=0)
    tied: bool = True  # the output head shares the embedding matrix (paper 3.2)
    parallel_block: bool = False
    scale_embedding: bool = False  # multiply embeddings by sqrt(dim) (Gemma)
    dropout: float = ranged(0.0, low=0, high=0.99)
    qkv_bias: bool = False  # biases of queries, keys and values (Qwen2)
    query_key_norm: bool = False  # RMSNorm of each head's queries and keys (Qwen3, Gemma 3)
    post_norms: bool = False  # RMSNorm also after attention and MLP (Gemma 2, 3)
    # scores are divided by the square root of this; default: head_dim (Gemma 2, 3)
    attention_divisor: int | None = ranged(None, low=1)
    attention_cap: float | None = ranged(None, above=0)  # scores are limited to +-cap by tanh (Gemma 2)
    logit_cap: float | None = ranged(None, above=0)  # logits are limited to +-cap by tanh (Gemma 2)
    window: int | None = ranged(None, low=1)  # tokens that a token in `local_layers` attends to, itself included
    local_layers: list[int] = ranged([], low=0)  # layers with the window: all in Mistral, some in Gemma
    local_rope_theta: float | None = ranged(None, above=0)  # for local_layers; default: rope_theta (Gemma 3)
    family: str = "llama"  # model_type of an export in Hugging Face's layout
    # intended sequence length; stated in an export, not enforced here
    max_position_embeddings: int = ranged(2048, low=1)

    def __post_init__(self) -> None:
        self.head_dim = self.head_dim or self.dim // self.heads
        if self.head_dim < 2 or self.head_dim % 2 or self.heads % self.kv_heads:
            raise AudioPaLMError(f"decoder: head_dim {self.head_dim} (dim / heads) must be even, and heads "
                                 f"{self.heads} a multiple of kv_heads {self.kv_heads}")
        if self.local_layers and self.window is None:
            raise AudioPaLMError("decoder: local_layers need a window")


@dataclass
class ArchitectureConfig:
    """The shape of a model trained from scratch. A model given by --init_lm has its own shape."""

    dim: int = ranged(256, low=1, high=MAX_DIM)
    layers: int = ranged(6, low=1, high=MAX_LAYERS)
    heads: int = ranged(4, low=1, high=MAX_DIM)
    kv_heads: int = ranged(2, low=1, high=MAX_DIM)
    hidden_dim: int = ranged(768, low=1, high=MAX_DIM)
    parallel_block: bool = False
    scale_embedding: bool = False


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x ** 2) + eps) * weight`, over the last axis, in the dtype of the matrix products after it.

    Autocast would otherwise convert the result for each of these products, which costs a tenth of the training time of
    a small model.
    """

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
        return normed.to(product_dtype(x.device, x.dtype))


def optional_norm(enabled: bool, dim: int, eps: float) -> nn.Module:
    return RMSNorm(dim, eps) if enabled else nn.Identity()


def rotary_tables(positions: Tensor, head_dim: int, theta: float,
                  scaling: RopeScaling | None = None) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 `[B, 1, T, head_dim]`, for positions `[B, T]` (Su et al., arXiv 2104.09864)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim)
    if scaling is not None:
        rotations = frequencies * (scaling.original_length / (2 * math.pi))
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        unscaled = ((rotations - low) / (high - low)).clamp(0, 1)
        frequencies = frequencies * (unscaled + (1 - unscaled) / scaling.factor)
    angles = positions[:, None, :, None].float() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate `x` `[B, heads, T, head_dim]`. Axis i is paired with axis i + head_dim / 2, as in Llama and Gemma."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine.to(x.dtype) + torch.cat([-second, first], dim=-1) * sine.to(x.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.scale = None if config.attention_divisor is None else config.attention_divisor ** -0.5
        self.cap = config.attention_cap
        self.query = nn.Linear(config.dim, config.heads * config.head_dim, bias=config.qkv_bias)
        self.key = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=config.qkv_bias)
        self.value = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=config.qkv_bias)
        self.output = nn.Linear(config.heads * config.head_dim, config.dim, bias=False)
        self.query_norm = optional_norm(config.query_key_norm, config.head_dim, config.norm_eps)
        self.key_norm = optional_norm(config.query_key_norm, config.head_dim, config.norm_eps)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        """`x` `[B, T, dim]` -> `[B, T, dim]`; `attend` comes from `packed_attention` or `dense_attention`."""
        attended = attend(*self.project(x, rotary), self.scale, self.cap)
        return self.output(attended.transpose(1, 2).reshape(*x.shape[:2], -1))

    def project(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries `[B, heads, T, head_dim]`, rotated keys and plain values `[B, kv_heads, T, head_dim]`."""
        batch, length, _ = x.shape
        queries = self.query_norm(self.query(x).view(batch, length, self.heads, -1)).transpose(1, 2)
        keys = self.key_norm(self.key(x).view(batch, length, self.kv_heads, -1)).transpose(1, 2)
        values = self.value(x).view(batch, length, self.kv_heads, -1).transpose(1, 2)
        return rotate(queries, *rotary), rotate(keys, *rotary), values


class GatedMLP(nn.Module):
    """`down(activation(gate(x)) * up(x))`, `[..., dim]` -> `[..., dim]`."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.gate = nn.Linear(config.dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One layer: attention and MLP, each in a residual branch."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config)
        self.attention_post_norm = optional_norm(config.post_norms, config.dim, config.norm_eps)
        self.mlp_norm = None if config.parallel_block else RMSNorm(config.dim, config.norm_eps)
        self.mlp = GatedMLP(config)
        self.mlp_post_norm = optional_norm(config.post_norms, config.dim, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        normed = self.attention_norm(x)
        attended = self.dropout(self.attention_post_norm(self.attention(normed, rotary, attend)))
        if self.mlp_norm is None:
            return x + attended + self.dropout(self.mlp_post_norm(self.mlp(normed)))
        x = x + attended
        return x + self.dropout(self.mlp_post_norm(self.mlp(self.mlp_norm(x))))


class Decoder(nn.Module):
    """A decoder over one vocabulary: text ids first, audio ids after them. The network treats both alike."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.recompute = False  # in training: recompute the activations of each block in the backward pass
        self.embedding = nn.Embedding(config.vocabulary_size, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = None if config.tied else nn.Linear(config.dim, config.vocabulary_size, bias=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Variance scaled by fan-in, as in PaLM. Small models do not learn attention from GPT-2's fixed 0.02."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
        if isinstance(module, (Attention, GatedMLP)):  # residual branches start small; apply() visits children first
            last = module.output if isinstance(module, Attention) else module.down
            nn.init.normal_(last.weight, std=(2 * self.config.layers * last.weight.shape[1]) ** -0.5)

    def compile_blocks(self, **options: Any) -> None:
        """Compile every block in place; `options` are those of torch.compile."""
        for block in self.blocks:
            block.compile(**options)

    @property
    def head_weight(self) -> Tensor:
        """The matrix of the softmax, `[vocabulary_size, dim]`."""
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def window(self) -> int | None:
        """The number of tokens that a token of the local layers attends to; None without such layers."""
        return self.config.window if self.config.local_layers else None

    def hidden(self, ids: Tensor, positions: Tensor, mask: Tensor | dict[bool, Attend]) -> Tensor:
        """Final hidden states `[B, T, dim]`.

        ids, positions: int64 `[B, T]`. mask: bool `[B, 1, T, T]`, True where a query attends to a key, or the result
        of `attention_in` for packed documents.
        """
        config = self.config
        attends = dense_attention(mask, self.window) if isinstance(mask, Tensor) else mask
        x = self.embedding(ids) * (config.dim ** 0.5 if config.scale_embedding else 1.0)
        rotary = rotary_tables(positions, config.head_dim, config.rope_theta, config.rope_scaling)
        layer_inputs = [(rotary, attends[False])] * config.layers
        if config.local_layers:
            if config.local_rope_theta is not None:
                rotary = rotary_tables(positions, config.head_dim, config.local_rope_theta)
            local = rotary, attends[True]
            layer_inputs = [local if layer in config.local_layers else inputs
                            for layer, inputs in enumerate(layer_inputs)]
        for block, inputs in zip(self.blocks, layer_inputs, strict=True):
            if self.recompute and self.training:
                x = checkpoint(block, x, *inputs, use_reentrant=False)
            else:
                x = block(x, *inputs)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 `[..., vocabulary_size]` from hidden states `[..., dim]`."""
        logits, cap = self.scores(hidden).float(), self.config.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits before the cap, `[..., vocabulary_size]`, in the dtype of matrix products."""
        return F.linear(hidden, self.head_weight)

    def attention_in(self, segments: Tensor, sizes: Sizes) -> dict[bool, Attend]:
        """The attention of packed rows, an argument of `hidden`; arguments as in `forward`."""
        dtype = product_dtype(segments.device, self.norm.weight.dtype)
        return packed_attention(segments, sizes, self.window, dtype, self.config.head_dim, self.config.attention_cap)

    def forward(self, ids: Tensor, segments: Tensor, positions: Tensor, targets: Tensor,
                sizes: Sizes | None = None) -> tuple[Tensor, int]:
        """Summed cross entropy over the output tokens of packed rows, and the number of these tokens.

        ids, segments, positions, targets: int64 `[B, T]`. `segments` numbers the documents of a row from 1; 0 is
        padding. `targets` is the next token where it belongs to an output, else -100. sizes: the result of
        `count_sizes` for this batch, taken while its tensors were on the host. Without it, the host waits for the GPU.

        Logits, the largest tensor, are computed at output positions only, at most MAX_LOGITS at a time. If there are
        several pieces, each piece is recomputed in the backward pass.
        """
        sizes = count_sizes(segments, targets) if sizes is None else sizes
        hidden = self.hidden(ids, positions, self.attention_in(segments, sizes))
        positions, targets = output_positions(targets, sizes)
        hidden = hidden.flatten(0, 1).index_select(0, positions)
        size = max(MAX_LOGITS // self.config.vocabulary_size, 1)
        if len(targets) <= size:
            return self._loss(hidden, targets), sizes.outputs
        losses = [checkpoint(self._loss, part, target, use_reentrant=False)
                  for part, target in zip(hidden.split(size), targets.split(size), strict=True)]
        return torch.stack(losses).sum(), sizes.outputs

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(hidden), targets, reduction="sum")
