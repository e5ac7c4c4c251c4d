"""Processes: their start times, and children that do not outlive their parent."""

import ctypes
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError

LIBC = ctypes.CDLL(None)
PARENT_DEATH_SIGNAL, CHILD_SUBREAPER = 1, 36  # of Linux's prctl
# Exit code of a command that was asked to end and has saved its work; the same command continues it (EX_TEMPFAIL;
# utils/jobs.pm).
AGAIN = 75
LOST_PEER = 76  # exit code of a rank that cannot continue because another rank has ended
ONE_LINE = "AUDIOPALM_ONE_LINE"  # set by a launcher that reports errors itself, in one line for all ranks


def end_with_parent(number: int) -> None:
    """In a new process (`preexec_fn`): have the kernel send it the signal when its parent has ended, even by SIGKILL.

    Linux only; elsewhere the process goes on.
    """
    if sys.platform == "linux":
        LIBC.prctl(PARENT_DEATH_SIGNAL, int(number))


def end_with_torchrun() -> None:
    """In a rank of torchrun: end it when torchrun has ended, even by SIGKILL. In other processes it does nothing.

    The signal is SIGKILL because a rank that waits for the others in a collective operation handles no other.
    Raises AudioPaLMError when torchrun has ended already.
    """
    if sys.platform != "linux" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    end_with_parent(signal.SIGKILL)
    parent = os.getppid()
    # Process 1 inherits orphans. In a container it may be torchrun itself.
    if parent == 1 and b"torch" not in Path("/proc/1/cmdline").read_bytes():
        raise AudioPaLMError("torchrun has ended before this rank could start")


def lost_peer(error: RuntimeError) -> bool:
    """Whether a rank of torchrun cannot continue because another rank has ended."""
    return "TORCHELASTIC_RUN_ID" in os.environ and (type(error).__name__ == "DistBackendError" or "gloo" in str(error))


def end_worker_with_parent(*_: int) -> None:
    """In a worker of a pool or a data loader (`initializer`, `worker_init_fn`): end it when its parent has ended.

    Without this the worker of a killed process may wait for work for ever.
    """
    end_with_parent(signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, so that they can be found and ended. Linux only."""
    if sys.platform == "linux":
        LIBC.prctl(CHILD_SUBREAPER, 1)


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
