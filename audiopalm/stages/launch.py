"""Run a training as a job of `cuda_cmd`, on one or several machines, and show its log while it runs.

    run.pl LOG python -m audiopalm.bin.train_lm ...                                           one process
    run.pl --gpu 8 LOG python -m audiopalm.bin.start_ranks --ngpu 8 train_lm ...              eight on one machine
    slurm.pl --gpu 8 --num_nodes 4 LOG srun.sh python -m audiopalm.bin.start_ranks ...        eight on each of four
"""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from audiopalm.core.device import GPU_REQUESTED
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.lock import locked
from audiopalm.core.processes import end_with_parent
from audiopalm.core.yaml_files import read_yaml
from audiopalm.stages.jobs import POLL, UTILS, find_launcher

STATUS = re.compile(r"^\S+: job failed with status (\d+), log is in ", re.M)
# Lines of a log that the training has not written. Slurm writes a line for every node whose processes were ended.
ABOUT_THE_JOB = re.compile(rb"# Accounting: |# Ended \(code |srun: launch/slurm: |srun: Job step aborted|"
                           rb"srun: error: \S+ tasks? \S+ (?:Exited|Terminated|Killed)|"
                           rb"slurmstepd-\S+ error: \*\*\* STEP ")
# {command: kinds that one process trains}; started in more, these trainings refuse
SINGLE_PROCESS = {"train_codec": ("soundstream",), "train_units": ("huggingface", "log-mel")}


@dataclass(frozen=True)
class TrainingJob:
    """The command `python -m audiopalm.bin.<name> <arguments>` as a job.

    command: the launcher of jobs, as in Kaldi's cmd.sh. ngpu: the number of GPUs per machine, each with a process; 0
    for one process on the CPU. num_nodes: the number of machines. folder: gets the log.
    """

    command: str
    ngpu: int
    num_nodes: int
    folder: Path
    name: str
    arguments: Sequence[str]

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def words(self) -> list[str]:
        """The command line of the launcher.

        Raises AudioPaLMError for numbers out of range, and if the launcher cannot start processes on several machines.
        """
        if self.ngpu < 0 or self.num_nodes < 1:
            raise AudioPaLMError(f"--ngpu is a number from 0 and --num_nodes one from 1 on, found {self.ngpu} and "
                                 f"{self.num_nodes}")
        launcher, *options = find_launcher(self.command)
        training = [sys.executable, "-m", f"audiopalm.bin.{self.name}", *self.arguments]
        if self.ngpu > 1 or self.num_nodes > 1:
            training = [sys.executable, "-m", "audiopalm.bin.start_ranks", "--ngpu", str(self.ngpu),
                        "--num_nodes", str(self.num_nodes), self.name, *self.arguments]
        if self.ngpu:
            options += ["--gpu", str(self.ngpu)]
        if self.num_nodes > 1:
            if Path(launcher).name != "slurm.pl":
                raise AudioPaLMError(f"--num_nodes {self.num_nodes} needs cuda_cmd=slurm.pl in cmd.sh; "
                                     f"{Path(launcher).name} starts trainings on one machine")
            options += ["--num-nodes", str(self.num_nodes)]
            training = [str(UTILS / "srun.sh"), *training]
        return [launcher, *options, str(self.log), *training]


def fit_to_training(job: TrainingJob) -> TrainingJob:
    """The job, with one process where no more can train this kind."""
    if (job.ngpu > 1 or job.num_nodes > 1) and _kind(job.arguments) in SINGLE_PROCESS.get(job.name, ()):
        job = replace(job, ngpu=min(job.ngpu, 1), num_nodes=1)
        logging.info("%s trains %s in one process: it gets %s", job.name, _kind(job.arguments),
                     "one GPU" if job.ngpu else "one machine")
    return job


def _kind(arguments: Sequence[str]) -> str:
    """`kind` of the configuration that a training is given; empty where it states none."""
    stated = [word.removeprefix("kind=") for word in arguments if word.startswith("kind=")]
    files = [Path(file) for option, file in pairwise(arguments) if option == "--config"]
    if not stated and files and files[-1].is_file():
        settings = read_yaml(files[-1])
        stated = [str(settings.get("kind", ""))] if isinstance(settings, dict) else []
    return stated[-1] if stated else ""


def launch(job: TrainingJob) -> int:
    """Run a training and show its log while it runs; return its exit code, or 1 if its job has left none.

    Raises AudioPaLMError as `TrainingJob.words` does, and if another process trains in the same folder.
    """
    job = fit_to_training(job)
    words = job.words()
    with locked(job.folder, job.name):
        shutil.rmtree(job.folder / "q", ignore_errors=True)
        job.log.unlink(missing_ok=True)
        # Lightning warns every process that Slurm starts without srun that srun should start it.
        changes = {"PYTHONWARNINGS": "ignore:The `srun` command is available"}
        if job.ngpu:
            changes[GPU_REQUESTED] = "1"
        else:
            changes["CUDA_VISIBLE_DEVICES"] = ""
        report = job.folder / "launcher.txt"  # the launcher's own messages, which repeat the end of the log
        if Path(words[0]).name != "run.pl":
            logging.info("submitted by %s; the log is %s", Path(words[0]).name, job.log)
        with open(report, "w") as stream:
            process = subprocess.Popen(words, stderr=stream, start_new_session=True, env={**os.environ, **changes},
                                       preexec_fn=lambda: end_with_parent(signal.SIGTERM))
            shown = _Shown(job.log)
            try:
                _wait(process, shown)
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                _wait(process, shown)
                raise
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        return _exit_code(process.returncode, report.read_text(encoding="utf-8"), job.log)


def _wait(process: subprocess.Popen, shown: "_Shown") -> None:
    """Show the log until the launcher has ended."""
    ended = False
    while not ended:
        ended = process.poll() is not None
        shown.update()
        if not ended:
            time.sleep(POLL)


class _Shown:
    """Copies the growing log of a job to standard output, without the lines about the job itself."""

    def __init__(self, log: Path) -> None:
        self.log, self._offset, self._begun = log, 0, False

    def update(self) -> None:
        """Copy the new whole lines of the log."""
        try:
            with open(self.log, "rb") as stream:
                stream.seek(self._offset)
                content = stream.read()
        except FileNotFoundError:
            return
        content = content[:content.rfind(b"\n") + 1]
        self._offset += len(content)
        lines = [line for line in content.splitlines(keepends=True) if self._is_output(line)]
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.flush()

    def _is_output(self, line: bytes) -> bool:
        if not self._begun:
            self._begun = line.startswith(b"# Started at ")
            return False
        return not ABOUT_THE_JOB.match(line)


def _exit_code(code: int, report: str, log: Path) -> int:
    """The exit code of the training. Without one, the launcher's messages are shown and its own code is returned."""
    if status := STATUS.search(report):
        return int(status[1])
    tail = report.find(f"==> {log} <==\n")  # here the launcher repeats the end of the log
    after = report.find("\n==> ", tail + 1) + 1
    sys.stderr.write(report if tail < 0 else report[:tail] + (report[after:] if after else ""))
    return abs(code)
