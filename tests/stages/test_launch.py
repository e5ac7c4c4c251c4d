"""Trainings as jobs: here, and as two processes on two nodes of a real Slurm; killed, preempted, and going on."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pausing import Pause
from prestarted import prestarted
from schedulers import PATH, ask, processes_with, scheduler
from trainings import Trainings
from waiting import LIMIT, wait_until

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import AGAIN
from audiopalm.stages.launch import TrainingJob, fit_to_training
from audiopalm.stages.ranks import FIRST_PORT, PORTS

LONG = ["training.steps=60", "training.save_every=20", "training.validate_every=50", "training.log_every=1"]
PAUSE = 30  # the step at whose beginning a training waits for a signal; it has a checkpoint of step 20


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("trainings"))


class Launched:
    """`bin.launch` of a training of SoundStorm into a folder, with further words of the environment."""

    def __init__(self, trainings, *options: str, micro_batches: int = 1, **variables: str):
        self.trainings, self.options = trainings, options
        self.overrides = [*LONG, f"training.micro_batches={micro_batches}"]
        self.environment = prestarted(OMP_NUM_THREADS="1", **variables)

    def start(self, output: Path, *overrides: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
        python = self.environment["AUDIOPALM_PYTHON"]
        words = [python, "-m", "audiopalm.bin.launch", *self.options, "--job_dir", str(output.parent / "log"),
                 *self.trainings.arguments("soundstorm", output, *self.overrides, *overrides)]
        return subprocess.Popen(words, env=environment or self.environment, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def start_and_pause(self, output: Path) -> subprocess.Popen:
        """Returns when the training waits at the beginning of step PAUSE."""
        pause = Pause(output.parent / "pause", PAUSE)
        process = self.start(output, environment=pause.environment(self.environment))
        wait_until(pause.path.exists, process)
        assert (output / "checkpoint").exists()
        return process

    def run(self, output: Path, *overrides: str, code: int = 0) -> tuple[str, str]:
        """Its standard output and error."""
        return ended(self.start(output, *overrides), code)


def ended(process: subprocess.Popen, code: int) -> tuple[str, str]:
    shown = process.communicate(timeout=LIMIT)
    assert process.returncode == code, shown
    return shown


def processes_of(output: Path) -> list[int]:
    """Process ids of the training into a folder, by rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            rank = re.search(rb"\0RANK=(\d+)", b"\0" + (path / "environ").read_bytes())
        except OSError:
            continue
        if "python" in words[0] and str(output) in words and "audiopalm.bin.train_acoustic" in words:
            found[int(rank[1]) if rank else 0] = int(path.name)
    return [found[rank] for rank in sorted(found)]


def model(output: Path) -> bytes:
    return (output / "model.safetensors").read_bytes()


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def here(trainings, tmp_path_factory):
    """(launcher on this machine, output of a training that nothing disturbed, what it showed)."""
    launched, output = Launched(trainings), tmp_path_factory.mktemp("here") / "acoustic"
    return launched, output, launched.run(output)


def test_the_output_of_a_training_is_shown_and_logged(here):
    _, output, (shown, errors) = here
    assert "60 steps of 1 micro-batches in 1 processes" in shown and "step 60/60" in shown and errors == ""
    assert not re.search("^# ", shown, re.M)
    log = (output.parent / "log/train_acoustic.log").read_text()
    assert shown in log and log.startswith("# ") and "# Ended (code 0)" in log


def test_sigterm_saves_and_the_same_command_goes_on(here, tmp_path):
    launched, whole, _ = here
    process = launched.start_and_pause(tmp_path / "acoustic")
    os.kill(processes_of(tmp_path / "acoustic")[0], signal.SIGTERM)
    shown, errors = ended(process, AGAIN)
    step = PAUSE + 1  # the step that was begun is finished
    assert f"ended by SIGTERM, and the checkpoint of step {step} is saved" in shown
    assert step == len(losses(tmp_path / "acoustic")) and errors == ""
    shown, _ = launched.run(tmp_path / "acoustic")
    assert f"going on from step {step} " in shown and model(tmp_path / "acoustic") == model(whole)


