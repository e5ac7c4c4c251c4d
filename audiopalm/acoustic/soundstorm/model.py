"""SoundStorm (arXiv 2305.09636): all codec levels of an utterance by masked prediction with a bidirectional Conformer.

A frame (50 Hz) is the sum of the embeddings of its unit (25 Hz, repeated twice) and of its codec levels, where a
masked level is a learned embedding. Choices of ours, made for minutes of training on a CPU instead of days on TPUs:
- the voice prompt is always there in training and comes from *another* utterance of the speaker, in any language,
  as in speech translation; the paper cuts prompt and target from one utterance;
- the prompt sees only itself: it is encoded once, then serves every pass of decoding and several targets in training;
- how far the prompt's frames lie from what their units sound like on average, and a small network of their mean, is
  added to every frame beside attention to the prompt;
- a unit has one embedding for each of its two frames;
- the network estimates a frame, and each level asks which code is nearest to what the lower levels leave of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.acoustic.corpus import UnitLatents
from audiopalm.acoustic.soundstorm.conformer import Conformer, Memory
from audiopalm.core.errors import AudioPaLMError

FLATTER = 6.0  # the first table is this much less sure than independent Gaussian errors would be: that costs least


@dataclass
class ModelConfig:
    """Sizes; those that are 0 are filled in from the tokens that the model is trained on. `levels` may be fewer than
    the codec's: the codec decodes without the finest."""

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
        self.gain = nn.Parameter(torch.ones(()))  # from hidden states to the scale of the embeddings
        self.heads = nn.Parameter(torch.empty(config.levels, config.codec_size, dim))
        self.head_bias = nn.Parameter(torch.zeros(config.levels, config.codec_size))
        nn.init.normal_(self.units.weight, std=0.5)
        nn.init.normal_(self.codec.weight, std=0.5 / config.levels ** 0.5)
        nn.init.normal_(self.heads, std=dim ** -0.5)
        offsets = torch.arange(config.levels, device="cpu") * (config.codec_size + 1)  # see LogMel for the device
        self.register_buffer("offsets", offsets, persistent=False)

    @torch.no_grad()
    def start_from(self, codebooks: Tensor, latents: UnitLatents) -> None:
        """Start as a table: for a unit, in the voice of the prompt, the codes of its average frame.

        Embeddings of codes are the codec's vectors `codebooks [levels, codec_size, latent]`, turned into `dim` axes,
        and those of units the average latents of their frames; heads and biases measure squared distance to each code,
        relative to how wrong the estimate is at first. The table of unit and voice alone finds a quarter of the codes
        of the first level; from random embeddings none is found in minutes.
        """
        levels, size, latent = codebooks.shape
        turn = torch.linalg.qr(torch.randn(max(self.config.dim, latent), min(self.config.dim, latent)))[0]
        turn = (turn.T if latent <= self.config.dim else turn) * (0.5 / codebooks[0].std())
        vectors, means = codebooks @ turn, latents.means @ turn
        table = self.codec.weight.view(levels, size + 1, -1)
        table[:, :size] = vectors
        table[:, size] = 0.02 * torch.randn(levels, self.config.dim)  # the masked code
        self.units.weight.copy_(means.flatten(1))
        self.voice_out.weight.mul_(0.1)
        self.gain.copy_(means.norm(dim=-1).mean() / self.config.dim ** 0.5)
        scale = turn.norm(dim=1).square().mean()  # of a squared distance in latents
        errors = torch.tensor([latents.unit_error, *[latents.code_error] * (levels - 1)])[:, None]
        # Where no unit occurs twice its latents have no error, and a distance relative to nothing is no number.
        errors = FLATTER * scale * errors.clamp(min=float(codebooks.var()) / 1000)
        self.heads.copy_(vectors / errors[..., None])
        self.head_bias.copy_(-vectors.square().sum(dim=-1) / (2 * errors))

    def encode_prompt(self, units: Tensor, codec: Tensor) -> Voice:
        """Encode prompts: units `[B, P / 2]`, codec `[B, P, levels]`."""
        tokens, expected = self._tokens(codec), self._units(units)
        summary = self.voice_out(self.voice(tokens).mean(dim=1)) + (tokens - expected).mean(dim=1)
        states = tokens + expected + self.in_prompt + summary[:, None]
        return Voice(self.encoder(self.norm(states))[1], summary)

    def forward(self, units: Tensor, codec: Tensor, voice: Voice, lengths: Tensor | None = None) -> Tensor:
        """Hidden states `[B, T, dim]`.

        units: `[B, T / 2]`; codec: `[B, T, levels]`, masked entries hold `codec_size`; lengths: `[B]`, real frames
        (None: all of them).
        """
        states = self._tokens(codec) + self._units(units) + voice.summary[:, None]
        return self.encoder(self.norm(states), voice.memory, lengths)[0]

    def logits(self, states: Tensor, codec: Tensor, level: int) -> Tensor:
        """Logits `[N, codec_size]` of one level from chosen hidden states `[N, dim]` and their codec tokens
        `[N, levels]`, of which only the lower levels are looked at."""
        rest = states.float() * self.gain
        if level > 0:
            rest = rest - self.codec(codec[:, :level] + self.offsets[:level])
        return functional.linear(rest, self.heads[level], self.head_bias[level])

    def _tokens(self, codec: Tensor) -> Tensor:
        batch, frames, levels = codec.shape
        return self.codec((codec + self.offsets).view(-1, levels)).view(batch, frames, -1)

    def _units(self, units: Tensor) -> Tensor:
        batch, count = units.shape
        return self.units(units).view(batch, 2 * count, -1)
