"""Parts of the trainings of units: batches, augmentation, the order of recordings, kinds without steps."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import call
from trainings import write_recordings

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, sha256
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.speech import length_batches, list_speech
from audiopalm.units.speech_batches import SpeechBatchConfig, augment, plan_batches, select_speech
from audiopalm.units.usm_v2 import UnitConfig, UnitModel
from audiopalm.units.usm_v2_training import voiceless


@pytest.fixture
def data(tmp_path):
    return write_recordings(tmp_path / "data")


def test_augmentation_gives_input_and_target_the_same_shape():
    torch.manual_seed(0)
    mel, frames = torch.randn(3, 40, 80) - 5, torch.tensor([10, 7, 1])
    for _ in range(20):
        changed, clean, lengths = augment(mel, mel, frames, torch.zeros(80))
        assert clean.shape == changed.shape and not torch.equal(clean, changed)
        assert changed.shape[0] == 3 and changed.shape[1] % 4 == 0 and changed.isfinite().all()
        assert 1 <= lengths.min() and lengths.max() <= changed.shape[1] // 4


def test_the_spectrum_to_predict_has_no_voice_and_no_padding():
    torch.manual_seed(0)
    model = UnitModel(UnitConfig(dim=16, heads=2, encoder_blocks=1, code_dim=8, size=16))
    mel, valid = torch.randn(2, 40, 80) - 5, torch.arange(10) < torch.tensor([[10], [6]])
    clean = voiceless(model, mel, valid)
    assert clean[0].mean(0).abs().max() < 1e-5 and clean[1, :24].mean(0).abs().max() < 1e-5
    louder = mel + torch.randn(2, 1, 80)
    torch.testing.assert_close(voiceless(model, louder, valid), clean, rtol=0, atol=1e-5)
    codes = torch.randn(2, 10, 8)
    changed = codes.clone()
    changed[:, 3] += 1
    differs = (model.sound(codes) != model.sound(changed)).any(-1)
    assert differs[:, 12:16].all() and differs.sum() == 8


def test_batches_hold_every_recording_once_and_at_most_the_allowed_length():
    lengths = np.random.default_rng(0).integers(100, 1000, 50)
    batches = length_batches(lengths, 3000, seed=1)
    seen = []
    while len(seen) < 50:
        batch = next(batches)
        assert max(lengths[index] for index in batch) * len(batch) <= 3000
        seen += batch.tolist()
    assert sorted(seen) == list(range(50))


def test_a_short_trial_has_short_recordings_alone(data):
    config = SpeechBatchConfig()
    speech = select_speech(data, config, True)
    plan = plan_batches(speech, config, 3, seed=1, short=10, short_share=0.5)
    longest = sorted(speech.samples)[len(speech) // 2 - 1]
    assert longest < max(speech.samples)
    assert len(plan) == 3 and all(speech.samples[plan[number]].max() <= longest for number in range(3))


def test_a_file_that_two_utterances_share_is_trained_on_once(data):
    wav, text = (data / name for name in ("wav.scp", "text"))
    (data / "wav.scp.es").write_text(wav.read_text())
    (data / "text.es").write_text(text.read_text())
    assert len(list_speech(data)) == 16


def test_the_order_is_that_of_utterances_and_not_of_file_names(data):
    """Stage 2 names files by a hash that covers the time of their source, which differs between clones."""
    before = [speech.text for speech in list_speech(data)], [speech.samples for speech in list_speech(data)]
    wavs = read_table(data / "wav.scp")
    for number, (utterance, path) in enumerate(wavs.items()):
        wavs[utterance] = str(Path(path).rename(data / f"{99 - number}.flac"))
    write_table(data / "wav.scp", wavs)
    after = [speech.text for speech in list_speech(data)], [speech.samples for speech in list_speech(data)]
    assert len(set(before[1])) > 1 and after == before


def test_a_recording_without_text_is_named(data):
    (data / "text").write_text("")
    with pytest.raises(AudioPaLMError, match="anna-en-00"):
        list_speech(data)


def test_a_spoken_translation_may_lack_its_text(data):
    """As interpretation of VoxPopuli does: the codec is trained on it, units are trained on recordings with text."""
    wavs = read_table(data / "wav.scp")
    copies = {name: shutil.copy(path, data / f"spoken-{name}.flac") for name, path in wavs.items()}
    write_table(data / "wav.scp.es", copies)
    assert [speech.text for speech in list_speech(data)][len(wavs):] == [""] * len(wavs)
    write_table(data / "text.es", {name: "uno" for name in list(wavs)[:3]})
    assert sorted(speech.text for speech in list_speech(data)[len(wavs):]) == [""] * (len(wavs) - 3) + ["uno"] * 3


def test_a_unit_depends_on_nothing_beyond_the_reach():
    torch.manual_seed(0)
    model = UnitModel(UnitConfig(dim=16, heads=2, encoder_blocks=2, kernel=5, context=3)).eval()
    mel = torch.randn(1, 4 * 60, 80)
    changed = mel.clone()
    changed[:, :4 * 20] = torch.randn(1, 80, 80)
    valid = torch.ones(1, 60, dtype=torch.bool)
    differs = (model.encode(mel, valid) != model.encode(changed, valid)).any(-1)[0]
    assert differs[:20].all() and not differs[20 + model.reach:].any()


def train(data, output, *overrides):
    call("train_units", "--data_dir", data, "--output", output, "--seed", "3", *overrides)


def test_a_folder_of_other_units_is_refused(data, tmp_path):
    settings = ["model.size=8", "kmeans.frames=100"]
    train(data, tmp_path / "units", "kind=log-mel", *settings)
    assert "phone_purity" not in read_json(tmp_path / "units/report.json")  # the data have no English
    with pytest.raises(AudioPaLMError, match='config.kind: "log-mel" -> "w2v-bert"'):
        train(data, tmp_path / "units", "kind=w2v-bert")


def test_a_second_run_with_the_same_seed_gives_the_same_log_mel_units(data, tmp_path):
    settings = ["kind=log-mel", "model.size=8", "kmeans.frames=100"]
    for name, more in (("first", []), ("second", []), ("more", ["kmeans.frames=120"])):
        train(data, tmp_path / name, *settings, *more)
    hashes = [sha256(tmp_path / name / "model.safetensors") for name in ("first", "second", "more")]
    assert hashes[0] == hashes[1] != hashes[2]
    assert read_json(tmp_path / "first/report.json")["codes_used"] <= 8


def test_an_encoder_that_the_hub_does_not_give_is_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AudioPaLMError, match="no/such-encoder is not a folder, and the Hugging Face hub") as raised:
        train(data, tmp_path / "units", "kind=huggingface", "encoder=no/such-encoder", "layer=1")
    assert "\n" not in str(raised.value)
    with pytest.raises(AudioPaLMError, match="unknown kind 'usm-v1'.*usm-v2"):
        train(data, tmp_path / "units", "kind=usm-v1")
