"""A bidirectional Conformer with rotary attention to its own frames and to those of an encoded prompt.

The frames of a prompt attend only to the prompt. Its keys and values (`Memory`) are computed once, for all iterations
of decoding and, in training, for several targets. The result of a frame does not depend on padding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.lm.attention import attend, attention_bias

ROTARY_BASE = 10000.0
Pair = tuple[Tensor, Tensor]  # cosine and sine, or keys and values
Memory = list[Pair]  # keys and values of each block, `[B, heads, P, width]`


def rotary_table(first: int, frames: int, width: int, device: torch.device) -> Pair:
    """Cosine and sine, float32 `[frames, width]`, of the rotary angles from position `first` on.

    width: the number of axes of a head.
    """
    frequency = ROTARY_BASE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.outer(torch.arange(first, first + frames, device=device, dtype=torch.float32), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(heads: Tensor, table: Pair) -> Tensor:
    """Rotate queries or keys `[B, heads, T, width]` by a `rotary_table`."""
    cosine, sine = (part.to(heads.dtype) for part in table)
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat([-second, first], dim=-1) * sine


def zeros(layer: nn.Linear) -> nn.Linear:
    """Set the last layer of a residual branch to zero, so that each block starts as the identity. Returns the layer."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class FeedForward(nn.Module):
    """Pre-norm feed-forward with SiLU, `[B, T, dim]` -> `[B, T, dim]`."""

    def __init__(self, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.rise = nn.Linear(dim, hidden)
        self.fall = zeros(nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        return self.dropout(self.fall(functional.silu(self.rise(self.norm(states)))))


class Attention(nn.Module):
    """Pre-norm attention of all frames to the prompt and to each other, with rotary positions."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = zeros(nn.Linear(dim, dim, bias=False))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, table: Pair, prompt: Pair | None, bias: Tensor | None) -> tuple[Tensor, Pair]:
        """The attention output `[B, T, dim]`, and the keys and values of these frames, `[B, heads, T, width]` each."""
        batch, frames, dim = states.shape
        split = self.project(self.norm(states)).view(batch, frames, 3, self.heads, dim // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        key = rotate(key, table)
        own = key, value
        if prompt is not None:
            key, value = torch.cat([prompt[0], key], dim=2), torch.cat([prompt[1], value], dim=2)
        attended = attend(rotate(query, table), key, value, bias)
        return self.dropout(self.out(attended.transpose(1, 2).reshape(batch, frames, dim))), own


class Convolution(nn.Module):
    """Pre-norm gated depthwise convolution. Layer norm replaces batch norm, so that results do not depend on the batch.
    """

    def __init__(self, dim: int, kernel: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        # A 2-d convolution of height 1 is three times as fast as Conv1d in the backward pass on a CPU.
        self.depthwise = nn.Conv2d(dim, dim, (1, kernel), padding=(0, kernel // 2), groups=dim)
        self.inner_norm = nn.LayerNorm(dim)
        self.out = zeros(nn.Linear(dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, padding: Tensor | None) -> Tensor:
        states = functional.glu(self.gate(self.norm(states)), dim=-1)
        if padding is not None:
            states = states.masked_fill(padding[..., None], 0.0)  # as at the end of an unpadded utterance
        states = self.depthwise(states.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        return self.dropout(self.out(functional.silu(self.inner_norm(states))))


class Block(nn.Module):
    """One Conformer block: half feed-forward, attention, convolution, half feed-forward, norm."""

    def __init__(self, dim: int, heads: int, feedforward: int, kernel: int, dropout: float):
        super().__init__()
        self.before = FeedForward(dim, feedforward, dropout)
        self.attention = Attention(dim, heads, dropout)
        self.convolution = Convolution(dim, kernel, dropout)
        self.after = FeedForward(dim, feedforward, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, states: Tensor, table: Pair, prompt: Pair | None, bias: Tensor | None,
                padding: Tensor | None) -> tuple[Tensor, Pair]:
        states = torch.add(states, self.before(states), alpha=0.5)  # one pass over the states instead of two
        attended, own = self.attention(states, table, prompt, bias)
        states = states + attended
        states = states + self.convolution(states, padding)
        states = torch.add(states, self.after(states), alpha=0.5)
        return self.norm(states), own


class Conformer(nn.Module):
    """A stack of Conformer blocks."""

    def __init__(self, dim: int, layers: int, heads: int, feedforward: int, kernel: int, dropout: float):
        super().__init__()
        self.width = dim // heads
        self.blocks = nn.ModuleList(Block(dim, heads, feedforward, kernel, dropout) for _ in range(layers))

    def forward(self, states: Tensor, prompt: Memory | None = None,
                lengths: Tensor | None = None) -> tuple[Tensor, Memory]:
        """`[B, T, dim]` -> `[B, T, dim]`, and the `Memory` of these frames.

        Positions continue after those of `prompt`. lengths: `[B]`, frames without padding; None means no padding.
        """
        batch, frames, _ = states.shape
        first = prompt[0][0].shape[2] if prompt else 0
        table = rotary_table(first, frames, self.width, states.device)
        padding = bias = None
        if lengths is not None:
            padding = torch.arange(frames, device=states.device) >= lengths[:, None]
            bias = attention_bias(torch.cat([padding.new_ones(batch, first), ~padding], dim=1)[:, None, None])
        memory: Memory = []
        for index, block in enumerate(self.blocks):
            states, own = block(states, table, prompt[index] if prompt else None, bias, padding)
            memory.append(own)
        return states, memory
