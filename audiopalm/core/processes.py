"""Processes: their start times, and children that do not outlive their parent."""

import ctypes
import os
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None)
PARENT_DEATH_SIGNAL = 1  # of Linux's prctl


def end_with_parent(number: int) -> None:
    """In a new process (`preexec_fn`): have the kernel send it the signal when its parent has ended, even by SIGKILL.

    Linux only; elsewhere the process goes on.
    """
    if sys.platform == "linux":
        LIBC.prctl(PARENT_DEATH_SIGNAL, int(number))


def start_time(pid: int) -> int | None:
    """When the process started, in the kernel's ticks since boot; None when it does not run (a zombie does not).

    0 for every running process where there is no /proc.
    """
    try:
        # "pid (name) state ...": the name may hold spaces and brackets; the start time is field 22.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except OSError:
        if sys.platform == "linux":
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it runs, as another user
    return 0
