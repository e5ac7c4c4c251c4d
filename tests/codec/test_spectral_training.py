"""Training of the codec: the loss falls, every code is used, a killed run goes on with the same result."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from audiopalm.bin import train_codec as train_codec_command
from audiopalm.codec.crops import make_crops
from audiopalm.codec.registry import load_codec
from audiopalm.codec.spectral import SpectralConfig, SpectralModel
from audiopalm.codec.spectral_training import CodecTraining, MelDistance, drop_levels, train_codec
from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.data.audio import write_audio
from audiopalm.data.datadir import write_table
from audiopalm.data.speech import list_speech


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
    return CodecTraining(model=model, batch=4, crop_seconds=0.32, autoencoder_steps=12, kmeans_crops=8, decoder_steps=8,
                         adversarial_from=4, warmup=2, checkpoint_every=5)


def test_a_killed_run_goes_on_with_the_same_result(data, tmp_path):
    train_codec(data, configuration(), tmp_path / "whole", seed=1)
    write_json(tmp_path / "codec.json", to_dict(configuration()))  # JSON is YAML too
    arguments = ["train_codec", "--data_dir", str(data), "--config", str(tmp_path / "codec.json"),
                 "--output", str(tmp_path / "killed"), "--seed", "1"]
    script = f"""
import os, signal, sys, torch
from audiopalm.bin import train_codec
from audiopalm.codec import spectral_training as codec
torch.set_num_threads({torch.get_num_threads()})
taken, train_step = [], codec.train_step
def killed_at_17(*arguments, **options):
    taken.append(1)
    return os.kill(os.getpid(), signal.SIGKILL) if len(taken) == 18 else train_step(*arguments, **options)
codec.train_step = killed_at_17
sys.argv = {arguments}
train_codec.main()
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/model.safetensors").exists()
    train_codec(data, configuration(), tmp_path / "killed", seed=1)
    assert json.loads((tmp_path / "killed/log.jsonl").read_text().splitlines()[-1])["step"] == 20
    assert sha256(tmp_path / "whole/model.safetensors") == sha256(tmp_path / "killed/model.safetensors")
    codec = load_codec(tmp_path / "whole")
    assert codec.levels == 2 and codec.model.codebooks.dtype == torch.float32


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
