"""Damaged checkpoints and records of a killed training: it goes on from an undamaged one, or says one line."""

import importlib
import json
import random
import shutil

import pytest
from one_line import said_in_one_line
from trainings import Trainings

from audiopalm.core.errors import AudioPaLMError

LAST, PREVIOUS, BEST, RECORD = "checkpoint", "checkpoint.previous", "checkpoint.best", "training.json"
FILES = ["shard-00001-of-00001.safetensors", "snapshot.json"]  # of each checkpoint


def flip(content: bytes, seed: int) -> bytes:
    """The content with one flipped bit, not in its first eight bytes."""
    offset = random.Random(seed).randrange(8, len(content))
    return content[:offset] + bytes([content[offset] ^ 1 << seed % 8]) + content[offset + 1:]


DAMAGES = {
    "empty": lambda content: b"", "cut in the header": lambda content: content[:40],
    "cut in the middle": lambda content: content[:len(content) // 2], "two bytes short": lambda content: content[:-2],
    "zeros": lambda content: b"\0" * len(content), "a text": lambda content: b"not a checkpoint\n" * 100,
    "a huge header": lambda content: b"\xff" * 8 + content[8:], "a pickle": lambda content: b"\x80\x04PKL" + content,
    **{f"a flipped bit, {seed}": lambda content, seed=seed: flip(content, seed) for seed in range(8)},
}
RECORDS = ["", "{", "[]", "{}", "null", "3", '{"made_from": 3}', '{"processes": 1}',
           '{"made_from": {}, "processes": 1}']


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.fixture(scope="module")
def killed(trainings, tmp_path_factory):
    """The folder of a training of 12 steps that was killed in the tenth, with checkpoints of steps 4 and 8."""
    folder = tmp_path_factory.mktemp("killed") / "output"
    trainings.run_until_killed("soundstorm", folder, step=10)
    assert {LAST, PREVIOUS, BEST, RECORD} <= {path.name for path in folder.iterdir()}
    return folder


@pytest.fixture
def output(killed, tmp_path):
    shutil.copytree(killed, tmp_path / "output")
    return tmp_path / "output"


def spoil(path, damage) -> None:
    path.write_bytes(damage(path.read_bytes()))


def refused(trainings, output, monkeypatch, capsys) -> str:
    name, *arguments = trainings.arguments("soundstorm", output)
    main = importlib.import_module(f"audiopalm.bin.{name}").main
    return said_in_one_line(monkeypatch, capsys, main, *arguments)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_two_damaged_checkpoints_are_one_line(trainings, output, monkeypatch, capsys, damage, file):
    for name in (LAST, PREVIOUS):
        spoil(output / name / file, DAMAGES[damage])
    line = refused(trainings, output, monkeypatch, capsys)
    assert f"{PREVIOUS} is damaged" in line and "remove" in line
    assert not (output / "model.safetensors").exists()


@pytest.mark.parametrize("damage", ["empty", "cut in the middle", "a flipped bit, 0", "a flipped bit, 5"])
def test_a_damaged_last_checkpoint_costs_only_its_steps(trainings, output, caplog, damage):
    caplog.set_level("INFO")
    spoil(output / LAST / FILES[0], DAMAGES[damage])
    trainings.run("soundstorm", output)
    assert "DAMAGED CHECKPOINT" in caplog.text and "going on from step 4" in caplog.text
    assert (output / "model.safetensors").exists()


@pytest.mark.parametrize("content", RECORDS)
def test_a_damaged_record_is_refused(trainings, output, monkeypatch, capsys, content):
    (output / RECORD).write_text(content)
    if content.startswith('{"made_from": {}'):  # a valid record, in which every setting differs
        with pytest.raises(AudioPaLMError, match="other settings"):
            trainings.run("soundstorm", output)
        return
    assert RECORD in refused(trainings, output, monkeypatch, capsys)


@pytest.mark.parametrize("file", FILES)
def test_a_checkpoint_without_one_of_its_files_is_refused(trainings, output, monkeypatch, capsys, file):
    shutil.rmtree(output / PREVIOUS)
    (output / LAST / file).unlink()
    assert "is damaged" in refused(trainings, output, monkeypatch, capsys)


def test_a_log_that_was_cut_off_is_continued(trainings, output):
    log = output / "log.jsonl"
    log.write_text(log.read_text()[:-15] + "\n{\"step\": 3")
    trainings.run("soundstorm", output)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()][-1] == 12
