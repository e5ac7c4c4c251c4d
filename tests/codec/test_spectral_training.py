"""Parts of the training of the spectral codec: crops, dropped levels, the mel distance."""

import numpy as np
import pytest
import torch
from commands import call
from tiny_models import tiny_codec
from trainings import write_recordings

from audiopalm.codec.crops import make_crops
from audiopalm.codec.spectral_training import MelDistance, drop_levels
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.data.speech import list_speech


@pytest.fixture
def data(tmp_path):
    return write_recordings(tmp_path / "data", 6)


def test_an_unknown_kind_in_the_configuration_is_named(tmp_path):
    write_json(tmp_path / "codec.yaml", {"kind": "soundstreem"})
    with pytest.raises(AudioPaLMError, match="unknown kind 'soundstreem'; did you mean 'soundstream'"):
        call("train_codec", "--data_dir", "x", "--config", tmp_path / "codec.yaml", "--output", tmp_path / "out")


def test_crops_have_the_asked_for_number_and_length(data):
    crops = make_crops(list_speech(data), 5, 12000, np.random.default_rng(0))
    assert crops.shape == (5, 12000) and crops.abs().amax(1).min() > 0


def test_dropped_levels_are_the_last_ones():
    torch.manual_seed(0)
    model = tiny_codec(levels=3, size=5)
    ids = torch.randint(5, (40, 6, 3))
    prefixes = torch.stack([model.look_up(ids[..., :levels]) for levels in (1, 2, 3)])
    fits = (drop_levels(model, ids) - prefixes).abs().amax(dim=(2, 3)) < 1e-5  # [3, crops]
    assert fits.sum(0).eq(1).all() and fits[2].sum() >= 20 and fits[0].any()


def test_the_mel_distance_is_zero_for_the_same_signal_only():
    distance, signal = MelDistance(), torch.randn(2, 4000) * 0.1
    assert distance(signal, signal) == 0
    assert distance(signal, signal * 0.5) > 0.3
