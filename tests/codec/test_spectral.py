"""The spectral codec: lengths, ids that do not depend on the batch, decoding by fewer levels, refusals."""

import numpy as np
import pytest
import soundfile
import torch
from tiny_models import tiny_codec

from audiopalm.codec.registry import load_codec
from audiopalm.codec.spectral_training import save_codec
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.data.audio import read_audio


@pytest.fixture
def codec(tmp_path):
    torch.manual_seed(0)
    save_codec(tiny_codec(levels=3), tmp_path)
    return load_codec(tmp_path)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 320, 321, 1600, 480000])  # up to 30 s
def test_lengths_of_ids_and_of_speech(codec, samples):
    ids = codec.encode([noise(samples)])[0]
    assert ids.dtype == np.int64 and ids.shape == (-(-samples // 320), 3)
    made = codec.decode([ids])[0]
    assert made.dtype == np.float32 and made.shape == (len(ids) * 320,)
    assert np.isfinite(made).all()


def test_a_batch_gives_the_ids_and_the_speech_of_single_recordings(codec):
    recordings = [noise(samples, seed) for seed, samples in enumerate((5000, 16000, 16000, 321))]
    together = codec.encode(recordings)
    for ids, recording in zip(together, recordings, strict=True):
        assert np.array_equal(ids, codec.encode([recording])[0])
    for made, ids in zip(codec.decode(together), together, strict=True):
        assert np.array_equal(made, codec.decode([ids])[0])


def test_speech_is_decoded_from_the_first_levels_too(codec):
    ids = codec.encode([noise(8000)])[0]
    assert len(codec.decode([ids[:, :1]])[0]) == len(codec.decode([ids])[0])


def test_every_level_codes_the_rest_of_the_levels_before_it(codec):
    latents = codec.model.encode(torch.from_numpy(noise(16000))[None])[0]
    ids = codec.model.quantise(latents)
    first = codec.model.codebooks[0][ids[:, 0]]
    assert torch.equal(ids[:, 0], torch.cdist(latents, codec.model.codebooks[0]).argmin(1))
    assert torch.equal(ids[:, 1], torch.cdist(latents - first, codec.model.codebooks[1]).argmin(1))


@pytest.mark.parametrize("loudness", [0, 1e6], ids=["silence", "clipped"])
def test_silence_and_clipped_speech_are_coded(codec, loudness):
    samples = np.clip(loudness * noise(1000), -1, 1)
    assert np.isfinite(codec.decode(codec.encode([samples]))[0]).all()


@pytest.mark.parametrize("rate", [8000, 48000])
def test_recordings_in_stereo_or_at_other_rates_are_coded_as_mono_at_16_khz(codec, tmp_path, rate):
    soundfile.write(tmp_path / "stereo.wav", np.stack([noise(rate), noise(rate, 1)], axis=1), rate)
    assert codec.encode([read_audio(tmp_path / "stereo.wav")])[0].shape == (50, 3)
    with pytest.raises(AudioPaLMError, match="one channel"):
        codec.encode([soundfile.read(tmp_path / "stereo.wav", dtype="float32")[0]])


@pytest.mark.parametrize("ids", [np.full((4, 3), 16), np.full((4, 3), -1), np.zeros((4, 4), int), np.zeros(4, int),
                                 np.zeros((0, 3), int)])
def test_impossible_ids_are_refused(codec, ids):
    with pytest.raises(AudioPaLMError, match="codec ids"):
        codec.decode([ids])


def test_samples_that_are_no_numbers_are_refused(codec):
    with pytest.raises(AudioPaLMError, match="not numbers"):
        codec.encode([np.array([0.0, np.nan], dtype=np.float32)])


def test_an_unknown_kind_of_codec_is_named(tmp_path):
    write_json(tmp_path / "config.json", {"kind": "encodec"})
    with pytest.raises(AudioPaLMError, match="encodec.*soundstream, spectral"):
        load_codec(tmp_path)
