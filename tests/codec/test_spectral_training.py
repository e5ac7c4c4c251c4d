"""Parts of the training of the spectral codec: crops, dropped levels, the mel distance."""

import sys

import numpy as np
import pytest
import torch
from trainings import write_recordings

from audiopalm.bin import train_codec as train_codec_command
from audiopalm.codec.crops import make_crops
from audiopalm.codec.spectral import SpectralConfig, SpectralModel
from audiopalm.codec.spectral_training import MelDistance, drop_levels
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.data.speech import list_speech


@pytest.fixture
def data(tmp_path):
    return write_recordings(tmp_path / "data", 6)


def test_a_configuration_of_an_unknown_kind(tmp_path, monkeypatch):
    write_json(tmp_path / "codec.yaml", {"kind": "soundstreem"})
    monkeypatch.setattr(sys, "argv", ["train_codec", "--data_dir", "x", "--config", str(tmp_path / "codec.yaml"),
                                      "--output", str(tmp_path / "out")])
    with pytest.raises(AudioPaLMError, match="unknown kind 'soundstreem'; did you mean 'soundstream'"):
        train_codec_command.main()


def test_crops_are_as_long_as_asked_for(data):
    crops = make_crops(list_speech(data), 5, 12000, np.random.default_rng(0))
    assert crops.shape == (5, 12000) and crops.abs().amax(1).min() > 0


def test_dropped_levels_are_the_fine_ones():
    torch.manual_seed(0)
    model = SpectralModel(SpectralConfig(encoder_dim=8, encoder_blocks=1, latent_dim=4, decoder_dim=8, decoder_blocks=1,
                                         levels=3, size=5))
    model.codebooks.normal_()
    ids = torch.randint(5, (40, 6, 3))
    prefixes = torch.stack([model.look_up(ids[..., :kept]) for kept in (1, 2, 3)])
    fits = (drop_levels(model, ids) - prefixes).abs().amax(dim=(2, 3)) < 1e-5  # [3, crops]
    assert fits.sum(0).eq(1).all() and fits[2].sum() >= 20 and fits[0].any()


def test_mel_distance_is_zero_only_for_the_same_signal():
    distance, signal = MelDistance(), torch.randn(2, 4000) * 0.1
    assert distance(signal, signal) == 0
    assert distance(signal, signal * 0.5) > 0.3
