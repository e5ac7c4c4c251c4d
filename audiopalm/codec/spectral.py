"""The small codec of the embedded corpus.

Log-mel -> ConvNeXt -> residual k-means codes -> ConvNeXt -> pitch and filters of a harmonic source and of noise.
This codec converges in minutes on two cores. SEANet, the network of SoundStream, does not.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.codec.base import MADE_BY, Codec, check_hop, in_batches, pad_together, padding_mask
from audiopalm.codec.convnext import ConvNeXt
from audiopalm.codec.source_filter import SourceFilterConfig, SourceFilterDecoder
from audiopalm.core.config import MAX_SIZE, from_dict, ranged
from audiopalm.core.files import read_object
from audiopalm.core.gradients import inference_mode
from audiopalm.core.quantiser import nearest
from audiopalm.core.weights import load_module
from audiopalm.data.audio import SAMPLE_RATE, check_samples
from audiopalm.data.mel import LogMel

MAX_FRAMES = 20_000  # frames of a batch on a GPU, padding included: 400 s of speech


@dataclass
class SpectralConfig:
    """config.json for `kind: spectral`."""

    RENAMED: ClassVar[dict[str, str]] = {"decoder_dim": "decoder.dim", "decoder_blocks": "decoder.blocks"}

    kind: str = "spectral"
    bands: int = ranged(100, low=1, high=MAX_SIZE)
    hop: int = ranged(320, low=1, high=16000)  # samples per frame: 50 Hz, the only rate that acoustic models take
    n_fft: int = ranged(1280, low=1, high=MAX_SIZE)
    encoder_dim: int = ranged(192, low=1, high=MAX_SIZE)
    encoder_blocks: int = ranged(4, low=0, high=1000)
    latent_dim: int = ranged(64, low=1, high=MAX_SIZE)
    decoder: SourceFilterConfig = field(default_factory=SourceFilterConfig)
    levels: int = ranged(8, low=1, high=64)
    size: int = ranged(1024, low=1, high=MAX_SIZE)

    def __post_init__(self) -> None:
        check_hop(self.hop)


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
        self.decoder = SourceFilterDecoder(config.latent_dim, config.hop, config.decoder)

    def encode(self, samples: Tensor, valid: Tensor | None = None) -> Tensor:
        """Samples `[B, T]` -> latents `[B, ceil(T / hop), latent_dim]`. valid: see `ConvNeXtBlock`."""
        return self.latent_norm(self.encoder(self.log_mel(samples) * 0.25 + 1.0, valid).float())

    def quantise(self, latents: Tensor) -> Tensor:
        """Latents `[..., latent_dim]` -> ids, int64 `[..., levels]`.

        Each level quantises the residual of the coarser levels.
        """
        ids, residual = [], latents
        for codebook in self.codebooks:
            ids.append(nearest(residual, codebook))
            residual = residual - codebook[ids[-1]]
        return torch.stack(ids, dim=-1)

    def look_up(self, ids: Tensor) -> Tensor:
        """Ids `[..., q]` -> the sum of their codes `[..., latent_dim]`."""
        return sum(codebook[ids[..., level]] for level, codebook in enumerate(self.codebooks[:ids.shape[-1]]))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `[B, frames, latent_dim]` -> samples `[B, frames * hop]`."""
        return self.decoder(repeat_last(latents))


def repeat_last(latents: Tensor) -> Tensor:
    """Latents `[B, frames, dim]` -> `[B, frames + 1, dim]`, the input of the decoder.

    With an additional frame the last hop of samples lies between two frame centres, like all others.
    """
    return torch.cat([latents, latents[:, -1:]], dim=1)


def read_config(directory: Path) -> SpectralConfig:
    """The configuration of a trained spectral codec. Raises AudioPaLMError if it is missing or damaged."""
    path = directory / "config.json"
    return from_dict(SpectralConfig, read_object(path, MADE_BY), str(path))


class SpectralCodec(Codec):
    """`Codec` of a trained SpectralModel."""

    def __init__(self, model: SpectralModel):
        self.model = model.eval()
        self.rate, self.levels, self.size = SAMPLE_RATE // model.config.hop, model.config.levels, model.config.size

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> "SpectralCodec":
        """Read config.json and model.safetensors (float16 or float32)."""
        config = read_config(Path(directory))
        model = load_module(lambda: SpectralModel(config), Path(directory) / "model.safetensors", MADE_BY)
        return cls(model.to(device))

    def codebooks(self) -> Tensor:
        return self.model.codebooks.float()

    # On a CPU, recordings are not batched: a matrix product may round differently in a larger batch, which could change
    # an id. On other devices, recordings of similar length form padded batches.

    @inference_mode
    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        hop = self.model.config.hop
        audio = [check_samples(samples) for samples in audio]
        if self.model.codebooks.device.type != "cpu":
            return in_batches(self.encode_batch, audio, MAX_FRAMES * hop)
        return [self.encode_batch([samples])[0] for samples in audio]

    @inference_mode
    def decode(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        ids = [self.check_ids(item) for item in ids]
        if self.model.codebooks.device.type != "cpu":
            return in_batches(self.decode_batch, ids, MAX_FRAMES)
        return [self.decode_batch([item])[0] for item in ids]

    def encode_batch(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        """Recordings `[T]` -> ids `[frames, levels]` each, by one padded batch."""
        device, hop = self.model.codebooks.device, self.model.config.hop
        frames = [-(-len(samples) // hop) for samples in audio]
        padded = torch.from_numpy(pad_together(audio)).to(device, non_blocking=True)
        ids = self.model.quantise(self.model.encode(padded, padding_mask(frames, device))).cpu().numpy()
        return [padded_ids[:length] for padded_ids, length in zip(ids, frames, strict=True)]

    def decode_batch(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Ids `[frames, q]` with equal q -> samples `[frames * hop]` each, by one padded batch."""
        device, hop = self.model.codebooks.device, self.model.config.hop
        extended = [np.concatenate([item, item[-1:]]) for item in ids]
        latents = self.model.look_up(torch.from_numpy(pad_together(extended)).to(device, non_blocking=True))
        audio = self.model.decoder(latents, padding_mask([len(item) for item in extended], device)).cpu()
        return [samples[:len(item) * hop].numpy() for samples, item in zip(audio, ids, strict=True)]
