"""Work in parts, by Kaldi's launchers: `run.pl` on this machine, `slurm.pl` or `queue.pl` on a cluster.

A command that has much to do writes its items to `<folder>/JOB.todo` (JSON, one a line), starts

    run.pl JOB=1:N <folder>/JOB.log python -m audiopalm.bin.WORKER ... --todo <folder>/JOB.todo --done <folder>/JOB.done

and takes the results from `<folder>/JOB.done` while they come in. A worker must leave its work where it is found again:
a command that is started anew makes items only of what is missing.
"""

import argparse
import json
import logging
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import end_with_parent
from audiopalm.core.progress import progress

POLL = 0.1  # seconds between two looks at what is done
UTILS = Path(__file__).resolve().parents[2] / "utils"


@dataclass(frozen=True)
class Launcher:
    """`command` as in Kaldi's cmd.sh, such as `slurm.pl --mem 4G`; `number` jobs; `folder` keeps lists and logs."""

    command: str
    number: int
    folder: Path


def add_launcher_options(parser: argparse.ArgumentParser, folder: str) -> None:
    parser.add_argument("--nj", type=int, default=2, help="jobs")
    parser.add_argument("--cmd", default="run.pl", help="what runs them: run.pl, slurm.pl or queue.pl, with options")
    parser.add_argument("--job_dir", type=Path, help=f"their lists and logs [{folder}]")


def run_jobs(launcher: Launcher, worker: str, arguments: list[str], items: list, what: str) -> Iterator[Any]:
    """The results of all items, in any order. Raises AudioPaLMError when a job fails; its log says why."""
    if not items:
        return
    number = max(min(launcher.number, len(items)), 1)
    program, *options = shlex.split(launcher.command) or [""]
    found = shutil.which(program) or shutil.which(program, path=str(UTILS))
    if found is None:
        raise AudioPaLMError(f"--cmd: there is no program {program!r}; run.pl runs jobs on this machine")
    shutil.rmtree(launcher.folder, ignore_errors=True)
    launcher.folder.mkdir(parents=True)
    for job in range(number):
        part = items[job * len(items) // number:(job + 1) * len(items) // number]
        (launcher.folder / f"{job + 1}.todo").write_text("".join(json.dumps(item) + "\n" for item in part))
    stem = str(launcher.folder / "JOB")
    command = [found, *options, f"JOB=1:{number}", f"{stem}.log", sys.executable, "-m", f"audiopalm.bin.{worker}",
               *arguments, "--todo", f"{stem}.todo", "--done", f"{stem}.done"]
    # In a session of its own: Ctrl-C comes to this process, which then asks the launcher, once, to end its jobs. When
    # this process is killed, the kernel asks.
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=lambda: end_with_parent(signal.SIGTERM))
    try:
        yield from progress(_results(process, launcher.folder, number), len(items), what)
        if process.wait() != 0:
            raise AudioPaLMError(f"jobs of {worker} failed, their logs are {launcher.folder}/*.log")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _results(process: subprocess.Popen, folder: Path, number: int) -> Iterator[Any]:
    """What the workers have written, until the launcher has ended."""
    places, rest = [0] * number, [b""] * number
    while True:
        ended = process.poll() is not None
        for job in range(number):
            path = folder / f"{job + 1}.done"
            if path.exists():
                with open(path, "rb") as stream:
                    stream.seek(places[job])
                    fresh = stream.read()
                places[job] += len(fresh)
                *lines, rest[job] = (rest[job] + fresh).split(b"\n")
                yield from map(json.loads, lines)
        if ended:
            return
        time.sleep(POLL)


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--todo", type=Path, required=True, help="items, one JSON value a line")
    parser.add_argument("--done", type=Path, required=True, help="gets a result for each item")


def work(todo: Path, done: Path, function: Callable[[Any], Any]) -> None:
    """Call `function` on every item of `todo` and append what it returns to `done` at once."""
    items = todo.read_text(encoding="utf-8").splitlines()
    with open(done, "w", encoding="utf-8") as stream:
        for item in progress(items, len(items), "items"):
            print(json.dumps(function(json.loads(item))), file=stream, flush=True)
    logging.info("done")
