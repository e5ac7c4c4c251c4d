"""Work in parts, by Kaldi's launchers: `run.pl` on this machine, `slurm.pl` or `queue.pl` on a cluster.

A command that has much to do writes its items to `<folder>/JOB.todo` (JSON, one item a line), starts

    run.pl JOB=1:N <folder>/JOB.log python -m audiopalm.bin.WORKER ... --todo <folder>/JOB.todo --done <folder>/JOB.done

and reads the results from `<folder>/JOB.done` as they come in. A worker leaves its work where the next run finds it: a
command that is started again makes items only of what is missing.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.lock import NAME as LOCK
from audiopalm.core.lock import locked
from audiopalm.core.processes import AGAIN, end_with_parent
from audiopalm.core.progress import progress

POLL = 0.1  # seconds between two looks at the results
UTILS = Path(__file__).resolve().parents[2] / "utils"


@dataclass(frozen=True)
class Launcher:
    """`command` as in Kaldi's cmd.sh, such as `slurm.pl --mem 4G`; `number` of jobs; `folder` for lists and logs."""

    command: str
    number: int
    folder: Path


@dataclass(frozen=True)
class Result:
    """What a worker reports of an item; subclasses add fields. A non-empty `error` ends the stage."""

    error: str = ""


Item, R = TypeVar("Item"), TypeVar("R", bound=Result)


def add_launcher_options(parser: argparse.ArgumentParser, folder: str) -> None:
    parser.add_argument("--nj", type=int, default=2, help="jobs")
    parser.add_argument("--cmd", default="run.pl", help="what runs them: run.pl, slurm.pl or queue.pl, with options")
    parser.add_argument("--job_dir", type=Path, help=f"their lists and logs [{folder}]")


def dealt(items: list[Item], jobs: int) -> list[Item]:
    """`items` in an order in which each of `jobs` jobs gets equally many from every part of the list."""
    return [item for job in range(jobs) for item in items[job::jobs]]


def run_jobs(launcher: Launcher, worker: str, arguments: list[str], items: Sequence[Any], result: type[R],
             what: str) -> Iterator[R]:
    """Yield the results of all items (dataclasses), in any order; audiopalm.bin.`worker` makes them.

    Raises AudioPaLMError for an item's error, when a job fails (its log says why), and when another process runs jobs
    in the same folder.
    """
    if not items:
        return
    number = max(min(launcher.number, len(items)), 1)
    with locked(launcher.folder, worker):
        command = _prepare(launcher, worker, arguments, items, number)
        # In a session of its own, so that Ctrl-C comes to this process alone, which then asks the launcher, once, to
        # end its jobs. When this process is killed, the kernel asks.
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=lambda: end_with_parent(signal.SIGTERM))
        try:
            for values in progress(_results(process, launcher.folder, number), len(items), what):
                found = result(**values)
                if found.error:
                    raise AudioPaLMError(found.error)
                yield found
            if process.wait() != 0:
                raise AudioPaLMError(f"jobs of {worker} failed, their logs are {launcher.folder}/*.log")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def find_launcher(command: str) -> list[str]:
    """The words of `slurm.pl --mem 4G` with the whole path of the program, on PATH or in utils/."""
    program, *options = shlex.split(command) or [""]
    found = shutil.which(program) or shutil.which(program, path=str(UTILS))
    if found is None:
        raise AudioPaLMError(f"--cmd: there is no program {program!r}; run.pl runs jobs on this machine")
    return [found, *options]


def _prepare(launcher: Launcher, worker: str, arguments: list[str], items: Sequence[Any], number: int) -> list[str]:
    """Write the lists of items of `number` jobs; return the launcher's command line."""
    found, *options = find_launcher(launcher.command)
    for path in launcher.folder.iterdir():  # of an earlier run
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    for job in range(number):
        part = items[job * len(items) // number:(job + 1) * len(items) // number]
        (launcher.folder / f"{job + 1}.todo").write_text("".join(json.dumps(asdict(item)) + "\n" for item in part))
    # The launcher replaces this word by the number of the job, wherever it stands: no path may have it already.
    name = "JOB"
    while any(name in word for word in (found, *options, str(launcher.folder), sys.executable, *arguments)):
        name += "_"
    stem = str(launcher.folder / name)
    return [found, *options, f"{name}=1:{number}", f"{stem}.log", sys.executable, "-m", f"audiopalm.bin.{worker}",
            *arguments, "--todo", f"{stem}.todo", "--done", f"{stem}.done"]


def _results(process: subprocess.Popen, folder: Path, number: int) -> Iterator[dict]:
    """The lines that the workers write, until the launcher has ended."""
    offsets = [0] * number  # of each file: bytes of whole lines that are read
    while True:
        ended = process.poll() is not None
        for job in range(number):
            path = folder / f"{job + 1}.done"
            if path.exists():
                with open(path, "rb") as stream:
                    stream.seek(offsets[job])
                    content = stream.read()
                content = content[:content.rfind(b"\n") + 1]
                offsets[job] += len(content)
                yield from map(json.loads, content.splitlines())
        if ended:
            return
        time.sleep(POLL)


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--todo", type=Path, required=True, help="items, one JSON value a line")
    parser.add_argument("--done", type=Path, required=True, help="gets a result for each item")


def work(todo: Path, done: Path, item_type: type[Item], function: Callable[[Item], Result]) -> None:
    """Call `function` on every item of `todo` and append its result to `done` at once.

    A job that a scheduler has ended and started again goes on behind its last result. SIGTERM ends it so that it is
    started again, see utils/jobs.pm.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(AGAIN))
    items = todo.read_text(encoding="utf-8").splitlines()
    written = done.read_bytes() if done.exists() else b""
    whole = written.rfind(b"\n") + 1
    with open(done, "a", encoding="utf-8") as stream:
        stream.truncate(whole)
        items = items[written.count(b"\n"):]
        for line in progress(items, len(items), "items"):
            print(json.dumps(asdict(function(item_type(**json.loads(line))))), file=stream, flush=True)
    logging.info("done")
