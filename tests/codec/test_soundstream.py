"""ESPnet's SoundStream behind the codec interface, untrained and tiny."""

import importlib.util

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from audiopalm.codec.registry import load_codec
from audiopalm.codec.soundstream import SoundStreamConfig, build_generator
from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json

pytestmark = pytest.mark.skipif(importlib.util.find_spec("espnet2") is None, reason="espnet is not installed")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    directory = tmp_path_factory.mktemp("soundstream")
    config = SoundStreamConfig(hidden_dim=16, filters=4, levels=3, size=32)
    save_file({key: value.contiguous() for key, value in build_generator(config).state_dict().items()},
              str(directory / "model.safetensors"))
    write_json(directory / "config.json", to_dict(config))
    return load_codec(directory)


@pytest.mark.parametrize("samples", [1, 1600, 16001, 480000])  # up to 30 s
def test_lengths_of_ids_and_of_speech(codec, samples):
    assert (codec.rate, codec.levels, codec.size) == (50, 3, 32)
    ids = codec.encode([np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)])[0]
    assert ids.shape == (-(-samples // 320), 3) and ids.dtype == np.int64
    assert codec.decode([ids])[0].shape == (len(ids) * 320,)


def test_a_batch_gives_the_ids_of_single_recordings(codec):
    recordings = [np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32) for samples in (4000, 9000)]
    for ids, recording in zip(codec.encode(recordings), recordings, strict=True):
        assert np.array_equal(ids, codec.encode([recording])[0])


def test_the_decoded_latent_is_the_sum_of_the_codes(codec):
    ids = torch.randint(0, 32, (7, 3))
    codebooks = codec.codebooks()
    assert codebooks.shape == (3, 32, 16) and codebooks.dtype == torch.float32
    for levels in (1, 3):
        latents = codec.generator.quantizer.decode(ids[:, :levels].T[:, None])[0].T
        torch.testing.assert_close(sum(codebooks[level][ids[:, level]] for level in range(levels)), latents)


def test_silence_and_clipped_speech_are_coded_and_samples_that_are_no_numbers_are_refused(codec):
    for samples in (np.zeros(1000), np.sign(np.sin(np.arange(1000)))):
        assert np.isfinite(codec.decode(codec.encode([samples.astype(np.float32)]))[0]).all()
    with pytest.raises(AudioPaLMError, match="not numbers"):
        codec.encode([np.array([0.0, np.nan], dtype=np.float32)])
