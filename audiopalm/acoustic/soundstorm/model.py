"""SoundStorm (arXiv 2305.09636): masked prediction of all codec levels of an utterance by a bidirectional Conformer.

The input of a frame (50 Hz) is the sum of the embeddings of its unit (25 Hz, repeated twice) and of its codec levels; a
masked level has a learned embedding.

This model differs from the paper, because it is trained for minutes on a CPU instead of days on TPUs:
- Every training example has a voice prompt, from *another* utterance of the speaker in any language, as in speech
  translation. The paper cuts prompt and target from one utterance.
- The prompt attends only to itself. It is encoded once, for all iterations of decoding and for several targets in
  training.
- Every frame attends to the prompt, and a summary of the prompt is added to it: the mean difference between the
  prompt's frames and the average frames of their units, plus a small network of the mean frame.
- A unit has two embeddings, one for each of its frames.
- The network estimates the latent of a frame. The logits of a level measure the distance of its codes to the estimate
  minus the vectors of the lower levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.acoustic.latents import UnitLatents
from audiopalm.acoustic.soundstorm.conformer import Conformer, Memory
from audiopalm.acoustic.token_meta import TokenSizes
from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import no_grad

ERROR_SCALE = 6.0  # initial logits assume this multiple of the error variance, which gives the lowest initial loss


@dataclass
class ModelConfig(TokenSizes):
    """Sizes of the model."""

    dim: int = ranged(256, low=1, high=MAX_SIZE)
    layers: int = ranged(4, low=1, high=1000)
    heads: int = ranged(4, low=1, high=MAX_SIZE)
    feedforward: int = ranged(512, low=1, high=MAX_SIZE)
    kernel: int = ranged(5, low=1, high=MAX_SIZE)  # of the depthwise convolutions, in frames
    dropout: float = ranged(0.1, low=0, high=0.99)


@dataclass
class Voice:
    """Encoded voice prompts: the keys and values of each block, and summaries `[B, dim]`."""

    memory: Memory
    summary: Tensor

    def select(self, rows: Tensor) -> "Voice":
        """The prompts at the indices `rows [N]`, which may repeat."""
        return Voice([(key[rows], value[rows]) for key, value in self.memory], self.summary[rows])


class SoundStorm(nn.Module):
    """Predicts masked codec tokens from units, unmasked codec tokens and an encoded voice prompt.

    Raises AudioPaLMError for sizes that do not fit together.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.dim % (2 * config.heads) or config.kernel % 2 == 0:
            raise AudioPaLMError(f"acoustic model: dim {config.dim} must be a multiple of 2 * heads {config.heads}, "
                                 f"and kernel {config.kernel} odd")
        self.config = config
        dim = config.dim
        self.units = nn.Embedding(config.units_size, 2 * dim)
        self.codec = nn.EmbeddingBag(config.levels * (config.codec_size + 1), dim, mode="sum")  # last code: the mask
        self.in_prompt = nn.Parameter(torch.zeros(dim))
        self.voice = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.voice_out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.encoder = Conformer(dim, config.layers, config.heads, config.feedforward, config.kernel, config.dropout)
        self.gain = nn.Parameter(torch.ones(()))  # scales hidden states to the norm of the embeddings
        self.heads = nn.Parameter(torch.empty(config.levels, config.codec_size, dim))
        self.head_bias = nn.Parameter(torch.zeros(config.levels, config.codec_size))
        nn.init.normal_(self.units.weight, std=0.5)
        nn.init.normal_(self.codec.weight, std=0.5 / config.levels ** 0.5)
        nn.init.normal_(self.heads, std=dim ** -0.5)
        offsets = torch.arange(config.levels, device="cpu") * (config.codec_size + 1)  # see LogMel for the device
        self.register_buffer("offsets", offsets, persistent=False)

    @no_grad
    def start_from(self, codebooks: Tensor, latents: UnitLatents) -> None:
        """Initialise the weights so that a unit predicts the codes of its average frame in the prompt's voice.

        Code embeddings become the codec's vectors `codebooks [levels, codec_size, latent]`, projected to `dim` axes.
        Unit embeddings become the average latents of their frames. Heads and biases measure the squared distance to
        each code, relative to the initial error. This initialisation predicts a quarter of the codes of the first
        level without training. With random embeddings, minutes of training predict none.
        """
        levels, size, latent = codebooks.shape
        projection = torch.linalg.qr(torch.randn(max(self.config.dim, latent), min(self.config.dim, latent)))[0]
        projection = (projection.T if latent <= self.config.dim else projection) * (0.5 / codebooks[0].std())
        vectors, means = codebooks @ projection, latents.means @ projection
        table = self.codec.weight.view(levels, size + 1, -1)
        table[:, :size] = vectors
        table[:, size] = 0.02 * torch.randn(levels, self.config.dim)  # the mask
        self.units.weight.copy_(means.flatten(1))
        self.voice_out.weight.mul_(0.1)
        self.gain.copy_(means.norm(dim=-1).mean() / self.config.dim ** 0.5)
        scale = projection.norm(dim=1).square().mean()  # of squared distances, by the projection
        errors = torch.tensor([latents.unit_error, *[latents.code_error] * (levels - 1)])[:, None]
        # If no unit occurs twice, the error is 0; the minimum avoids a division by 0.
        errors = ERROR_SCALE * scale * errors.clamp(min=float(codebooks.var()) / 1000)
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

        units: int64 `[B, T / 2]`. codec: int64 `[B, T, levels]`; masked entries are `codec_size`. lengths: int64 `[B]`,
        frames without padding; None means no padding.
        """
        states = self._tokens(codec) + self._units(units) + voice.summary[:, None]
        return self.encoder(self.norm(states), voice.memory, lengths)[0]

    def logits(self, states: Tensor, codec: Tensor, level: int) -> Tensor:
        """Logits `[N, codec_size]` of one level from hidden states `[N, dim]` and codec tokens `[N, levels]`.

        Only the tokens of lower levels have an effect.
        """
        residual = states.float() * self.gain
        if level > 0:
            residual = residual - self.codec(codec[:, :level] + self.offsets[:level])
        return functional.linear(residual, self.heads[level], self.head_bias[level])

    def _tokens(self, codec: Tensor) -> Tensor:
        batch, frames, levels = codec.shape
        return self.codec((codec + self.offsets).view(-1, levels)).view(batch, frames, -1)

    def _units(self, units: Tensor) -> Tensor:
        batch, count = units.shape
        return self.units(units).view(batch, 2 * count, -1)
