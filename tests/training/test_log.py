"""log.jsonl, TensorBoard and Weights & Biases have the same numbers, without steps after the last checkpoint."""

import json
import shutil
import sys
import time
import types

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audiopalm.core.errors import AudioPaLMError
from audiopalm.training.log import StepLog


def test_a_log_goes_on_from_the_step_of_the_checkpoint(tmp_path):
    log = StepLog(tmp_path / "log.jsonl", 0)
    for step in (10, 20, 30):
        log.write(step, loss=step / 10, dev={"asr": 1.0})
    with open(tmp_path / "log.jsonl", "a") as stream:
        stream.write('{"step": 40, "lo')  # killed while it wrote
    began = int(time.time())
    while int(time.time()) == began:  # TensorBoard reads files by name, and a name begins with whole seconds
        time.sleep(0.01)
    log = StepLog(tmp_path / "log.jsonl", 20)
    log.write(30, loss=7.0, levels=[0.5, None])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 1.0), (20, 2.0), (30, 7.0)]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(10, 1.0), (20, 2.0), (30, 7.0)]
    assert [event.step for event in board.Scalars("dev/asr")] == [10, 20]
    assert board.Scalars("levels/0")[0].value == 0.5 and "levels/1" not in board.Tags()["scalars"]


def test_a_second_process_writes_nothing(tmp_path):
    StepLog(tmp_path / "log.jsonl", 0, writes=False).write(1, loss=1.0)
    assert list(tmp_path.iterdir()) == []


def test_wandb_has_the_numbers_and_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AudioPaLMError, match="pip install wandb"):
        StepLog(tmp_path / "log.jsonl", 0, wandb_project="speech")
    begun, logged = [], []

    def init(**options):
        begun.append(options)
        return types.SimpleNamespace(log=lambda numbers, step: logged.append((step, numbers)))

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for step in (0, 5):
        StepLog(tmp_path / "log.jsonl", step, wandb_project="speech").write(step + 1, loss=2.0, dev={"mt": 1.0})
    assert logged == [(1, {"loss": 2.0, "dev/mt": 1.0}), (6, {"loss": 2.0, "dev/mt": 1.0})]
    assert begun[0]["project"] == "speech" and begun[0] == begun[1]  # the same run goes on
    shutil.rmtree(tmp_path)  # a training that is made anew in the same folder is another run
    tmp_path.mkdir()
    StepLog(tmp_path / "log.jsonl", 0, wandb_project="speech")
    assert begun[2]["id"] != begun[0]["id"]
