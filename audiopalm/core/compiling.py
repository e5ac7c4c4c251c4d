"""One process at a time while numba compiles the functions of librosa and stores them on disk.

Two processes that store functions of one library at once can leave a damaged store (numba 0.68: the index of one names
the file of the other), and then every later process crashes. The first import after an installation, or on another kind
of processor, is such a moment.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def compiling_alone() -> Iterator[None]:
    """Within the block no other process of this user on this machine is in it: a second one waits. Do not nest it."""
    path = Path(tempfile.gettempdir()) / f"audiopalm-compiling-{os.getuid()}.lock"
    with open(path, "a") as file:  # closing the file, or the end of the process, releases the lock
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
