"""The `w2v-bert` kind: a Conformer trained on speech alone, one of its middle layers clustered.

w2v-BERT (arXiv 2108.06209): of masked speech, the first blocks must tell the true code of a masked frame from those of
others, and the blocks behind them must name it. There the codes are learned beside all else; on egs/mini these had come
down to 6 of 256 after 400 steps. Here they are k-means clusters of log-mel, which cannot, as HuBERT's first ones are of
MFCCs (arXiv 2106.07447). The Conformer is the one of usm-v2, whose attention is bounded: units of a word depend on its
surroundings alone, and recordings of any length are encoded in parts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.core.quantiser import nearest
from audiopalm.units.mel_conformer import MelConformer, blocks


@dataclass
class W2vBertConfig:
    bands: int = ranged(80, low=1, high=MAX_SIZE)
    dim: int = ranged(512, low=1, high=MAX_SIZE)
    heads: int = ranged(8, low=1, high=MAX_SIZE)
    kernel: int = ranged(9, low=1, high=MAX_SIZE)  # frames of the Conformer's depthwise convolutions
    context: int = ranged(25, low=1, high=MAX_SIZE)  # frames of attention to each side
    contrastive_blocks: int = ranged(6, low=1, high=1000)
    masked_blocks: int = ranged(6, low=0, high=1000)  # behind the contrastive ones
    layer: int = ranged(8, low=1)  # the block whose output is clustered, from 1; the tokenizer runs none behind it
    dropout: float = ranged(0.1, low=0, high=0.99)
    # clusters of log-mel that training predicts; they are not the units
    target_codes: int = ranged(500, low=1, high=MAX_SIZE)
    target_dim: int = ranged(256, low=1, high=MAX_SIZE)
    size: int = ranged(1024, low=1, high=MAX_SIZE)  # units


class W2vBert(MelConformer):
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

    def encode(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]`, mask `[B, T]` -> the output of the layer `[B, T, dim]`, not normalised further."""
        x = self.subsample(mel, valid)
        for block in self.blocks[:self.config.layer]:
            x = block(x, valid)
        return x

    def frames(self, mel: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]` -> what the codes of training are clusters of, `[B, T, 4 bands]`."""
        return ((mel - self.mean) / self.scale).unflatten(1, (-1, 4)).flatten(2)

    def losses(self, mel: Tensor, valid: Tensor, masked: Tensor) -> dict[str, Tensor]:
        """Of log-mel `[B, 4 T, bands]` of which the frames `masked` `[B, T]` are hidden; the sum is what is trained."""
        codes = nearest(self.frames(mel)[masked], self.centres)
        x = torch.where(masked[:, :, None], self.mask_vector, self.subsample(mel, valid))
        for block in self.blocks[:self.config.contrastive_blocks]:
            x = block(x, valid)
        guess = self.guess(x[masked]).float()
        for block in self.blocks[self.config.contrastive_blocks:]:
            x = block(x, valid)
        return {"contrastive": contrast(guess, self.targets[codes], codes, masked.nonzero()[:, 0]),
                "masked": functional.cross_entropy(self.head(x[masked]).float(), codes)}


def contrast(guess: Tensor, chosen: Tensor, codes: Tensor, recording: Tensor) -> Tensor:
    """Cross-entropy of finding the own code of each of N masked frames among those of its recording.

    `guess`, and `chosen`, the vectors of `codes` `[N]`: `[N, target_dim]`; `recording` `[N]`. Cosines over 0.1, as
    wav2vec 2.0 has it; all masked frames of the recording with other codes compete, of which the paper draws 100.
    """
    cosine = functional.normalize(guess, dim=-1) @ functional.normalize(chosen, dim=-1).T / 0.1
    own = torch.eye(len(guess), dtype=torch.bool, device=guess.device)
    rivals = (recording[:, None] == recording[None]) & (codes[:, None] != codes[None]) | own
    return functional.cross_entropy(cosine.masked_fill(~rivals, float("-inf")),
                                    torch.arange(len(guess), device=guess.device))


def draw_mask(valid: Tensor, start: float, span: int) -> Tensor:
    """Mask `[B, T]` of what to hide: valid frames begin spans with probability `start`, one in a recording always."""
    begins = (torch.rand(valid.shape, device=valid.device) < start) & valid
    first = (torch.rand(len(valid), device=valid.device) * valid.sum(1)).long()
    begins[torch.arange(len(valid), device=valid.device), first] = True
    reached = functional.max_pool1d(functional.pad(begins[:, None].float(), (span - 1, 0)), span, stride=1)[:, 0] > 0
    return reached & valid
