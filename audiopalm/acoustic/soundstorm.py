"""SoundStorm (arXiv 2305.09636): all codec levels of an utterance by masked prediction with a bidirectional Conformer.

A frame (50 Hz) is the sum of the embeddings of its unit (25 Hz, repeated twice) and of its codec levels, where a
masked level is a learned embedding. Choices of ours, made for minutes of training on a CPU instead of days on TPUs:
- the voice prompt is always there in training and comes from *another* utterance of the speaker, in any language,
  as in speech translation; the paper cuts prompt and target from one utterance;
- the prompt sees only itself: it is encoded once, then serves every pass of decoding and several targets in training;
- the mean of the prompt's frames, through a small network, is added to every frame beside attention to the prompt;
- a unit has one embedding for each of its two frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.acoustic.conformer import Conformer, Memory
from audiopalm.errors import AudioPaLMError


@dataclass
class ModelConfig:
    """Sizes; `units_size`, `levels` and `codec_size` are filled in from the tokens that the model is trained on."""

    units_size: int = 0
    levels: int = 0
    codec_size: int = 0
    dim: int = 256
    layers: int = 4
    heads: int = 4
    feedforward: int = 512
    kernel: int = 5  # frames, of the depthwise convolutions
    dropout: float = 0.1


@dataclass
class Voice:
    """An encoded prompt: what attention reads of each block, and its summary `[B, dim]`."""

    memory: Memory
    summary: Tensor

    def select(self, rows: Tensor) -> "Voice":
        """The prompts of `rows [N]`, which may repeat."""
        return Voice([(key[rows], value[rows]) for key, value in self.memory], self.summary[rows])


class SoundStorm(nn.Module):
    """Predicts masked codec tokens from units, known tokens and an encoded voice prompt."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.dim % (2 * config.heads) or config.kernel % 2 == 0:
            raise AudioPaLMError(f"acoustic model: dim {config.dim} must be a multiple of 2 * heads {config.heads}, "
                                 f"and kernel {config.kernel} odd")
        self.config = config
        dim = config.dim
        self.units = nn.Embedding(config.units_size, 2 * dim)
        self.codec = nn.EmbeddingBag(config.levels * (config.codec_size + 1), dim, mode="sum")  # last code: masked
        self.in_prompt = nn.Parameter(torch.zeros(dim))
        self.voice = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.voice_out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.encoder = Conformer(dim, config.layers, config.heads, config.feedforward, config.kernel, config.dropout)
        self.heads = nn.Parameter(torch.empty(config.levels, config.codec_size, dim))
        self.head_bias = nn.Parameter(torch.zeros(config.levels, config.codec_size))
        nn.init.normal_(self.units.weight, std=0.5)
        nn.init.normal_(self.codec.weight, std=0.5 / config.levels ** 0.5)
        nn.init.normal_(self.heads, std=dim ** -0.5)
        self.register_buffer("offsets", torch.arange(config.levels) * (config.codec_size + 1), persistent=False)

    @torch.no_grad()
    def start_from(self, codebooks: Tensor) -> None:
        """Start embeddings and heads from the codec's vectors `[levels, codec_size, latent]`, turned into `dim` axes.

        Codes that sound alike begin alike, so each example teaches about its neighbours too; a frame's embedding is
        then a rotation of the latent that its codes add up to.
        """
        levels, size, latent = codebooks.shape
        turn = torch.linalg.qr(torch.randn(max(self.config.dim, latent), min(self.config.dim, latent)))[0]
        vectors = codebooks @ (turn.T if latent <= self.config.dim else turn)
        table = self.codec.weight.view(levels, size + 1, -1)
        table[:, :size] = vectors * (0.5 / vectors[0].std())
        table[:, size] = 0.02 * torch.randn(levels, self.config.dim)  # the masked code
        self.heads.copy_(vectors / vectors.pow(2).sum(-1, keepdim=True).mean(1, keepdim=True).sqrt())

    def encode_prompt(self, units: Tensor, codec: Tensor) -> Voice:
        """Encode prompts: units `[B, P / 2]`, codec `[B, P, levels]`."""
        tokens = self._tokens(codec)
        summary = self.voice_out(self.voice(tokens).mean(dim=1))
        states = tokens + self._units(units) + self.in_prompt + summary[:, None]
        return Voice(self.encoder(self.norm(states))[1], summary)

    def forward(self, units: Tensor, codec: Tensor, voice: Voice, lengths: Tensor | None = None) -> Tensor:
        """Hidden states `[B, T, dim]`.

        units: `[B, T / 2]`; codec: `[B, T, levels]`, masked entries hold `codec_size`; lengths: `[B]`, real frames
        (None: all of them).
        """
        states = self._tokens(codec) + self._units(units) + voice.summary[:, None]
        return self.encoder(self.norm(states), voice.memory, lengths)[0]

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Logits `[N, codec_size]` of one level from chosen hidden states `[N, dim]`."""
        return functional.linear(states, self.heads[level], self.head_bias[level])

    def _tokens(self, codec: Tensor) -> Tensor:
        batch, frames, levels = codec.shape
        return self.codec((codec + self.offsets).view(-1, levels)).view(batch, frames, -1)

    def _units(self, units: Tensor) -> Tensor:
        batch, count = units.shape
        return self.units(units).view(batch, 2 * count, -1)
