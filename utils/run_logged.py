#!/usr/bin/env python3
"""Run one command of a stage, with its output on the screen and in a log, and its time and peak memory in a table.

    utils/run_logged.py exp/log/stage3.log python -m audiopalm.bin.train_units ...

Output is appended to the log. `usage.tsv` beside it gets a line `log name, seconds, peak MiB, exit code, command`. The
peak is that of the command and all its children together where /proc states it (Linux), else that of the largest
process. When this process receives SIGTERM, or the calling shell or this process ends, the command receives one Ctrl-C.
A second SIGTERM becomes SIGKILL. Processes that the command leaves behind, as a killed torchrun does, are ended too.
The exit code is that of the command, or 128 + signal if a signal ended it.
"""

import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from audiopalm.core.processes import adopt_orphans, end_with_parent

PERIOD = 1.0  # seconds between two samples of the memory
GRACE = (2, 5)  # seconds for processes that a command has left: until SIGTERM, then until SIGKILL


def descendants(pid: int) -> list[int]:
    """`pid` and all processes under it, from /proc."""
    processes, queue = [], [pid]
    while queue:
        process = queue.pop()
        processes.append(process)
        try:
            for task in Path(f"/proc/{process}/task").iterdir():
                queue += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, ValueError):
            continue  # it has ended
    return processes


def memory(pid: int) -> float:
    """MiB held by a process tree; pages that its processes share count once. 0 where /proc does not state it."""
    total = 0
    for process in descendants(pid):
        try:
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except (OSError, ValueError):
            continue
    return total / 1024


def copy(source, log) -> None:
    """Copy bytes to the screen and the log as they arrive; to the log alone once the screen is closed (`| head`)."""
    screen = sys.stdout.buffer
    while block := source.read1(65536):
        log.write(block)
        log.flush()
        try:
            screen.write(block)
            screen.flush()
        except BrokenPipeError:
            continue


def start(command: list[str]) -> subprocess.Popen:
    # In a process group of its own, so that all workers receive a Ctrl-C of the terminal once, through this process.
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the shell starts this process with SIGINT ignored
        end_with_parent(signal.SIGINT)

    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
                            preexec_fn=prepare)


class Stopper:
    """Passes the first request to stop to the command as Ctrl-C, the second one as SIGKILL."""

    def __init__(self, group: int):
        self.group, self.requests = group, 0

    def __call__(self, *_) -> None:
        self.requests += 1
        try:
            os.killpg(self.group, signal.SIGINT if self.requests == 1 else signal.SIGKILL)
        except ProcessLookupError:
            pass


def end_orphans() -> None:
    """End all descendants of this process, which adopts the processes that the command leaves."""
    for signal_number, seconds in zip((None, signal.SIGTERM, signal.SIGKILL), (*GRACE, GRACE[-1]), strict=True):
        for pid in descendants(os.getpid())[1:] if signal_number else []:
            try:
                os.kill(pid, signal_number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    time.sleep(0.05)
            except ChildProcessError:
                return


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    log_path, command = Path(sys.argv[1]), sys.argv[2:]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    began, parent, peak = time.monotonic(), os.getppid(), 0.0
    with open(log_path, "ab") as log:
        log.write(f"# {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(command)}\n".encode())
        adopt_orphans()
        try:
            process = start(command)
        except OSError as error:
            print(f"run_logged.py: error: {command[0]}: {error.strerror}", file=sys.stderr)
            return 127
        stop = Stopper(process.pid)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, stop)
        reader = threading.Thread(target=copy, args=(process.stdout, log))
        reader.start()
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            if os.getppid() != parent and stop.requests == 0:
                stop()
            try:
                process.wait(timeout=PERIOD)
            except subprocess.TimeoutExpired:
                continue
        end_orphans()
        reader.join()
        seconds = time.monotonic() - began
        code = 128 - process.returncode if process.returncode < 0 else process.returncode
        unit = 1 << 20 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
        peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit)
        log.write(f"# exit code {code}, {seconds:.1f} s, {peak:.0f} MiB\n".encode())
    with open(log_path.parent / "usage.tsv", "a", encoding="utf-8") as table:
        table.write(f"{log_path.stem}\t{seconds:.1f}\t{peak:.0f}\t{code}\t{shlex.join(command)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
