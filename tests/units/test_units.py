"""Speech to units: ids do not depend on the batch, on padding or on the windows of a long recording."""

import numpy as np
import pytest
import torch

from audiopalm.core.errors import AudioPaLMError
from audiopalm.units import mel_conformer
from audiopalm.units.registry import UnitTokenizer, save_units
from audiopalm.units.usm_v2 import UnitConfig, UnitModel


@pytest.fixture
def tokenizer(tmp_path):
    torch.manual_seed(0)
    model = UnitModel(UnitConfig(dim=16, heads=2, encoder_blocks=2, kernel=5, context=4, code_dim=8, size=32,
                                 characters="ab"))
    model.quantiser.codebook.normal_()
    save_units(model, tmp_path)
    return UnitTokenizer.load(tmp_path)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16000)).astype(np.float32)


def test_a_batch_gives_the_ids_of_single_recordings(tokenizer):
    recordings = [noise(seconds, seed) for seed, seconds in enumerate((0.7, 2.0, 2.0, 1.23))]
    for together, recording in zip(tokenizer.encode(recordings), recordings, strict=True):
        assert np.array_equal(together, tokenizer.encode([recording])[0])


def test_batches_as_on_a_gpu_give_the_same_ids(tokenizer, monkeypatch):
    """Short and long recordings, the long ones in windows, in several batches."""
    monkeypatch.setattr(mel_conformer, "WINDOW", 37)
    monkeypatch.setattr(mel_conformer, "MAX_UNITS", 200)
    recordings = [noise(seconds, seed) for seed, seconds in enumerate((0.7, 4.0, 0.02, 2.0, 1.23))]
    for together, alone in zip(tokenizer.encode_batch(recordings), tokenizer.encode(recordings), strict=True):
        assert together.shape == alone.shape and np.mean(together != alone) < 0.01


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (640, 1), (641, 2), (1600, 3), (960000, 1500)])
def test_one_unit_for_every_640_samples(tokenizer, samples, frames):
    ids = tokenizer.encode([noise(samples / 16000)])[0]
    assert ids.dtype == np.int64 and len(ids) == frames
    assert 0 <= ids.min() and ids.max() < tokenizer.size


def test_windows_of_a_long_recording_give_the_same_ids(tokenizer, monkeypatch):
    recording = noise(12)
    whole = tokenizer.encode([recording])[0]
    monkeypatch.setattr(mel_conformer, "WINDOW", 37)
    cut = tokenizer.encode([recording])[0]
    # Matrix products of other sizes round differently, which may decide a tie between two codes otherwise.
    assert np.mean(whole != cut) < 0.01


def test_windows_without_context_would_give_other_ids(tokenizer, monkeypatch):
    recording = noise(12)
    whole = tokenizer.encode([recording])[0]
    monkeypatch.setattr(mel_conformer, "WINDOW", 37)
    monkeypatch.setattr(UnitModel, "reach", 0)
    assert np.mean(whole != tokenizer.encode([recording])[0]) > 0.01


def test_padding_does_not_change_latents(tokenizer):
    mel = torch.randn(1, 4 * 20, 80)
    latents = tokenizer.model.encode(mel, torch.ones(1, 20, dtype=torch.bool))
    padded = torch.cat([mel, torch.randn(1, 4 * 9, 80)], dim=1)
    valid = torch.arange(29)[None] < 20
    assert torch.allclose(tokenizer.model.encode(padded, valid)[:, :20], latents, atol=1e-5)


def test_silence_has_units(tokenizer):
    assert len(tokenizer.encode([np.zeros(16000, dtype=np.float32)])[0]) == 25


@pytest.mark.parametrize("samples", [np.array([0.1, np.nan]), np.array([np.inf]), np.array([]), np.zeros((100, 2))])
def test_samples_that_are_no_audio_are_refused(tokenizer, samples):
    with pytest.raises(AudioPaLMError):
        tokenizer.encode([samples])


def test_a_missing_model_names_its_stage(tmp_path):
    with pytest.raises(AudioPaLMError, match="stage 3"):
        UnitTokenizer.load(tmp_path / "nowhere")
