"""Helpers for tests of run.pl, slurm.pl and queue.pl: calls, logs, a scheduler that leaves no process behind."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import LIMIT, wait_until

ROOT = Path(__file__).resolve().parents[1]
DATE = r"\w{3} .*\d\d:\d\d:\d\d.*"
WAIT_FOR_OTHERS = ("touch here.JOB; "
                   "for i in $(seq 6000); do [ $(ls here.* | wc -l) = {} ] && exit 0; sleep 0.05; done; exit 9")
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])


def processes_with(text: str) -> list[str]:
    """Commands of processes that have the text in their command line or environment."""
    commands = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in command or text.encode() in (folder / "environ").read_bytes():
                commands.append(command)
        except OSError:
            continue
    return commands


@contextmanager
def scheduler(script: str, *options: str) -> Iterator[Path]:
    """The folder of a scheduler that tests/utils/<script> starts, with these options, and stops."""
    folder = tempfile.mkdtemp(prefix=script.removesuffix(".sh"))
    program = ROOT / "tests/utils" / script
    started = subprocess.run([program, "start", folder, *options], text=True, stderr=subprocess.PIPE, timeout=LIMIT)
    try:
        assert started.returncode == 0, started.stderr
        yield Path(folder)
    finally:
        subprocess.run([program, "stop", folder], check=True, timeout=LIMIT)
        wait_until(lambda: not processes_with(folder))
        shutil.rmtree(folder)


def run_to_end(program: Path, folder: Path, environment: dict, *arguments, code: int = 0) -> str:
    result = subprocess.run([program, *map(str, arguments)], cwd=folder, text=True, capture_output=True, timeout=LIMIT,
                            env=environment)
    assert result.returncode == code, result.stderr
    assert result.stdout == "" and (code != 0 or result.stderr == "")
    return result.stderr


@contextmanager
def starter(program: Path, folder: Path, environment: dict) -> Iterator[Callable[..., subprocess.Popen]]:
    """A function that starts the program. A program that a test has not ended is killed."""
    started = []

    def call(*arguments):
        started.append(subprocess.Popen([program, *arguments], cwd=folder, env=environment, stderr=subprocess.PIPE,
                                        text=True))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(environment, *command) -> str:
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout


def output(log: Path) -> str:
    """The output of the command, without the lines that the launcher adds to the log."""
    return re.search(rf"^# Started at {DATE}\n((?:.*\n)*)# Accounting: .*\n# Ended .*\n\Z", log.read_text(), re.M)[1]
