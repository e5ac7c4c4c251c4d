"""ESPnet's SoundStream (espnet2.gan_codec) at 16 kHz and 50 Hz as a `Codec`, for full-scale training."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.codec.base import MADE_BY, Codec, check_hop
from audiopalm.core import optional
from audiopalm.core.config import MAX_SIZE, from_dict, ranged
from audiopalm.core.files import read_object
from audiopalm.core.gradients import inference_mode
from audiopalm.core.weights import load_module
from audiopalm.data.audio import SAMPLE_RATE, check_samples


@dataclass
class SoundStreamConfig:
    """A subset of the `generator_params` of an ESPnet codec configuration."""

    kind: str = "soundstream"
    hidden_dim: int = ranged(512, low=1, high=MAX_SIZE)  # of latents and of codes
    filters: int = ranged(32, low=1, high=MAX_SIZE)
    residual_layers: int = ranged(1, low=0, high=100)
    lstm_layers: int = ranged(2, low=0, high=100)  # in the encoder and in the decoder; 2 as in ESPnet, 0 in the paper
    identity_skip: bool = False  # identity shortcuts of residual units, as in the paper; ESPnet's is a convolution
    ratios: tuple[int, ...] = ranged((8, 5, 4, 2), low=1, high=1000)  # their product is the hop: 320 samples, 50 Hz
    levels: int = ranged(8, low=1, high=64)
    size: int = ranged(1024, low=1, high=MAX_SIZE)

    def __post_init__(self) -> None:
        check_hop(prod(self.ratios))


def build_generator(config: SoundStreamConfig) -> nn.Module:
    """An untrained `SoundStreamGenerator` of ESPnet. Raises AudioPaLMError if espnet is not installed."""
    optional.install()
    from espnet2.gan_codec.soundstream.soundstream import SoundStreamGenerator

    generator = SoundStreamGenerator(sample_rate=SAMPLE_RATE, **generator_parameters(config))
    generator.quantizer = build_quantiser(config)
    return generator


def build_quantiser(config: SoundStreamConfig) -> nn.Module:
    """A quantiser with codes as wide as the latents. ESPnet's default has codes of 512 axes and learned projections."""
    from audiopalm.codec.soundstream_quantiser import Quantiser  # needs espnet2, as prepared by `optional.install`

    return Quantiser(config.hidden_dim, config.levels, config.size)


def generator_parameters(config: SoundStreamConfig) -> dict[str, Any]:
    """The `generator_params` of ESPnet."""
    rate = SAMPLE_RATE / int(np.prod(config.ratios))
    # The kbit/s for which ESPnet uses all levels. Half a level is added because ESPnet rounds down.
    bandwidth = (config.levels + 0.5) * np.log2(config.size) * rate / 1000
    return {"hidden_dim": config.hidden_dim, "encdec_n_filters": config.filters,
            "encdec_n_residual_layers": config.residual_layers, "encdec_ratios": list(config.ratios),
            "encdec_lstm": config.lstm_layers, "encdec_true_skip": config.identity_skip,
            "quantizer_n_q": config.levels, "quantizer_bins": config.size,
            "quantizer_target_bandwidth": [float(bandwidth)]}


class SoundStreamCodec(Codec):
    """`Codec` of a trained SoundStreamGenerator."""

    def __init__(self, generator: nn.Module, config: SoundStreamConfig):
        self.generator, self.config = generator.eval(), config
        self.hop = int(np.prod(config.ratios))
        self.rate, self.levels, self.size = SAMPLE_RATE // self.hop, config.levels, config.size

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> "SoundStreamCodec":
        """Read config.json and model.safetensors, the state of ESPnet's `codec.generator`."""
        path = Path(directory) / "config.json"
        config = from_dict(SoundStreamConfig, read_object(path, MADE_BY), str(path))
        generator = load_module(lambda: build_generator(config), Path(directory) / "model.safetensors", MADE_BY,
                                build_on="cpu")
        return cls(generator.to(device), config)

    def codebooks(self) -> Tensor:
        return torch.stack([layer.codebook for layer in self.generator.quantizer.vq.layers]).float()

    # Recordings are not batched, so that the result of one does not depend on the others.

    @inference_mode
    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        device = next(self.generator.parameters()).device
        ids = []
        for samples in map(check_samples, audio):
            frames = -(-len(samples) // self.hop)
            # Two frames are added: SEANet pads by reflection, for which short signals have too few samples.
            padded = np.pad(samples, (0, (frames + 2) * self.hop - len(samples)))
            codes = self.generator.encode(torch.from_numpy(padded)[None, None].to(device))  # [levels, 1, frames + 2]
            ids.append(codes[:, 0, :frames].T.cpu().numpy())
        return ids

    @inference_mode
    def decode(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        device = next(self.generator.parameters()).device
        audio = []
        for item in map(self.check_ids, ids):
            # Two frames are added for the same reason as in encoding, and removed afterwards.
            padded = np.concatenate([item, np.repeat(item[-1:], 2, axis=0)])
            samples = self.generator.decode(torch.from_numpy(padded.T.copy())[:, None].to(device))[0, 0]
            audio.append(samples[:len(item) * self.hop].float().cpu().numpy())
        return audio
