"""The `w2v-bert` kind: a Conformer trained on speech without texts; one of its middle layers is clustered.

w2v-BERT (arXiv 2108.06209) masks speech. The first blocks learn to distinguish the code of a masked frame from those of
other frames (contrastive loss). The blocks after them learn to predict it (masked prediction).

In the paper the codes are learned jointly. On egs/mini only 6 of 256 such codes were in use after 400 steps. Our codes
are k-means clusters of log-mel, which cannot collapse; HuBERT's first codes are clusters of MFCCs (arXiv 2106.07447).
It has the same Conformer as usm-v2. Its attention is bounded, so that units depend on nearby frames only, and
recordings of any length are encoded in parts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.core.quantiser import nearest
from audiopalm.units.mel_conformer import MelConformer, blocks, positions_of


@dataclass
class W2vBertConfig:
    """config.json for `kind: w2v-bert`."""

    bands: int = ranged(80, low=1, high=MAX_SIZE)
    dim: int = ranged(512, low=1, high=MAX_SIZE)
    heads: int = ranged(8, low=1, high=MAX_SIZE)
    kernel: int = ranged(9, low=1, high=MAX_SIZE)  # frames of the Conformer's depthwise convolutions
    context: int = ranged(25, low=1, high=MAX_SIZE)  # frames of attention to each side
    contrastive_blocks: int = ranged(6, low=1, high=1000)
    masked_blocks: int = ranged(6, low=0, high=1000)  # after the contrastive blocks
    layer: int = ranged(8, low=1)  # the block whose output is clustered, from 1; the tokenizer runs no block after it
    dropout: float = ranged(0.1, low=0, high=0.99)
    # clusters of log-mel that the training predicts; they are not the units
    target_codes: int = ranged(500, low=1, high=MAX_SIZE)
    target_dim: int = ranged(256, low=1, high=MAX_SIZE)
    size: int = ranged(1024, low=1, high=MAX_SIZE)  # units


class W2vBert(MelConformer):
    """The encoder, its codebook, and two heads for training: contrastive, and masked prediction."""

    def __init__(self, config: W2vBertConfig):
        super().__init__(config.bands, config.dim)
        self.config = config
        self.blocks = blocks(config.contrastive_blocks + config.masked_blocks, config.dim, config.heads, config.kernel,
                             config.context, config.dropout)
        self.mask_vector = nn.Parameter(torch.randn(config.dim) * 0.1)
        self.register_buffer("centres", torch.zeros(config.target_codes, 4 * config.bands))
        self.targets = nn.Parameter(torch.randn(config.target_codes, config.target_dim))
        self.guess = nn.Linear(config.dim, config.target_dim)
        self.head = nn.Linear(config.dim, config.target_codes)
        self.register_buffer("codebook", torch.zeros(config.size, config.dim))

    @property
    def reach(self) -> int:
        return sum(block.reach for block in self.blocks[:self.config.layer]) + 2

    def normalise(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Subtract the mean of each recording. Speaker and channel change this mean more than phones do."""
        weight = valid.repeat_interleave(4, dim=1)[:, :, None].to(mel.dtype)
        return mel - (mel * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)

    def encode(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]`, mask `[B, T]` -> the output of the layer, `[B, T, dim]`."""
        x = self.subsample(mel, valid)
        for block in self.blocks[:self.config.layer]:
            x = block(x, valid)
        return x

    def frames(self, mel: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]` -> the features whose clusters are the training codes, `[B, T, 4 bands]`."""
        return ((mel - self.mean) / self.scale).unflatten(1, (-1, 4)).flatten(2)

    def losses(self, mel: Tensor, valid: Tensor, masked: Tensor) -> dict[str, Tensor]:
        """The contrastive loss and the loss of masked prediction, both 0-d. Their sum is minimised.

        mel: log-mel `[B, 4 T, bands]`. valid: bool `[B, T]`, False on padding. masked: bool `[B, T]`, the masked
        frames, on the host.
        """
        recording = masked.nonzero()[:, 0].to(mel.device, non_blocking=True)
        positions = positions_of(masked, mel.device)
        codes = nearest(self.frames(mel).flatten(0, 1).index_select(0, positions), self.centres)
        hidden = masked.to(mel.device, non_blocking=True)[:, :, None]
        x = torch.where(hidden, self.mask_vector, self.subsample(mel, valid))
        for block in self.blocks[:self.config.contrastive_blocks]:
            x = block(x, valid)
        guess = self.guess(x.flatten(0, 1).index_select(0, positions)).float()
        for block in self.blocks[self.config.contrastive_blocks:]:
            x = block(x, valid)
        logits = self.head(x.flatten(0, 1).index_select(0, positions)).float()
        return {"contrastive": contrast(guess, self.targets[codes], codes, recording),
                "masked": functional.cross_entropy(logits, codes)}


def contrast(guess: Tensor, chosen: Tensor, codes: Tensor, recording: Tensor) -> Tensor:
    """The cross-entropy of identifying the code of each of N masked frames among the codes of its recording, 0-d.

    guess: predictions `[N, target_dim]`. chosen: the vectors `[N, target_dim]` of `codes` `[N]`. recording: `[N]`.
    Logits are cosines divided by 0.1, as in wav2vec 2.0. The negatives are all masked frames of the recording with
    other codes. The paper draws 100 negatives.
    """
    cosine = functional.normalize(guess, dim=-1) @ functional.normalize(chosen, dim=-1).T / 0.1
    own = torch.eye(len(guess), dtype=torch.bool, device=guess.device)
    candidates = (recording[:, None] == recording[None]) & (codes[:, None] != codes[None]) | own
    return functional.cross_entropy(cosine.masked_fill(~candidates, float("-inf")),
                                    torch.arange(len(guess), device=guess.device))


def draw_mask(valid: Tensor, start: float, span: int) -> Tensor:
    """The frames to mask, bool `[B, T]`, in spans of `span` frames.

    Each valid frame begins a span with probability `start`; every recording has at least one span.
    """
    begins = (torch.rand(valid.shape, device=valid.device) < start) & valid
    first = (torch.rand(len(valid), device=valid.device) * valid.sum(1)).long()
    begins[torch.arange(len(valid), device=valid.device), first] = True
    reached = functional.max_pool1d(functional.pad(begins[:, None].float(), (span - 1, 0)), span, stride=1)[:, 0] > 0
    return reached & valid
