"""The small codec of the embedded corpus.

Log-mel -> ConvNeXt -> residual k-means codes -> ConvNeXt -> magnitude and phase -> inverse STFT.
SEANet, which SoundStream is made of, does not settle in minutes on two cores; spectra do.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.codec.base import MADE_BY, Codec
from audiopalm.core.config import MAX_SIZE, from_dict, ranged
from audiopalm.core.files import read_object
from audiopalm.core.quantiser import nearest
from audiopalm.core.weights import load_module
from audiopalm.data.audio import SAMPLE_RATE, check_samples
from audiopalm.data.mel import LogMel


@dataclass
class SpectralConfig:
    kind: str = "spectral"
    bands: int = ranged(100, low=1, high=MAX_SIZE)
    hop: int = ranged(320, low=1, high=16000)  # samples of one frame: 50 Hz
    n_fft: int = ranged(1280, low=1, high=MAX_SIZE)
    encoder_dim: int = ranged(192, low=1, high=MAX_SIZE)
    encoder_blocks: int = ranged(4, low=0, high=1000)
    latent_dim: int = ranged(64, low=1, high=MAX_SIZE)
    decoder_dim: int = ranged(256, low=1, high=MAX_SIZE)
    decoder_blocks: int = ranged(8, low=0, high=1000)
    levels: int = ranged(8, low=1, high=64)
    size: int = ranged(1024, low=1, high=MAX_SIZE)


class ConvNeXtBlock(nn.Module):
    """`[B, T, dim]` -> `[B, T, dim]`: depthwise convolution over 7 frames, norm, two linear layers, scaled residual."""

    def __init__(self, dim: int, hidden: int, scale: float):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand, self.shrink = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.shrink(nn.functional.gelu(self.expand(self.norm(mixed))))


class ConvNeXt(nn.Module):
    """`[B, T, inputs]` -> `[B, T, outputs]` through `blocks` ConvNeXt blocks."""

    def __init__(self, inputs: int, dim: int, hidden: int, blocks: int, outputs: int):
        super().__init__()
        self.first, self.first_norm = nn.Conv1d(inputs, dim, 7, padding=3), nn.LayerNorm(dim)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim, hidden, 1 / blocks) for _ in range(blocks)))
        self.last_norm, self.last = nn.LayerNorm(dim), nn.Linear(dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(self.first(x.transpose(1, 2)).transpose(1, 2))
        return self.last(self.last_norm(self.blocks(x)))


class SpectralModel(nn.Module):
    """Encoder, residual codebooks `[levels, size, latent_dim]`, decoder."""

    def __init__(self, config: SpectralConfig):
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config.bands, config.n_fft, config.hop)
        self.encoder = ConvNeXt(config.bands, config.encoder_dim, 2 * config.encoder_dim, config.encoder_blocks,
                                config.latent_dim)
        self.latent_norm = nn.LayerNorm(config.latent_dim, elementwise_affine=False)
        self.register_buffer("codebooks", torch.zeros(config.levels, config.size, config.latent_dim))
        self.decoder = ConvNeXt(config.latent_dim, config.decoder_dim, 3 * config.decoder_dim, config.decoder_blocks,
                                config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft, device="cpu"), persistent=False)

    def encode(self, samples: Tensor) -> Tensor:
        """Samples `[B, T]` -> latents `[B, ceil(T / hop), latent_dim]`."""
        return self.latent_norm(self.encoder(self.log_mel(samples) * 0.25 + 1.0).float())

    def quantise(self, latents: Tensor) -> Tensor:
        """Latents `[..., latent_dim]` -> ids `[..., levels]`, each level on what the coarser ones left."""
        ids, rest = [], latents
        for codebook in self.codebooks:
            ids.append(nearest(rest, codebook))
            rest = rest - codebook[ids[-1]]
        return torch.stack(ids, dim=-1)

    def look_up(self, ids: Tensor) -> Tensor:
        """Ids `[..., q]` -> the sum of their codes `[..., latent_dim]`."""
        return sum(codebook[ids[..., level]] for level, codebook in enumerate(self.codebooks[:ids.shape[-1]]))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `[B, frames, latent_dim]` -> samples `[B, frames * hop]`."""
        config = self.config
        # One frame more, so that the last hop of samples lies between two frame centres, as all others do.
        latents = torch.cat([latents, latents[:, -1:]], dim=1)
        magnitude, phase = self.decoder(latents).float().transpose(1, 2).chunk(2, dim=1)
        # The limit keeps one wild frame from making the loss infinite.
        spectrum = torch.polar(torch.exp(magnitude).clamp(max=300.0), phase)
        length = (latents.shape[1] - 1) * config.hop
        return torch.istft(spectrum, config.n_fft, config.hop, window=self.window, length=length)


class SpectralCodec(Codec):
    """`Codec` of a trained SpectralModel."""

    def __init__(self, model: SpectralModel):
        self.model = model.eval()
        self.rate, self.levels, self.size = SAMPLE_RATE // model.config.hop, model.config.levels, model.config.size

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> "SpectralCodec":
        """Read config.json and model.safetensors (float16 or float32)."""
        path = Path(directory) / "config.json"
        config = from_dict(SpectralConfig, read_object(path, MADE_BY), str(path))
        model = load_module(lambda: SpectralModel(config), Path(directory) / "model.safetensors", MADE_BY)
        return cls(model.to(device))

    def codebooks(self) -> Tensor:
        return self.model.codebooks.float()

    # Every recording passes alone: a matrix product may round differently in a larger batch, and one id would follow.

    @torch.inference_mode()
    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        device, ids = self.model.codebooks.device, []
        for samples in map(check_samples, audio):
            latents = self.model.encode(torch.from_numpy(samples)[None].to(device))[0]
            ids.append(self.model.quantise(latents).cpu().numpy())
        return ids

    @torch.inference_mode()
    def decode(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        device, audio = self.model.codebooks.device, []
        for item in map(self.check_ids, ids):
            latents = self.model.look_up(torch.from_numpy(item)[None].to(device))
            audio.append(self.model.decode(latents)[0].cpu().numpy())
        return audio
