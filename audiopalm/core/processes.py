"""Child processes that do not outlive their parent."""

import ctypes
import sys

LIBC = ctypes.CDLL(None)
PARENT_DEATH_SIGNAL = 1  # of Linux's prctl


def end_with_parent(number: int) -> None:
    """In a new process (`preexec_fn`): have the kernel send it the signal when its parent has ended, even by SIGKILL.

    Linux only; elsewhere the process goes on.
    """
    if sys.platform == "linux":
        LIBC.prctl(PARENT_DEATH_SIGNAL, int(number))