def test_what_fails_is_shown_once_with_its_exit_code(here, tmp_path):
    launched, _, _ = here
    shown, errors = launched.run(tmp_path / "acoustic", "training.stepss=1", code=1)
    assert shown.count("error:") == 1 and "stepss" in shown and errors == ""


def test_ctrl_c_ends_the_job(here, tmp_path):
    launched, _, _ = here
    process = launched.start_and_pause(tmp_path / "acoustic")
    process.send_signal(signal.SIGINT)
    shown, _ = ended(process, 130)
    assert "train_acoustic: interrupted; run the same command again to go on\n" in shown
    wait_until(lambda: not processes_with(str(tmp_path / "acoustic")))


@pytest.mark.parametrize(("options", "message"), [
    (("run.pl", 0, 2), "--num_nodes 2 needs cuda_cmd=slurm.pl in cmd.sh; run.pl starts trainings on one machine"),
    (("queue.pl", 8, 2), "--num_nodes 2 needs cuda_cmd=slurm.pl"), (("no.pl", 1, 1), "there is no program 'no.pl'"),
    (("run.pl", 0, 0), "--ngpu is a number from 0 and --num_nodes one from 1 on, found 0 and 0")])
def test_what_cannot_be_launched_is_one_line(tmp_path, options, message):
    with pytest.raises(AudioPaLMError, match=message):
        TrainingJob(*options, tmp_path, "train_lm", []).words()


@pytest.mark.parametrize(("name", "kind", "one"), [
    ("train_codec", "soundstream", True), ("train_codec", "spectral", False), ("train_units", "log-mel", True),
    ("train_units", "usm-v2", False), ("train_acoustic", "soundstorm", False)])
def test_a_kind_that_one_process_trains_gets_one(tmp_path, name, kind, one):
    (tmp_path / "conf.yaml").write_text(f"kind: {kind}\n")
    job = TrainingJob("slurm.pl", 8, 4, tmp_path, name, ["--config", str(tmp_path / "conf.yaml"), "training.steps=3"])
    assert (fit_to_training(job) != job) == one
    assert (fit_to_training(job).ngpu, fit_to_training(job).num_nodes) == ((1, 1) if one else (8, 4))
    job = replace(job, ngpu=0, arguments=[*job.arguments, "kind=soundstream"])
    assert (fit_to_training(job).ngpu, fit_to_training(job).num_nodes) == (0, 1 if name == "train_codec" else 4)


def test_missing_gpus_are_one_line(here, tmp_path):
    """Two processes on one machine, which has no two GPUs."""
    launched = Launched(here[0].trainings, "--ngpu", "2", CUDA_VISIBLE_DEVICES="")
    shown, errors = launched.run(tmp_path / "acoustic", code=1)
    assert re.fullmatch(r"start_ranks: error: --ngpu 2, but \S+ shows 0 GPUs\n", shown) and errors == ""


def test_a_job_with_a_gpu_does_not_train_on_the_cpu(here, tmp_path):
    launched = Launched(here[0].trainings, "--ngpu", "1", CUDA_VISIBLE_DEVICES="")
    shown, errors = launched.run(tmp_path / "acoustic", code=1)
    message = r"train_acoustic: error: this job has asked for a GPU, but on \S+ .* --ngpu 0 runs on the CPU\n"
    assert re.fullmatch(message, shown) and errors == ""
    assert not (tmp_path / "acoustic/model.safetensors").exists()


def listen(port: int) -> socket.socket | None:
    """A server on this port; None where another program uses it."""
    try:
        return socket.create_server(("", port))
    except OSError:
        return None


