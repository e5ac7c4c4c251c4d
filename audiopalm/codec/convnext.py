"""A ConvNeXt network over frames, the encoder and the decoder of the spectral codec."""

import torch
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """`[B, T, dim]` -> `[B, T, dim]`: depthwise convolution over 7 frames, norm, two linear layers, scaled residual.

    valid: float `[B, T, 1]`, 0 on padding, which then has no effect; None means no padding.
    """

    def __init__(self, dim: int, hidden: int, scale: float):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand, self.shrink = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        mixed = self.conv(without_padding(x, valid).transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.shrink(nn.functional.gelu(self.expand(self.norm(mixed))))


class ConvNeXt(nn.Module):
    """`[B, T, inputs]` -> `[B, T, outputs]` through `blocks` ConvNeXt blocks."""

    def __init__(self, inputs: int, dim: int, hidden: int, blocks: int, outputs: int):
        super().__init__()
        self.first, self.first_norm = nn.Conv1d(inputs, dim, 7, padding=3), nn.LayerNorm(dim)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim, hidden, 1 / blocks) for _ in range(blocks)))
        self.last_norm, self.last = nn.LayerNorm(dim), nn.Linear(dim, outputs)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = self.first_norm(self.first(without_padding(x, valid).transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x, valid)
        return self.last(self.last_norm(x))


def without_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """`x` `[B, T, dim]` with zeros on padding; valid: see `ConvNeXtBlock`."""
    return x if valid is None else x * valid
