"""Training of units: a killed run ends with the weights of one that was left alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from audiopalm.bin import train_units as train_units_command
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, sha256
from audiopalm.data.audio import write_audio
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.speech import length_batches, list_speech
from audiopalm.units import w2v_bert_training as w2v_bert
from audiopalm.units.registry import UnitTokenizer
from audiopalm.units.usm_v2 import UnitConfig, UnitModel
from audiopalm.units.usm_v2_training import UnitTraining, augment, train_units, voiceless

STEPS = ["plain_steps=24", "quantised_steps=16", "short_steps=4", "augment_from=10",
         "kmeans_batches=2", "checkpoint_every=6", "batch_seconds=4",
         "model.dim=16", "model.heads=2", "model.encoder_blocks=1", "model.kernel=5", "model.code_dim=8",
         "model.size=16"]


@pytest.fixture
def data(tmp_path):
    """Sixteen recordings of tones that spell `a` (low) and `b` (high)."""
    directory, random = tmp_path / "data", np.random.default_rng(0)
    wavs, texts = {}, {}
    for number in range(16):
        text = "".join(random.choice(["a", "b"], random.integers(2, 6)))
        samples = np.concatenate([np.sin(np.arange(6400) * (0.1 if letter == "a" else 0.5)) for letter in text]) * 0.3
        path = directory / f"{number}.flac"
        write_audio(path, samples.astype(np.float32))
        wavs[f"anna-en-{number:02d}"], texts[f"anna-en-{number:02d}"] = str(path), text
    write_table(directory / "wav.scp", wavs)
    write_table(directory / "text", texts)
    write_table(directory / "utt2lang", dict.fromkeys(wavs, "fr"))
    return directory


def command(data, output) -> list[str]:
    return [sys.executable, "-m", "audiopalm.bin.train_units", "--data_dir", data, "--output", output, "--seed", "3",
            *STEPS]


def test_a_killed_run_ends_with_the_same_weights(data, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(data, tmp_path / "whole"), env=environment, check=True, capture_output=True)
    killed = subprocess.Popen(command(data, tmp_path / "killed"), env=environment, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed/snapshot.safetensors").exists() and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed/model.safetensors").exists(), "the run ended before it was killed"
    again = subprocess.run(command(data, tmp_path / "killed"), env=environment, check=True, capture_output=True,
                           text=True)
    assert "going on from step" in again.stderr
    assert sha256(tmp_path / "whole/model.safetensors") == sha256(tmp_path / "killed/model.safetensors")
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    assert [line.split(",")[0] for line in logs[0]] == [line.split(",")[0] for line in logs[1]]
    report = read_json(tmp_path / "whole/report.json")
    assert report["codes_used"] <= report["size"] == 16
    assert len(UnitTokenizer.load(tmp_path / "whole").encode([np.zeros(6400, dtype=np.float32)])[0]) == 10


def test_another_seed_does_not_go_on_from_this_snapshot(data, tmp_path, monkeypatch):
    config = UnitTraining(UnitConfig(dim=16, heads=2, encoder_blocks=1, code_dim=8, size=16), batch_seconds=4,
                          plain_steps=2, quantised_steps=2, short_steps=1, kmeans_batches=1, checkpoint_every=1)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("audiopalm.units.usm_v2_training.start_codebook", stop)
    with pytest.raises(KeyboardInterrupt):
        train_units(data, config, tmp_path / "out", seed=0)
    with pytest.raises(AudioPaLMError, match="seed 0, this one has 1"):
        train_units(data, config, tmp_path / "out", seed=1)


def test_augmentation_keeps_shapes_in_step():
    torch.manual_seed(0)
    mel, frames = torch.randn(3, 40, 80) - 5, torch.tensor([10, 7, 1])
    for _ in range(20):
        changed, lengths, clean = augment(mel, frames, torch.zeros(80))
        assert clean.shape == changed.shape and not torch.equal(clean, changed)
        assert changed.shape[0] == 3 and changed.shape[1] % 4 == 0 and changed.isfinite().all()
        assert 1 <= lengths.min() and lengths.max() <= changed.shape[1] // 4


def test_spectrum_to_predict_has_no_voice_and_no_padding():
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


def test_batches_hold_every_recording_once_and_no_more_than_allowed():
    lengths = np.random.default_rng(0).integers(100, 1000, 50).tolist()
    batches = length_batches(lengths, 3000, seed=1)
    seen = []
    while len(seen) < 50:
        batch = next(batches)
        assert max(lengths[index] for index in batch) * len(batch) <= 3000
        seen += batch
    assert sorted(seen) == list(range(50))


def test_a_file_that_two_utterances_share_is_trained_on_once(data):
    wav, text = (data / name for name in ("wav.scp", "text"))
    (data / "wav.scp.es").write_text(wav.read_text())
    (data / "text.es").write_text(text.read_text())
    assert len(list_speech(data)) == 16


def test_the_order_is_that_of_utterances_whatever_their_files_are_called(data):
    """Stage 2 names files by a hash of, among others, the time of their source: another one in each clone."""
    before = [speech.text for speech in list_speech(data)], [speech.samples for speech in list_speech(data)]
    wavs = read_table(data / "wav.scp")
    for number, (utterance, path) in enumerate(wavs.items()):
        wavs[utterance] = str(Path(path).rename(data / f"{99 - number}.flac"))
    write_table(data / "wav.scp", wavs)
    after = [speech.text for speech in list_speech(data)], [speech.samples for speech in list_speech(data)]
    assert len(set(before[1])) > 1 and after == before


def test_recording_without_text_is_named(data):
    (data / "text").write_text("")
    with pytest.raises(AudioPaLMError, match="anna-en-00"):
        list_speech(data)


def test_a_spoken_translation_may_lack_its_text(data):
    """Interpretation of VoxPopuli: the codec hears it, the units are trained on what has a text."""
    wavs = read_table(data / "wav.scp")
    copies = {name: shutil.copy(path, data / f"spoken-{name}.flac") for name, path in wavs.items()}
    write_table(data / "wav.scp.es", copies)
    assert [speech.text for speech in list_speech(data)][len(wavs):] == [""] * len(wavs)
    write_table(data / "text.es", {name: "uno" for name in list(wavs)[:3]})
    assert sorted(speech.text for speech in list_speech(data)[len(wavs):]) == [""] * (len(wavs) - 3) + ["uno"] * 3


def test_reach_covers_what_a_unit_depends_on():
    torch.manual_seed(0)
    model = UnitModel(UnitConfig(dim=16, heads=2, encoder_blocks=2, kernel=5, context=3)).eval()
    mel = torch.randn(1, 4 * 60, 80)
    changed = mel.clone()
    changed[:, :4 * 20] = torch.randn(1, 80, 80)
    valid = torch.ones(1, 60, dtype=torch.bool)
    differs = (model.encode(mel, valid) != model.encode(changed, valid)).any(-1)[0]
    assert differs[:20].all() and not differs[20 + model.reach:].any()


W2V_BERT = ["kind=w2v-bert", "steps=16", "batch_seconds=4", "checkpoint_every=4", "kmeans.frames=200", "model.dim=16",
            "model.heads=2", "model.kernel=5", "model.contrastive_blocks=1", "model.masked_blocks=1", "model.layer=2",
            "model.target_codes=8", "model.target_dim=4", "model.size=16"]


def stage(data, output, *overrides):
    arguments = ["train_units", "--data_dir", str(data), "--output", str(output), "--seed", "3", *overrides]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        train_units_command.main()


def test_a_w2v_bert_that_was_stopped_ends_with_the_same_weights(data, tmp_path, monkeypatch, caplog):
    stage(data, tmp_path / "whole", *W2V_BERT)
    steps = []

    def stop_after_six(*arguments):
        if len(steps) == 6:
            raise KeyboardInterrupt
        steps.append(arguments)
        return train_step(*arguments)

    train_step = w2v_bert.train_step
    monkeypatch.setattr(w2v_bert, "train_step", stop_after_six)
    with pytest.raises(KeyboardInterrupt):
        stage(data, tmp_path / "stopped", *W2V_BERT)
    monkeypatch.setattr(w2v_bert, "train_step", train_step)
    with caplog.at_level("INFO"):
        stage(data, tmp_path / "stopped", *W2V_BERT)
    assert "going on from step 4" in caplog.text
    assert sha256(tmp_path / "whole/model.safetensors") == sha256(tmp_path / "stopped/model.safetensors")
    assert "phone_purity" not in read_json(tmp_path / "whole/report.json")  # no English in it
    with pytest.raises(AudioPaLMError, match="kind w2v-bert, asked for are log-mel"):
        stage(data, tmp_path / "whole", "kind=log-mel")


def test_log_mel_units_are_those_of_a_second_run_and_of_a_seed(data, tmp_path):
    settings = ["kind=log-mel", "model.size=8", "kmeans.frames=100"]
    for name, more in (("one", []), ("two", []), ("more", ["kmeans.frames=120"])):
        stage(data, tmp_path / name, *settings, *more)
    hashes = [sha256(tmp_path / name / "model.safetensors") for name in ("one", "two", "more")]
    assert hashes[0] == hashes[1] != hashes[2]
    assert read_json(tmp_path / "one/report.json")["codes_used"] <= 8


def test_an_encoder_that_nobody_gives_is_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AudioPaLMError, match="no/such-encoder is not a folder, and the Hugging Face hub") as raised:
        stage(data, tmp_path / "units", "kind=huggingface", "encoder=no/such-encoder", "layer=1")
    assert "\n" not in str(raised.value)
    with pytest.raises(AudioPaLMError, match="unknown kind of units 'usm-v1'.*usm-v2"):
        stage(data, tmp_path / "units", "kind=usm-v1")
