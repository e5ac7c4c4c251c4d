"""Names of files and folders that are still being written, and the removal of those whose writer has died."""

import hashlib
import logging
import os
import re
import shutil
import socket
import time
from pathlib import Path

from audiopalm.core.processes import start_time

NAME = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)\.partial(\.[^.]*)?")
OTHER_HOST_SECONDS = 24 * 3600  # after this age a partial file of another host counts as left behind


def partial_path(path: str | Path) -> Path:
    """A hidden name beside `path` for a file that is not whole yet: `.<stem>.<host>-<pid>-<start>.partial<suffix>`.

    The name tells which process writes the file. The suffix stays last, because soundfile and numpy choose the format
    by the suffix.
    """
    path, pid = Path(path), os.getpid()
    return path.with_name(f".{path.stem}.{_host()}-{pid}-{start_time(pid) or 0}.partial{path.suffix}")


def partial_folder(path: str | Path) -> Path:
    """Make an empty folder under the partial name of `path`, to be renamed when it is whole.

    Partial files and folders that dead processes have left in the same folder are removed first.
    """
    partial = partial_path(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_partials(partial.parent, depth=0)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    return partial


def remove_stale_partials(directory: str | Path, depth: int = 2) -> None:
    """Remove partial files and folders whose process no longer runs, in `directory` and `depth` levels below it.

    The processes of another host cannot be seen from here; their partial files are removed when a day old.
    """
    try:
        with os.scandir(directory) as entries:
            names = list(entries)
    except OSError:  # another user's, or removed just now
        return
    for entry in names:
        if match := NAME.fullmatch(entry.name):
            try:
                if _is_stale(Path(entry.path), match):
                    _remove(Path(entry.path))
            except FileNotFoundError:
                continue  # its writer has renamed it just now
            except OSError as error:
                logging.warning("%s, which a dead process has left, cannot be removed: %s", entry.path, error.strerror)
        elif depth > 0 and entry.is_dir(follow_symlinks=False):
            remove_stale_partials(entry.path, depth - 1)


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_stale(path: Path, match: re.Match[str]) -> bool:
    if match["host"] != _host():
        return time.time() - path.lstat().st_mtime > OTHER_HOST_SECONDS
    # The start time tells the writer from a later process with the same number.
    return start_time(int(match["pid"])) != int(match["start"])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
