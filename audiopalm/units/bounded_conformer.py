"""A Conformer with bounded attention: every output depends on a limited number of input frames.

ESPnet's encoder is not used for two reasons. Its attention covers the whole utterance, so that the units of a word
would depend on the rest of the file and long recordings could not be encoded in parts. And this package must work
without espnet.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.core.errors import AudioPaLMError


def rotate(x: Tensor) -> Tensor:
    """Rotary position embedding of `[B, heads, T, size]`: attention depends on distances, not on positions."""
    half = x.shape[-1] // 2
    frequencies = 100.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)[:, None] * frequencies
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class FeedForward(nn.Sequential):
    """Pre-norm feed-forward with SiLU, `[B, T, dim]` -> `[B, T, dim]`."""

    def __init__(self, dim: int, dropout: float):
        super().__init__(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Dropout(dropout),
                         nn.Linear(2 * dim, dim), nn.Dropout(dropout))


class ConformerBlock(nn.Module):
    """`[B, T, dim]` -> `[B, T, dim]`: feed-forward, attention, convolution, feed-forward.

    A frame attends to `context` frames on each side. Raises AudioPaLMError for sizes that do not fit together.
    """

    def __init__(self, dim: int, heads: int, kernel: int, context: int, dropout: float):
        super().__init__()
        if dim % (2 * heads) or kernel % 2 == 0:
            raise AudioPaLMError(f"units: dim {dim} must be a multiple of 2 * heads {heads}, and kernel {kernel} odd")
        self.heads, self.context = heads, context
        self.before, self.after = FeedForward(dim, dropout), FeedForward(dim, dropout)
        self.attention_norm, self.project, self.merge = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.conv_norm, self.gate = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim)
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.inner_norm, self.mix = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)

    @property
    def reach(self) -> int:
        """The number of frames on each side that an output depends on."""
        return self.context + self.conv.kernel_size[0] // 2

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """`valid` `[B, T]` is False on padding, which has no effect on valid frames."""
        x = x + 0.5 * self.before(x)
        x = x + self.dropout(self.attend(self.attention_norm(x), valid))
        gated = functional.glu(self.gate(self.conv_norm(x)), dim=-1) * valid[:, :, None]
        mixed = self.conv(gated.transpose(1, 2)).transpose(1, 2)
        x = x + self.dropout(self.mix(functional.silu(self.inner_norm(mixed))))
        return self.norm(x + 0.5 * self.after(x))

    def attend(self, x: Tensor, valid: Tensor) -> Tensor:
        """The attention output `[B, T, dim]`; arguments as in `forward`."""
        batch, frames, dim = x.shape
        query, key, value = self.project(x).view(batch, frames, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        position = torch.arange(frames, device=x.device)
        near = (position[:, None] - position[None, :]).abs() <= self.context
        # A padded frame attends to itself, because a row without keys would give NaN.
        mask = near & valid[:, None, :] | torch.eye(frames, dtype=torch.bool, device=x.device)
        attended = functional.scaled_dot_product_attention(rotate(query), rotate(key), value, attn_mask=mask[:, None])
        return self.merge(attended.transpose(1, 2).reshape(batch, frames, dim))
