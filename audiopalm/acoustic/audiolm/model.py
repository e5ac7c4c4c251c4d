"""AudioLM's stages 2 and 3 (arXiv 2209.03143, section 3.3): autoregressive language models of codec tokens.

Stage 2 generates the coarse levels from units, stage 3 the fine levels from the coarse levels. Each is a `Decoder` with
its own ids: first the ids of its context, then those of its codes, level by level. A sequence is the context, then the
codec tokens frame by frame. Context and codec tokens both begin with the voice prompt.

This model differs from the paper:
- The position of a token is its time, not its offset in the sequence. The context of a frame is next to the frame's
  codes, so that the model need not learn the distance.
- Prompt and target are different utterances of a speaker, as in our SoundStorm. The prompt's tokens also have loss.
- At each step only the codes of one level are possible, in training and in generation.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.acoustic.latents import UnitLatents
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT
from audiopalm.acoustic.token_meta import TokenSizes
from audiopalm.core.config import ranged, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import no_grad
from audiopalm.lm.model import ArchitectureConfig, Decoder
from audiopalm.lm.model import ModelConfig as DecoderConfig

TABLE_SPREAD = 0.3  # initial distance between the tables of units and levels, relative to that between their codes


@dataclass
class ModelConfig(TokenSizes):
    """Sizes of the model."""

    coarse_levels: int = ranged(4, low=1, high=64)
    coarse: ArchitectureConfig = field(default_factory=ArchitectureConfig)  # stage 2
    fine: ArchitectureConfig = field(default_factory=ArchitectureConfig)  # stage 3
    dropout: float = ranged(0.0, low=0, high=0.99)
    # The end of the voice prompt that stage 3 gets. A voice prompt has 3 s.
    fine_prompt_seconds: float = ranged(3.0, low=0.1, high=3.0)
    fine_seconds: float = ranged(3.0, low=0.1, high=60)  # the window length of stage 3


class Stage(nn.Module):
    """One autoregressive stage, from context `[B, T / stride, context_levels]` to codes `[B, T, levels]`."""

    def __init__(self, context_levels: int, context_size: int, stride: int, levels: int, size: int,
                 architecture: ArchitectureConfig, dropout: float):
        super().__init__()
        self.context_levels, self.context_size, self.stride = context_levels, context_size, stride
        self.levels, self.size = levels, size
        self.first_code_id = context_levels * context_size
        self.positions_per_frame = context_levels + levels
        vocabulary_size = self.first_code_id + levels * size
        self.decoder = Decoder(DecoderConfig(vocabulary_size, dropout=dropout, **to_dict(architecture)))

    def context_ids(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and positions `[B, N * context_levels]` of context `[B, N, context_levels]`."""
        ids = context + torch.arange(self.context_levels, device=context.device) * self.context_size
        return ids.flatten(1), self._positions(context, self.stride, 0)

    def code_ids(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and positions `[B, T * levels]` of codes `[B, T, levels]`."""
        offsets = self.first_code_id + torch.arange(self.levels, device=codes.device) * self.size
        return (codes + offsets).flatten(1), self._positions(codes, 1, self.context_levels)

    def code_id(self, code: Tensor, frame: int, level: int) -> tuple[Tensor, Tensor]:
        """Ids and positions `[B, 1]` of one code per sequence, `[B]`, at `frame` and `level`."""
        position = frame * self.positions_per_frame + self.context_levels + level
        return (code + self.first_code_id + level * self.size)[:, None], torch.full_like(code[:, None], position)

    def _positions(self, tokens: Tensor, stride: int, first: int) -> Tensor:
        """Positions `[B, N * L]` of tokens `[B, N, L]`, one every `stride` frames; `first` belongs to level 0."""
        frame = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * stride * self.positions_per_frame
        positions = frame + first + torch.arange(tokens.shape[2], device=tokens.device)
        return positions.flatten().expand(len(tokens), -1)

    def logits(self, hidden: Tensor, level: int) -> Tensor:
        """Logits `[..., size]` of the codes of one level from hidden states `[..., dim]`."""
        first = self.first_code_id + level * self.size
        return functional.linear(hidden, self.decoder.head_weight[first:first + self.size]).float()

    def forward(self, context: Tensor, codes: Tensor) -> Tensor:
        """Hidden states `[B, T, levels, dim]`. The state [t, l] depends on the context and on the codes before [t, l].

        context: int64 `[B, N, context_levels]`. codes: int64 `[B, T, levels]`.
        """
        ids, positions = (torch.cat(pair, dim=1)[:, :-1]
                          for pair in zip(self.context_ids(context), self.code_ids(codes), strict=True))
        length = ids.shape[1]
        causal = torch.ones(1, 1, length, length, dtype=torch.bool, device=ids.device).tril()
        hidden = self.decoder.hidden(ids, positions, causal)
        return hidden[:, -codes[0].numel():].unflatten(1, codes.shape[1:])


class AudioLM(nn.Module):
    """Stages 2 and 3. They share no weights and are trained together.

    Raises AudioPaLMError unless there are both coarse and fine levels.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        if not 0 < config.coarse_levels < config.levels:
            raise AudioPaLMError(f"acoustic model: coarse_levels {config.coarse_levels} must be at least 1 and fewer "
                                 f"than all {config.levels} levels")
        self.config = config
        coarse, fine, codes = config.coarse_levels, config.levels - config.coarse_levels, config.codec_size
        self.coarse = Stage(1, config.units_size, FRAMES_PER_UNIT, coarse, codes, config.coarse, config.dropout)
        self.fine = Stage(coarse, codes, 1, fine, codes, config.fine, config.dropout)

    @no_grad
    def start_from(self, codebooks: Tensor, latents: UnitLatents) -> None:
        """Initialise embeddings so that similar sounds have similar embeddings.

        Codes get the codec's vectors `codebooks [levels, codec_size, latent]`, units the average latent of their
        frames.
        """
        coarse = self.config.coarse_levels
        _embed(self.coarse.decoder, [latents.means.mean(dim=1), *codebooks[:coarse]])
        _embed(self.fine.decoder, list(codebooks))


def _embed(decoder: Decoder, tables: list[Tensor]) -> None:
    """Set the embeddings to `tables` `[size, latent]`, projected to `dim` axes with norms of about 1.

    A random offset for each table separates units and levels.
    """
    dim, latent = decoder.config.dim, tables[0].shape[1]
    projection = torch.linalg.qr(torch.randn(max(dim, latent), min(dim, latent)))[0]
    projection = projection.T if latent <= dim else projection
    rows = []
    for table in tables:
        centred = table - table.mean(dim=0)
        offset = TABLE_SPREAD * torch.randn(dim) / dim ** 0.5
        rows.append(centred @ projection / centred.square().sum(dim=1).mean().sqrt() + offset)
    decoder.embedding.weight.copy_(torch.cat(rows))
