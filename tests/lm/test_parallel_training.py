"""Stage 8 in several processes (gloo, one thread each): the losses of one process, whoever goes on after a kill."""

import json
import subprocess

import pytest
from commands import call, check
from lm_commands import Prepared
from prestarted import run_python
from safetensors.numpy import load_file
from trainings import write_killed

from audiopalm.core.errors import AudioPaLMError

SETTINGS = ["optimizer.learning_rate=1e-3", "training.steps=12", "training.save_every=5", "training.log_every=1",
            "training.validate_every=6", "dropout=0.1"]
SHARED = ["training.micro_batches=4", "training.workers=2"]  # of all processes together
STRATEGIES = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digit_sets):
    return Prepared(tmp_path_factory.mktemp("prepared"), digit_sets)


def train(prepared, output, *overrides, program=("-m", "audiopalm.bin.train_lm"),
          processes: int = 2) -> subprocess.CompletedProcess:
    """Stage 8 in two processes, or as many as given."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return run_python(*(launcher if processes > 1 else []), *program, *prepared.train_lm[1:], "--output", output,
                      *SETTINGS, *SHARED, *overrides, OMP_NUM_THREADS="1")


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


@pytest.mark.parametrize("numbers", [(1, 2, 1), (2, 4)], ids=str)
def test_other_numbers_of_processes_and_workers_go_on_with_the_same_losses(tmp_path, prepared, one, numbers):
    """A training that is killed in steps 5 and 9 goes on with other processes: packed rows, accumulated gradients."""
    output = tmp_path / "lm"
    for index, processes in enumerate(numbers):
        settings = ["training.strategy=fsdp", "training.save_every=2", f"training.workers={index}"]
        if index + 1 < len(numbers):
            program = [write_killed(tmp_path, "train_lm", 5 + 4 * index)]
            assert train(prepared, output, *settings, program=program, processes=processes).returncode != 0
            shards = sorted(path.name for path in (output / "checkpoint").glob("*.safetensors"))
            assert len(shards) == processes and shards[-1].endswith(f"-of-{processes:05d}.safetensors")
            continue
        result = train(prepared, output, *settings, processes=processes)
        check(result)
        assert f"going on from step {4 * index}" in result.stderr
    assert losses(output) == pytest.approx(losses(one), rel=2e-5)


@pytest.mark.parametrize("name", ["muon", "adafactor"])
def test_optimizers_of_shards_have_the_losses_of_whole_matrices(tmp_path, prepared, name):
    settings = ["training.strategy=fsdp", f"optimizer.name={name}", "training.steps=6", "training.save_every=2",
                "recompute=true"]
    check(train(prepared, tmp_path / "one", *settings, processes=1))
    killed = tmp_path / "two"
    train(prepared, killed, *settings, program=[write_killed(tmp_path, "train_lm", 4)])
    result = train(prepared, killed, *settings)
    check(result)
    assert "going on from step 2" in result.stderr or "going on from step 4" in result.stderr
    assert losses(killed) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_a_full_disk_of_one_process_is_one_line(tmp_path, prepared):
    """The second process cannot write its shard of the second checkpoint: all end, and the first one is whole."""
    script = tmp_path / "full.py"
    script.write_text("""
import os
from audiopalm.bin import train_lm
from audiopalm.core.command import run
from audiopalm.training import snapshot
write, calls = snapshot.write_tensors, []
def full(*arguments):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 2:
        raise OSError(28, "No space left on device")
    write(*arguments)
snapshot.write_tensors = full
if __name__ == "__main__":
    run(train_lm.main)
""")
    settings = ["training.strategy=fsdp", "training.save_every=2"]
    result = train(prepared, tmp_path / "lm", *settings, program=[script])
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if "error:" in line and "full: " in line]
    assert len(said) == 1 and "checkpoint cannot be written: [Errno 28] No space left on device" in said[0]
    resumed = train(prepared, tmp_path / "lm", *settings)
    check(resumed)
    assert "going on from step 2" in resumed.stderr


def test_a_process_that_dies_ends_all(tmp_path, prepared):
    script = tmp_path / "dying.py"
    script.write_text("""
import os, signal
from audiopalm.bin import train_lm
from audiopalm.core.command import run
from audiopalm.training import loop
train_step = loop._Loop._step
def dying(self, step, batches):
    if step == 5 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    train_step(self, step, batches)
loop._Loop._step = dying
if __name__ == "__main__":
    run(train_lm.main)
""")
    result = train(prepared, tmp_path / "lm", "training.strategy=fsdp", "training.save_every=2", program=[script])
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if line.startswith("dying: ")]
    assert len(said) <= 1 and all("another process" in line or "interrupted" in line for line in said), said
    assert json.loads((tmp_path / "lm/checkpoint/snapshot.json").read_text())["state"]["step"] == 4


def test_a_missing_shard_costs_only_its_steps(tmp_path, prepared):
    settings = ["training.strategy=fsdp", "training.save_every=2"]
    train(prepared, tmp_path / "lm", *settings, program=[write_killed(tmp_path, "train_lm", 5)])
    (tmp_path / "lm/checkpoint/shard-00002-of-00002.safetensors").unlink()
    result = train(prepared, tmp_path / "lm", *settings)
    check(result)
    assert result.stderr.count("DAMAGED CHECKPOINT") == 1 and "going on from step 2" in result.stderr


def test_shards_of_a_model_start_like_the_whole(tmp_path, prepared):
    """Drawn weights, and new rows for audio ids by option; the first checkpoint, at a learning rate of 0, has them."""
    still = ["optimizer.learning_rate=1e-30", "optimizer.final_rate=0", "optimizer.weight_decay=0",
             "training.steps=1", "training.validate_every=1"]
    for name, settings in (("rows", ["audio_rows=normal"]), ("drawn", [])):
        command = list(map(str, prepared.train_lm if name == "rows" else prepared.train_text))
        for processes in (1, 2):
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
            check(run_python(*(launcher if processes > 1 else []), "-m", f"audiopalm.bin.{command[0]}", *command[1:],
                             "--output", tmp_path / f"{name}{processes}", *still, "training.micro_batches=2",
                             "training.strategy=fsdp", *settings, OMP_NUM_THREADS="1"))
        ours, theirs = (load_file(tmp_path / f"{name}{number}" / "model.safetensors") for number in (1, 2))
        assert all((ours[key] == theirs[key]).all() for key in ours) and ours.keys() == theirs.keys()
        assert ours["embedding.weight"][-5:].any(axis=1).all()
