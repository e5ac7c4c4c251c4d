"""Parallel jobs, started by Kaldi's launchers: `run.pl` on this machine, `slurm.pl` or `queue.pl` on a cluster.

A stage divides its work into items. It writes the items to `<folder>/JOB.todo` (JSON, one item a line), starts

    run.pl JOB=1:N <folder>/JOB.log python -m audiopalm.bin.WORKER ... --todo <folder>/JOB.todo --done <folder>/JOB.done

and reads the results from `<folder>/JOB.done` as the workers append them. The products of finished items stay on disk:
a stage that is started again makes items only for products that are missing.
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
    """A worker's report on one item; subclasses add fields. A non-empty `error` ends the stage."""

    error: str = ""


Item = TypeVar("Item")  # a dataclass
R = TypeVar("R", bound=Result)


class LazyItems(Sequence[Any]):
    """Items that `make` makes of `keys`, each when it is read, so that they are not in memory together."""

    def __init__(self, keys: Sequence[Any], make: Callable[[Any], Any]):
        self.keys, self.make = keys, make

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: Any) -> Any:
        return LazyItems(self.keys[place], self.make) if isinstance(place, slice) else self.make(self.keys[place])


def add_launcher_options(parser: argparse.ArgumentParser, folder: str) -> None:
    """Add the options of a Launcher. `folder` is the default of --job_dir, for the help."""
    parser.add_argument("--nj", type=int, default=2, help="number of jobs")
    parser.add_argument("--cmd", default="run.pl", help="launcher of the jobs: run.pl, slurm.pl or queue.pl, "
                        "with its options")
    parser.add_argument("--job_dir", type=Path, help=f"folder for the lists and logs of the jobs [{folder}]")


def launcher_of(arguments: argparse.Namespace, folder: Path) -> Launcher:
    """The Launcher of `add_launcher_options`; without --job_dir its folder is `folder`/jobs.

    Raises AudioPaLMError for a number of jobs below 1.
    """
    if arguments.nj < 1:
        raise AudioPaLMError(f"--nj is the number of jobs, from 1 on, found {arguments.nj}")
    return Launcher(arguments.cmd, arguments.nj, arguments.job_dir or folder / "jobs")


def dealt(items: list[Item], jobs: int) -> list[Item]:
    """`items` reordered so that each of `jobs` jobs gets an equal share of every part of the list."""
    return [item for job in range(jobs) for item in items[job::jobs]]


def run_jobs(launcher: Launcher, worker: str, arguments: list[str], items: Sequence[Any], result: type[R],
             what: str) -> Iterator[R]:
    """Yield the results of all items (dataclasses), in any order. audiopalm.bin.`worker` processes the items.

    Raises AudioPaLMError if an item has an error, if a job fails (its log says why), and if another process runs jobs
    in the same folder.
    """
    if not items:
        return
    number = max(min(launcher.number, len(items)), 1)
    with locked(launcher.folder, worker):
        command = _prepare(launcher, worker, arguments, items, number)
        # The launcher gets a session of its own. Ctrl-C then reaches only this process, which asks the launcher once to
        # end its jobs. If this process is killed, the kernel asks the launcher.
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=lambda: end_with_parent(signal.SIGTERM))
        try:
            for values in progress(_results(process, launcher.folder, number), len(items), what):
                report = result(**values)
                if report.error:
                    raise AudioPaLMError(report.error)
                yield report
            if process.wait() != 0:
                raise AudioPaLMError(f"jobs of {worker} failed, their logs are {launcher.folder}/*.log")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def find_launcher(command: str) -> list[str]:
    """The words of a command such as `slurm.pl --mem 4G`, with the full path of the program on PATH or in utils/.

    Raises AudioPaLMError if there is no such program.
    """
    program, *options = shlex.split(command) or [""]
    path = shutil.which(program) or shutil.which(program, path=str(UTILS))
    if path is None:
        raise AudioPaLMError(f"--cmd: there is no program {program!r}; run.pl runs jobs on this machine")
    return [path, *options]


def _prepare(launcher: Launcher, worker: str, arguments: list[str], items: Sequence[Any], number: int) -> list[str]:
    """Write the lists of items of `number` jobs; return the launcher's command line."""
    program, *options = find_launcher(launcher.command)
    for path in launcher.folder.iterdir():  # files of an earlier run
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    for job in range(number):
        part = items[job * len(items) // number:(job + 1) * len(items) // number]
        with open(launcher.folder / f"{job + 1}.todo", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(item)) + "\n" for item in part)
    # The launcher replaces this word by the number of the job wherever it occurs, so no other word may contain it.
    name = "JOB"
    while any(name in word for word in (program, *options, str(launcher.folder), sys.executable, *arguments)):
        name += "_"
    stem = str(launcher.folder / name)
    return [program, *options, f"{name}=1:{number}", f"{stem}.log", sys.executable, "-m", f"audiopalm.bin.{worker}",
            *arguments, "--todo", f"{stem}.todo", "--done", f"{stem}.done"]


def _results(process: subprocess.Popen, folder: Path, number: int) -> Iterator[dict]:
    """The results that the workers write, until the launcher has ended."""
    offsets = [0] * number  # per file: the number of bytes that were read, in whole lines
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
    """Add the options of a worker: its list of items and its list of results."""
    parser.add_argument("--todo", type=Path, required=True, help="file with the items, one JSON value a line")
    parser.add_argument("--done", type=Path, required=True, help="file that gets a result for each item")


def work(todo: Path, done: Path, item_type: type[Item], function: Callable[[Item], Result]) -> None:
    """Call `function` on each item of `todo` and append its result to `done` immediately.

    A job that a scheduler has ended and restarted resumes after its last result. After SIGTERM the process exits with
    the code AGAIN, which makes the launcher restart it (utils/jobs.pm).
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
