"""The `usm-v2` kind: log-mel, a Conformer and a vector quantiser, trained by CTC so that the units encode words."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.core.quantiser import VectorQuantiser
from audiopalm.units.mel_conformer import MelConformer, blocks


@dataclass
class UnitConfig:
    """config.json for `kind: usm-v2`."""

    bands: int = ranged(80, low=1, high=MAX_SIZE)
    dim: int = ranged(192, low=1, high=MAX_SIZE)
    heads: int = ranged(4, low=1, high=MAX_SIZE)
    kernel: int = ranged(9, low=1, high=MAX_SIZE)  # frames of the Conformer's depthwise convolutions
    context: int = ranged(10, low=1, high=MAX_SIZE)  # frames of attention to each side
    encoder_blocks: int = ranged(4, low=1, high=1000)  # before the quantiser
    head_blocks: int = ranged(1, low=0, high=1000)  # between the quantiser and CTC; the tokenizer never runs them
    dropout: float = ranged(0.0, low=0, high=0.99)
    code_dim: int = ranged(32, low=1, high=MAX_SIZE)
    size: int = ranged(512, low=1, high=MAX_SIZE)  # codes
    characters: str = ""  # of the CTC head, whose class 0 is blank and class i is character i - 1. Set by training


class UnitModel(MelConformer):
    """The encoder, the quantiser and two heads for training: CTC, and the spectrum of each unit."""

    def __init__(self, config: UnitConfig):
        super().__init__(config.bands, config.dim)
        self.config = config
        block = (config.dim, config.heads, config.kernel, config.context, config.dropout)
        self.encoder = blocks(config.encoder_blocks, *block)
        self.to_code = nn.Linear(config.dim, config.code_dim)
        self.code_norm = nn.LayerNorm(config.code_dim, elementwise_affine=False)
        self.quantiser = VectorQuantiser(config.size, config.code_dim)
        self.from_code = nn.Linear(config.code_dim, config.dim)
        self.head = blocks(config.head_blocks, *block)
        self.ctc = nn.Linear(config.dim, 1 + len(config.characters))
        self.spectrum = nn.Sequential(nn.Linear(config.code_dim, config.dim), nn.SiLU(),
                                      nn.Linear(config.dim, 4 * config.bands))

    @property
    def codebook(self) -> Tensor:
        return self.quantiser.codebook

    @property
    def reach(self) -> int:
        return sum(block.reach for block in self.encoder) + 2

    def encode(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]`, mask `[B, T]` -> latents `[B, T, code_dim]` for the quantiser."""
        x = self.subsample(mel, valid)
        for block in self.encoder:
            x = block(x, valid)
        return self.code_norm(self.to_code(x).float())

    def classify(self, codes: Tensor, valid: Tensor) -> Tensor:
        """Codes or latents `[B, T, code_dim]` -> log probabilities of characters `[B, T, 1 + characters]`."""
        x = self.from_code(codes)
        for block in self.head:
            x = block(x, valid)
        return self.ctc(x).float().log_softmax(-1)

    def sound(self, codes: Tensor) -> Tensor:
        """Codes or latents `[B, T, code_dim]` -> normalised log-mels `[B, 4 T, bands]`, each from one code."""
        return self.spectrum(codes).float().unflatten(-1, (4, -1)).flatten(1, 2)

    def text(self, log_probabilities: Tensor) -> str:
        """The text of the best CTC path `[T, classes]`."""
        best = torch.unique_consecutive(log_probabilities.argmax(-1)).tolist()
        return "".join(self.config.characters[index - 1] for index in best if index)
