"""Stage 8 in two processes (gloo, one thread each): the losses of one process, and exact going on after a kill."""

import json
import subprocess

import pytest
from lm_commands import Prepared, call, check
from prestarted import run_python
from safetensors.numpy import load_file
from trainings import write_killed

from audiopalm.core.errors import AudioPaLMError

SETTINGS = ["optimizer.learning_rate=1e-3", "training.steps=12", "training.save_every=5", "training.log_every=1",
            "training.validate_every=6", "dropout=0.1"]
TWO = ["training.micro_batches=4", "training.workers=2"]  # of all processes together
STRATEGIES = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digit_sets):
    return Prepared(tmp_path_factory.mktemp("prepared"), digit_sets)


def train(prepared, output, *overrides, program=("-m", "audiopalm.bin.train_lm")) -> subprocess.CompletedProcess:
    """Stage 8 in two processes."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *program, *prepared.train_lm[1:],
             "--output", output, *SETTINGS, *TWO, *overrides]
    return run_python(*words, OMP_NUM_THREADS="1")


@pytest.fixture(scope="module", params=STRATEGIES)
def whole(request, tmp_path_factory, prepared):
    """(strategy, output) of a training in two processes that nothing has stopped."""
    output = tmp_path_factory.mktemp("whole") / request.param
    result = train(prepared, output, f"training.strategy={request.param}")
    check(result)
    assert "steps of 4 micro-batches in 2 processes" in result.stderr
    return request.param, output


@pytest.fixture(scope="module")
def one(tmp_path_factory, prepared):
    """The output of one process with the micro-batches of both."""
    output = tmp_path_factory.mktemp("one") / "lm"
    call(*prepared.train_lm, "--output", output, *SETTINGS, "training.micro_batches=4")
    return output


def losses(output) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


def test_two_processes_have_the_losses_of_one(one, whole):
    """One process with four micro-batches a step, DDP and FSDP2 with two each: the same sums, rounded otherwise."""
    expected, (_, output) = losses(one), whole
    assert len(set(expected)) == 12
    assert losses(output) == pytest.approx(expected, rel=2e-5)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, output))
    assert {name: weight.shape for name, weight in ours.items()} == {name: weight.shape
                                                                    for name, weight in theirs.items()}


def test_two_killed_processes_go_on_exactly(tmp_path, prepared, whole):
    strategy, output = whole
    killed, override = tmp_path / "killed", f"training.strategy={strategy}"
    assert train(prepared, killed, override, program=[write_killed(tmp_path, "train_lm", 8)]).returncode != 0
    assert (killed / "checkpoint").exists() and not (killed / "model.safetensors").exists()
    resumed = train(prepared, killed, override)
    check(resumed)
    assert "going on from step 5" in resumed.stderr
    assert losses(killed) == losses(output)
    assert (killed / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


def test_an_unknown_strategy_is_one_line(tmp_path, prepared):
    with pytest.raises(AudioPaLMError, match="strategy: unknown value 'fsdb'; did you mean 'fsdp'?"):
        call(*prepared.train_lm, "--output", tmp_path / "lm", "training.strategy=fsdb")


def test_muon_on_shards_is_one_line(tmp_path, prepared):
    result = train(prepared, tmp_path / "lm", "training.strategy=fsdp", "optimizer.name=muon")
    assert result.returncode != 0
    assert "muon needs whole matrices; with strategy fsdp use adamw or adafactor" in result.stderr
