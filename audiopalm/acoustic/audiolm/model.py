"""AudioLM's stages 2 and 3 (arXiv 2209.03143, section 3.3): codec tokens one after another, by two language models.

Stage 2 reads units and writes the coarse levels; stage 3 reads the coarse levels and writes the fine ones. Each is the
`Decoder` of the joint language model with ids of its own: first those of what it reads, then those of what it writes,
level by level. A sequence is all that is read, then the codec tokens frame by frame; the voice prompt comes first in
both. Choices of ours:
- a token's position is its time, not its place in the sequence: what is read of a frame lies beside what is written of
  it, so that finding it needs no learning of distances;
- prompt and target are of different utterances of a speaker, as in SoundStorm here, and the prompt's tokens are
  learned too;
- only the level whose turn it is can be written, in learning as in speaking.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.acoustic.corpus import UnitLatents
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT
from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.model import ArchitectureConfig, Decoder
from audiopalm.lm.model import ModelConfig as DecoderConfig

KIND_SPREAD = 0.3  # what tells units and levels apart at first, relative to what tells codes apart


@dataclass
class ModelConfig:
    """Sizes; those that are 0 are filled in from the tokens that the model is trained on. `levels` may be fewer than
    the codec's: the codec decodes without the finest."""

    units_size: int = 0
    levels: int = 0
    codec_size: int = 0
    coarse_levels: int = 4
    coarse: ArchitectureConfig = field(default_factory=ArchitectureConfig)  # stage 2
    fine: ArchitectureConfig = field(default_factory=ArchitectureConfig)  # stage 3
    dropout: float = 0.0
    fine_prompt_seconds: float = 3.0  # what stage 3 hears of the prompt: its end
    fine_seconds: float = 3.0  # stage 3 works in windows of this length


class Stage(nn.Module):
    """One autoregressive stage, from context `[B, T / stride, read]` to codes `[B, T, levels]`."""

    def __init__(self, read: int, read_size: int, stride: int, levels: int, size: int,
                 architecture: ArchitectureConfig, dropout: float):
        super().__init__()
        self.read, self.read_size, self.stride, self.levels, self.size = read, read_size, stride, levels, size
        self.written = read * read_size  # the first id of what is written
        self.decoder = Decoder(DecoderConfig(self.written + levels * size, dropout=dropout, **to_dict(architecture)))

    def read_ids(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and positions `[B, N * read]` of context `[B, N, read]`."""
        ids = context + torch.arange(self.read, device=context.device) * self.read_size
        return ids.flatten(1), self._positions(context, self.stride, 0)

    def written_ids(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and positions `[B, T * levels]` of codes `[B, T, levels]`."""
        offsets = self.written + torch.arange(self.levels, device=codes.device) * self.size
        return (codes + offsets).flatten(1), self._positions(codes, 1, self.read)

    def written_id(self, code: Tensor, frame: int, level: int) -> tuple[Tensor, Tensor]:
        """The same `[B, 1]` of the one code `[B]` at `frame` and `level`."""
        position = frame * (self.read + self.levels) + self.read + level
        return (code + self.written + level * self.size)[:, None], torch.full_like(code[:, None], position)

    def _positions(self, tokens: Tensor, stride: int, behind: int) -> Tensor:
        frame = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * stride * (self.read + self.levels)
        place = frame + behind + torch.arange(tokens.shape[2], device=tokens.device)
        return place.flatten().expand(len(tokens), -1)

    def logits(self, hidden: Tensor, level: int) -> Tensor:
        """`[..., size]` of the codes of one level from hidden states `[..., dim]`; no other level is computed."""
        first = self.written + level * self.size
        return functional.linear(hidden, self.decoder.head_weight[first:first + self.size]).float()

    def forward(self, context: Tensor, codes: Tensor) -> Tensor:
        """Hidden states `[B, T, levels, dim]`: [t, l] has seen all context and the codes before level l of frame t."""
        ids, positions = (torch.cat(pair, dim=1)[:, :-1]
                          for pair in zip(self.read_ids(context), self.written_ids(codes), strict=True))
        length = ids.shape[1]
        causal = torch.ones(1, 1, length, length, dtype=torch.bool, device=ids.device).tril()
        hidden = self.decoder.hidden(ids, positions, causal)
        return hidden[:, -codes[0].numel():].unflatten(1, codes.shape[1:])


class AudioLM(nn.Module):
    """Both stages; they share nothing, and are trained side by side."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        if not 0 < config.coarse_levels < config.levels:
            raise AudioPaLMError(f"acoustic model: coarse_levels {config.coarse_levels} must be at least 1 and fewer "
                                 f"than all {config.levels} levels")
        self.config = config
        coarse, fine, codes = config.coarse_levels, config.levels - config.coarse_levels, config.codec_size
        self.coarse = Stage(1, config.units_size, FRAMES_PER_UNIT, coarse, codes, config.coarse, config.dropout)
        self.fine = Stage(coarse, codes, 1, fine, codes, config.fine, config.dropout)

    @torch.no_grad()
    def start_from(self, codebooks: Tensor, latents: UnitLatents) -> None:
        """Embeddings start as the codec's vectors `[levels, codec_size, latent]`, those of units as the average latent
        of their frames: codes that sound alike are alike from the first step on."""
        coarse = self.config.coarse_levels
        _embed(self.coarse.decoder, [latents.means.mean(dim=1), *codebooks[:coarse]])
        _embed(self.fine.decoder, list(codebooks))


def _embed(decoder: Decoder, tables: list[Tensor]) -> None:
    """Tables `[size, latent]` as rows of norm about 1, turned into the decoder's axes, each kind marked as such."""
    dim, latent = decoder.config.dim, tables[0].shape[1]
    turn = torch.linalg.qr(torch.randn(max(dim, latent), min(dim, latent)))[0]
    turn = turn.T if latent <= dim else turn
    rows = []
    for table in tables:
        centred = table - table.mean(dim=0)
        mark = KIND_SPREAD * torch.randn(dim) / dim ** 0.5
        rows.append(centred @ turn / centred.square().sum(dim=1).mean().sqrt() + mark)
    decoder.embedding.weight.copy_(torch.cat(rows))
