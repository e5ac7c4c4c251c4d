"""Training of the codec: the loss falls, every code is used, a stopped run goes on with the same result."""

import numpy as np
import pytest
import torch

from audiopalm.codec.base import load_codec
from audiopalm.codec.spectral import SpectralConfig, SpectralModel
from audiopalm.data.audio import write_audio
from audiopalm.data.datadir import write_table
from audiopalm.data.files import sha256
from audiopalm.train import codec as training
from audiopalm.train.codec import CodecTraining, MelDistance, drop_levels, make_crops, train_codec
from audiopalm.train.speech import list_speech


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    paths = {}
    for number in range(6):
        time = np.arange(8000 + 4000 * number) / 16000
        paths[f"anna-en-{number}"] = str(directory / f"{number}.flac")
        tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * time)
        write_audio(paths[f"anna-en-{number}"], tone.astype(np.float32))
    write_table(directory / "wav.scp", paths)
    write_table(directory / "text", dict.fromkeys(paths, "la"))
    return directory


def configuration() -> CodecTraining:
    model = SpectralConfig(encoder_dim=16, encoder_blocks=1, latent_dim=8, decoder_dim=16, decoder_blocks=1, levels=2,
                           size=8)
    return CodecTraining(model, batch=4, crop_seconds=0.32, autoencoder_steps=12, kmeans_crops=8, decoder_steps=8,
                         adversarial_from=4, warmup=2, checkpoint_every=5)


def test_a_stopped_run_goes_on_with_the_same_result(data, tmp_path, monkeypatch):
    train_codec(data, configuration(), tmp_path / "whole", seed=1)
    taken, train_step = [], training.train_step

    def stop_at_17(*arguments, **options):
        if len(taken) == 17:
            raise KeyboardInterrupt
        taken.append(1)
        return train_step(*arguments, **options)

    monkeypatch.setattr(training, "train_step", stop_at_17)
    with pytest.raises(KeyboardInterrupt):
        train_codec(data, configuration(), tmp_path / "stopped", seed=1)
    assert not (tmp_path / "stopped/model.safetensors").exists()
    monkeypatch.setattr(training, "train_step", train_step)
    train_codec(data, configuration(), tmp_path / "stopped", seed=1)
    assert sha256(tmp_path / "whole/model.safetensors") == sha256(tmp_path / "stopped/model.safetensors")
    codec = load_codec(tmp_path / "whole")
    assert codec.levels == 2 and codec.model.codebooks.dtype == torch.float32


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