def test_a_port_that_another_program_uses_is_one_line(trainings, tmp_path):
    """Two machines of a job, the first of which is this one."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\n[ $2 = hostnames ] && echo n1 || echo NodeAddr=127.0.0.1 Port=1\n")
    scontrol.chmod(0o755)
    job, server = next(filter(all, ((job, listen(FIRST_PORT + job)) for job in range(PORTS - 50, PORTS))))
    with server:
        result = subprocess.run(
            [prestarted()["AUDIOPALM_PYTHON"], "-m", "audiopalm.bin.start_ranks", "--num_nodes", "2", "train_acoustic",
             *trainings.arguments("soundstorm", tmp_path / "acoustic")], text=True, capture_output=True, timeout=LIMIT,
            env=prestarted(SLURM_JOB_ID=str(job), SLURM_NODEID="0", SLURM_STEP_NODELIST="n[1-2]",
                           PATH=f"{tmp_path}:{os.environ['PATH']}"))
    assert result.returncode == 1
    assert re.fullmatch(f"start_ranks: error: the machines of job {job} cannot connect: .*port: {FIRST_PORT + job}.*; "
                        "run the same command again, which takes another port\n", result.stderr)


@pytest.fixture(scope="module")
def slurm(trainings):
    """Two processes, on two nodes of Slurm; the environment of its clients is `environment`."""
    if not all(shutil.which(name, path=PATH) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        pytest.skip("needs a Slurm of its own: apt-get install slurm-wlm munge")
    with scheduler("start_slurm.sh", "2") as folder:
        yield Launched(trainings, "--cmd", "slurm.pl", "--num_nodes", "2", micro_batches=2,
                       SLURM_CONF=f"{folder}/slurm.conf")


@pytest.fixture(scope="module")
def whole(slurm, tmp_path_factory):
    output = tmp_path_factory.mktemp("slurm") / "acoustic"
    shown, errors = slurm.run(output)
    assert "submitted by slurm.pl" in errors and "60 steps of 2 micro-batches in 2 processes" in shown
    return output


def test_a_killed_process_ends_all_in_one_line_and_a_second_call_goes_on(slurm, whole, tmp_path):
    output = tmp_path / "acoustic"
    process = slurm.start_and_pause(output)
    os.kill(processes_of(output)[1], signal.SIGKILL)
    shown, errors = ended(process, 1)
    assert re.search(r"^start_ranks: error: process 1 of the training, on \S+, was ended by SIGKILL; the others were "
                     r"ended; run the same command again to go on$", shown, re.M)
    assert shown.count("rror") == 1 and "Traceback" not in shown and errors.count("\n") == 1, shown + errors
    wait_until(lambda: not processes_with(str(output)))
    assert (output / "checkpoint").exists() and not (output / "model.safetensors").exists()
    shown, _ = slurm.run(output)
    assert "going on from step 20 " in shown and losses(output) == losses(whole) and model(output) == model(whole)


def test_a_preempted_training_is_started_again(slurm, whole, tmp_path):
    """In one call: a more urgent job takes its nodes; it saves, is started again and ends with the model of an
    undisturbed one."""
    output = tmp_path / "acoustic"
    process = slurm.start_and_pause(output)
    jobs = ["squeue", "--noheader", "--name", "train_acoustic", "--format"]
    job = ask(slurm.environment, *jobs, "%i").strip()
    subprocess.run(["sbatch", "--partition", "urgent", "--exclusive", "--nodes", "2", "--wrap", "true"], check=True,
                   env=slurm.environment, cwd=tmp_path)
    wait_until(lambda: ask(slurm.environment, *jobs, "%T %r") == "PENDING BeginTime\n", process)
    ask(slurm.environment, "scontrol", "update", f"JobId={job}", "StartTime=now+1")
    shown, errors = ended(process, 0)
    assert f"ended by SIGTERM, and the checkpoint of step {PAUSE + 1} is saved" in shown
    assert f"going on from step {PAUSE + 1} " in shown
    assert losses(output) == losses(whole) and model(output) == model(whole) and errors.count("\n") == 1
