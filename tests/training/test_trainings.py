"""Every training of the package runs through the one engine: it resumes exactly, and its record never lies."""

import dataclasses
import functools
import importlib.util
import json
import signal

import pytest
import torch
from safetensors.torch import load_file
from trainings import KINDS, Trainings

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.units.usm_v2_training import UsmTraining

SHARED = ["training.micro_batches=2"]  # a step of two processes, or of one


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.fixture(autouse=True)
def one_thread():
    """The processes that the tests start have one too: sums are then added up in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def log_of(output) -> list[dict]:
    """The rows of log.jsonl without what depends on the clock."""
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"}
            for line in (output / "log.jsonl").read_text().splitlines()]


def kinds():
    absent = importlib.util.find_spec("espnet2") is None
    return [pytest.param(kind, marks=pytest.mark.skipif(kind == "soundstream" and absent, reason="needs espnet"))
            for kind in KINDS]


@pytest.mark.parametrize("kind", kinds())
def test_a_killed_training_ends_with_the_same_bytes_and_log(trainings, tmp_path, kind, caplog):
    caplog.set_level("INFO")
    assert trainings.run_until_killed(kind, tmp_path / "killed", step=10).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/model.safetensors").exists()
    trainings.run(kind, tmp_path / "killed")
    assert "going on from step 8" in caplog.text
    trainings.run(kind, tmp_path / "whole")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert log_of(killed) == log_of(whole)
    assert {row["step"] for row in log_of(whole)} == {3, 4, 6, 8, 9, 12}
    validated = [row for row in log_of(whole) if "dev" in row]
    assert [row["step"] for row in validated] == [4, 8, 12]
    assert all(torch.isfinite(torch.tensor(row["dev"]["loss"])) for row in validated)
    assert not list(whole.glob("checkpoint*")), "a finished training keeps no checkpoint"


def test_a_checkpoint_between_two_rows_of_the_log_has_the_losses_before_it(trainings, tmp_path):
    """Its header is written at the next row, when the losses of later steps have been added up too."""
    apart = ["training.save_every=5", "training.validate_every=12"]
    assert trainings.run_until_killed("soundstorm", tmp_path / "killed", 8, *apart).returncode == -signal.SIGKILL
    for name in ("killed", "whole"):
        trainings.run("soundstorm", tmp_path / name, *apart)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


@pytest.mark.parametrize("kind", kinds())
def test_a_finished_training_is_left_alone_or_refused(trainings, tmp_path, kind, caplog):
    caplog.set_level("INFO")
    output = tmp_path / "output"
    trainings.run(kind, output)
    before = (output / "model.safetensors").stat().st_mtime_ns
    trainings.run(kind, output, "training.log_every=7", "training.workers=1")
    assert "is finished" in caplog.text and (output / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(AudioPaLMError, match="other settings") as refusal:
        trainings.run(kind, output, "training.steps=13", "optimizer.clip=2", "training.log_every=7")
    assert str(refusal.value).splitlines()[1:] == ["  config.optimizer.clip: 1.0 -> 2.0",
                                                   "  config.training.steps: 12 -> 13"]


def test_a_half_finished_training_refuses_other_data_and_processes_that_cannot_share_a_step(trainings, tmp_path):
    output = tmp_path / "output"
    trainings.run_until_killed("soundstorm", output, step=6)
    text = (trainings.tokens / "utt2spk").read_text()
    try:
        (trainings.tokens / "utt2spk").write_text(text.replace(" s2", " s1"))
        with pytest.raises(AudioPaLMError, match=r"was begun with other settings[^\n]*\n  train.data: "):
            trainings.run("soundstorm", output)
    finally:
        (trainings.tokens / "utt2spk").write_text(text)
    result = trainings.run_processes("soundstorm", output, 2)
    assert result.returncode != 0
    assert result.stderr.count("training.micro_batches is 1, which 2 processes cannot share evenly") == 1
    trainings.run("soundstorm", output)


@pytest.mark.parametrize("kind", ["soundstorm", "usm-v2", "spectral"])
def test_workers_change_nothing(trainings, tmp_path, kind):
    """Micro-batches are numbered: processes that prepare them give the bytes of the thread that does it otherwise."""
    for workers in ("0", "2"):
        trainings.run(kind, tmp_path / workers, f"training.workers={workers}")
    alone, helped = tmp_path / "0", tmp_path / "2"
    assert (alone / "model.safetensors").read_bytes() == (helped / "model.safetensors").read_bytes()
    assert log_of(alone) == log_of(helped)


def test_a_model_without_its_record_is_not_taken_for_finished(trainings, tmp_path):
    trainings.run("soundstorm", tmp_path / "output")
    (tmp_path / "output/training.json").unlink()
    with pytest.raises(AudioPaLMError, match="holds model.safetensors but no training.json"):
        trainings.run("soundstorm", tmp_path / "output")


@pytest.fixture(scope="module")
def in_two_processes(trainings, tmp_path_factory):
    """A function: the output of a kind that two processes have trained, once for all tests."""
    @functools.cache
    def run(kind):
        output = tmp_path_factory.mktemp("two") / kind
        result = trainings.run_processes(kind, output, 2, *SHARED)
        assert result.returncode == 0 and "in 2 processes" in result.stderr, result.stderr
        return output
    return run


@pytest.mark.parametrize("kind", ["usm-v2", "soundstorm"])
def test_two_killed_processes_end_with_the_same_bytes(trainings, in_two_processes, tmp_path, kind):
    assert trainings.run_until_killed(kind, tmp_path / "killed", 10, *SHARED, processes=2).returncode != 0
    assert not (tmp_path / "killed/model.safetensors").exists()
    resumed = trainings.run_processes(kind, tmp_path / "killed", 2, *SHARED)
    assert resumed.returncode == 0 and "going on from step 8" in resumed.stderr, resumed.stderr
    killed, whole = tmp_path / "killed", in_two_processes(kind)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert log_of(killed) == log_of(whole)


def test_the_frozen_encoder_of_a_codec_does_not_change_in_two_processes(trainings, in_two_processes, tmp_path):
    """It is frozen from step 5 on, of 6 and of 12. Averaged gradients of zero would let it decay."""
    result = trainings.run_processes("spectral", tmp_path / "short", 2, *SHARED, "training.steps=6")
    assert result.returncode == 0, result.stderr
    short, long = (load_file(folder / "model.safetensors") for folder in (tmp_path / "short",
                                                                          in_two_processes("spectral")))
    encoder = [name for name in short if name.startswith("encoder.")]
    assert encoder and all(torch.equal(short[name], long[name]) for name in encoder)
    assert any(not torch.equal(short[name], long[name]) for name in short if name.startswith("decoder."))


def test_two_processes_have_the_losses_of_one(trainings, in_two_processes, tmp_path):
    trainings.run("soundstorm", tmp_path / "one", *SHARED)
    one, two = log_of(tmp_path / "one"), log_of(in_two_processes("soundstorm"))
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=2e-5)
    assert [row["dev"]["loss"] for row in two if "dev" in row] == pytest.approx(
        [row["dev"]["loss"] for row in one if "dev" in row], rel=2e-5)


def test_a_codec_that_follows_the_batches_of_one_process_refuses_two(trainings, tmp_path):
    result = trainings.run_processes("soundstream", tmp_path / "output", 2, *SHARED)
    assert result.returncode != 0 and "start it with --num_nodes 1 and --ngpu 0 or 1" in result.stderr


def test_the_best_checkpoint_is_kept_and_the_log_says_so(trainings, tmp_path, caplog):
    """With a rate that destroys the model at its end the last checkpoint is worse than an earlier one."""
    caplog.set_level("INFO")
    spoilt = ["optimizer.learning_rate=1", "optimizer.schedule=constant", "training.validate_every=1",
              "training.steps=20"]
    for keep in ("best", "last"):
        trainings.run("soundstorm", tmp_path / keep, *spoilt, f"training.keep={keep}")
    dev = [row["dev"]["loss"] for row in log_of(tmp_path / "best") if "dev" in row]
    best = min(range(len(dev)), key=dev.__getitem__)
    assert best + 1 < len(dev), "the last checkpoint is the best one: this tests nothing"
    assert f"keeping the checkpoint of step {best + 1}" in caplog.text
    assert "keeping the last checkpoint, of step 20" in caplog.text
    weights = [(tmp_path / keep / "model.safetensors").read_bytes() for keep in ("best", "last")]
    assert weights[0] != weights[1]
    patient = tmp_path / "patient"
    trainings.run("soundstorm", patient, *spoilt, "training.patience=2")
    # The log has a row for each step; training ends two validations behind the best one before it.
    rows = log_of(patient)
    ended, best = rows[-1]["step"], min(rows, key=lambda row: row["dev"]["loss"])["step"]
    assert ended == best + 2 < 20
    assert "has not been below" in caplog.text and "for 2 validations: training ends here" in caplog.text
    assert f"keeping the checkpoint of step {best}" in caplog.text.split("training ends here")[1]


@pytest.mark.parametrize("override, message", [
    ("checkpoint_every=3", "it is now training.save_every"),
    ("training.voices=3", "it is now batch.voices"),
    ("training.learning_rate=1", "it is now optimizer.learning_rate"),
    ("training.own_share=0.5", "it is now own_share, beside training"),
    ("optimizer=muon", r"optimizer: expected keys \(name, learning_rate, .*\), found 'muon'"),
    ("training.steps=-1", "training: steps: -1 is too small"),
    ("training.precision=fp8", "unknown value 'fp8'"),
    ("optimizer.learning_rate=nan", "not a finite number"),
    ("optimizer.betas=[0.9, 1.0]", r"betas\[1\]: 1.0 is too large"),
    ("kind=soundstrom", "did you mean 'soundstorm'"),
])
def test_wrong_settings_are_one_line(trainings, tmp_path, override, message):
    if override.startswith("checkpoint"):
        kind = "usm-v2"
    else:
        kind = "soundstorm"
    with pytest.raises(AudioPaLMError, match=message) as refusal:
        trainings.run(kind, tmp_path / "output", override)
    assert "\n" not in str(refusal.value) and not (tmp_path / "output").exists()


def test_a_loss_that_is_not_a_number_names_its_batch(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr("audiopalm.units.usm_v2_training.UsmTraining.losses",
                        lambda self, *arguments: [self.model.ctc.weight.sum() * float("nan")] * 3)
    with pytest.raises(AudioPaLMError, match="loss is not a number at step 0"):
        trainings.run("usm-v2", tmp_path / "output")
    named = read_json(tmp_path / "output/nan_batch.0.json")
    assert named["step"] == 0 and named["utterances"][0].endswith(".flac")


def test_a_loss_that_is_not_a_number_is_found_before_a_checkpoint_is_saved(trainings, tmp_path, monkeypatch):
    """Losses are read at rows of the log, validations and checkpoints; the first bad step is named."""
    step = UsmTraining.step

    def spoilt(self, batch, number):
        for loss in step(self, batch, number):
            yield dataclasses.replace(loss, total=loss.total * (float("nan") if number >= 5 else 1))

    monkeypatch.setattr(UsmTraining, "step", spoilt)
    rare = ["training.log_every=20", "training.validate_every=20", "training.save_every=4"]
    with pytest.raises(AudioPaLMError, match="loss is not a number at step 5"):
        trainings.run("usm-v2", tmp_path / "output", *rare)
    assert read_json(tmp_path / "output/nan_batch.0.json")["step"] == 5
    assert read_json(tmp_path / "output/checkpoint/snapshot.json")["state"]["step"] == 4


def test_a_dev_loss_that_is_not_a_number_stops_before_it_can_be_the_best(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(UsmTraining, "evaluate", lambda self: {"ctc": 1.0, "spectrum": float("nan")})
    with pytest.raises(AudioPaLMError, match="the dev loss is not a number after step 4: {'ctc': 1.0, 'spectrum': nan"):
        trainings.run("usm-v2", tmp_path / "output")
    assert not (tmp_path / "output/model.safetensors").exists()


def test_recordings_that_are_left_out_are_counted(trainings, tmp_path, caplog):
    trainings.run("usm-v2", tmp_path / "output", "batch.longest_seconds=1.5")
    assert "longer than batch.longest_seconds (1.5)" in caplog.text
