"""Locks on output folders: of two commands that write the same folder, the second is refused."""

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.partials import remove_stale_partials

NAME = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # file systems without locks
GRACE_SECONDS = 3.0  # a command that has just been killed holds its lock until its process is gone
_held: set[int] = set()  # file descriptors of the locks of this process


class Busy(AudioPaLMError):
    """Another process holds the lock."""


@contextmanager
def locked(directory: str | Path, what: str) -> Iterator[None]:
    """Hold the lock of `directory`, which is created if it does not exist, and clean up after dead processes.

    The kernel releases the lock when this process ends, however it ends; a forked child does not hold it. `what` names
    the work in the message to others. On entry, partial files that a dead process has left in `directory` are removed.
    Raises Busy when another process still holds the lock after GRACE_SECONDS, and AudioPaLMError when the folder cannot
    be written.
    """
    directory = Path(directory)
    created = not directory.exists()
    descriptor = _acquire(directory, what)
    _held.add(descriptor)
    try:
        remove_stale_partials(directory)
        yield
    finally:
        # Removed before it is released: whoever opens the old file meanwhile finds that it is no longer the lock.
        if _is_current(directory, descriptor):
            (directory / NAME).unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)
        if created and directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


@contextmanager
def all_locked(directories: Iterable[str | Path], what: str) -> Iterator[None]:
    """Hold the locks of several folders, as `locked` does of one; a folder that is named twice is locked once."""
    with ExitStack() as stack:
        for directory in dict.fromkeys(Path(path).absolute() for path in directories):
            stack.enter_context(locked(_short(directory), what))
        yield


def _short(path: Path) -> Path:
    """`path` relative to the working directory where it lies below it, for messages."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _acquire(directory: Path, what: str) -> int:
    """Lock the lock file of `directory`; return its file descriptor."""
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "what": what, "since": time.strftime("%F %H:%M")}
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        late = time.monotonic() > deadline
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # the holder has just removed the folder, which was empty
            if late:
                break
            continue
        except OSError as error:
            raise AudioPaLMError(f"{directory} cannot be written: {error.strerror}; choose another folder, or change "
                                 "its permissions") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 4096, 0).decode(errors="replace")
            os.close(descriptor)
            if late:
                raise Busy(f"{directory} is being written by {_described(text)}; wait for it, or stop it") from None
            time.sleep(0.1)
            continue
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                os.close(descriptor)
                raise AudioPaLMError(f"{directory / NAME} cannot be locked: {error.strerror}") from None
            logging.warning("%s: this file system has no locks; do not run two commands on it at once", directory)
            return descriptor
        if _is_current(directory, descriptor):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
            return descriptor
        os.close(descriptor)  # the last holder has just removed this file
        if late:
            break
    raise AudioPaLMError(f"{directory} cannot be locked: its lock is removed as often as it is made; run the command "
                         "again")


def _is_current(directory: Path, descriptor: int) -> bool:
    """Whether the open file is still the lock of the folder."""
    try:
        return os.path.samestat(os.stat(directory / NAME), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _described(text: str) -> str:
    """The process that holds a lock, for messages, from the text of the lock file."""
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} ({holder['what']}, since {holder['since']})"
    except (ValueError, KeyError, TypeError):  # the holder has not written its name yet
        return "another process"


def _close_in_child() -> None:
    """A forked child would hold the lock on after its parent has died."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
