"""Stage 8 in two processes (gloo, one thread each): the losses of one process, and exact going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lm_commands import Prepared, check
from safetensors.numpy import load_file

SETTINGS = ["optimizer.learning_rate=1e-3", "training.save_every=5", "training.log_every=1",
            "training.validate_every=10"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digit_sets):
    return Prepared(tmp_path_factory.mktemp("prepared"), digit_sets)


def launch(prepared, processes: int, output, *overrides) -> list[str]:
    """The command that trains in so many processes."""
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return [sys.executable, *start, "-m", "audiopalm.bin.train_lm", *map(str, prepared.train_lm[1:]), "--output",
            str(output), *SETTINGS, *overrides]


def train(prepared, processes: int, output, *overrides) -> subprocess.CompletedProcess:
    return subprocess.run(launch(prepared, processes, output, *overrides), capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def losses(output) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


def test_two_processes_have_the_losses_of_one(tmp_path, prepared):
    """One process with two micro-batches a step, DDP and FSDP2 with one each: the same sums, rounded otherwise."""
    check(train(prepared, 1, tmp_path / "one", "training.steps=10", "training.accumulate=2"))
    expected = losses(tmp_path / "one")
    assert len(set(expected)) == 10
    for strategy in ("ddp", "fsdp"):
        result = train(prepared, 2, tmp_path / strategy, "training.steps=10", f"training.strategy={strategy}")
        check(result)
        assert "steps of 2 micro-batches in 2 processes" in result.stderr
        assert losses(tmp_path / strategy) == pytest.approx(expected, rel=2e-5)
        ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("one", strategy))
        assert {name: weight.shape for name, weight in ours.items()} == {name: weight.shape
                                                                        for name, weight in theirs.items()}


def descendants(pid: int) -> list[int]:
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    return [*children, *(one for child in children for one in descendants(child))]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_killed_processes_go_on_exactly(tmp_path, prepared, strategy):
    overrides = ["training.steps=40", "training.accumulate=2", "training.workers=2", "dropout=0.1",
                 f"training.strategy={strategy}"]
    check(train(prepared, 2, tmp_path / "straight", *overrides))
    process = subprocess.Popen(launch(prepared, 2, tmp_path / "killed", *overrides), stderr=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in (process.pid, *descendants(process.pid)):  # torchrun gives each a session of its own
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model.safetensors").exists(), "killed too late to test anything"
    resumed = train(prepared, 2, tmp_path / "killed", *overrides)
    check(resumed)
    assert "going on from step" in resumed.stderr
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    straight, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    for name in straight:
        assert (straight[name] == killed[name]).all(), name


@pytest.mark.parametrize("override, message", [
    ("training.strategy=fsdb", "strategy: unknown value 'fsdb'; did you mean 'fsdp'?"),
    ("optimizer.name=muon", "muon needs whole matrices; with strategy fsdp use adamw or adafactor")])
def test_what_cannot_be_shared_out_is_one_line(tmp_path, prepared, override, message):
    result = train(prepared, 2, tmp_path / "lm", "training.steps=2", "training.strategy=fsdp", override)
    assert result.returncode != 0
    assert message in result.stderr
