"""Models with random weights, so small that they compute in no time."""

from typing import Any

from audiopalm.codec.source_filter import SourceFilterConfig
from audiopalm.codec.spectral import SpectralConfig, SpectralModel

SPECTRAL = {"bands": 8, "encoder_dim": 8, "encoder_blocks": 1, "latent_dim": 4,
            "decoder": SourceFilterConfig(dim=8, blocks=1), "levels": 2, "size": 16}


def tiny_codec(**settings: Any) -> SpectralModel:
    """A spectral codec; `settings` are those of SpectralConfig that differ from SPECTRAL."""
    model = SpectralModel(SpectralConfig(**SPECTRAL | settings))
    model.codebooks.normal_()
    return model
