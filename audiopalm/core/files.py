"""Files that are either whole or absent: written aside, fsynced, renamed. Hashes and JSON."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.partials import partial_path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    Raises AudioPaLMError where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_path(path)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except Exception as error:
        # safetensors hides the number of the error in its text
        if any(os.strerror(number) in str(error) for number in DISK_FULL):
            raise AudioPaLMError(f"{path} cannot be written: {error}; what was there is as it was. Make room, then run "
                                 "the same command again") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: str | Path, made_by: str = "") -> Any:
    """Read JSON; a missing file says what makes it (`made_by`, for example `stage 6`)."""
    require(path, made_by)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise AudioPaLMError(f"{path} is not JSON: {error}") from None


def require(path: str | Path, made_by: str = "") -> Path:
    """`path` itself; raises AudioPaLMError naming the stage that makes it when it does not exist."""
    if not Path(path).exists():
        hint = f"; run {made_by} first" if made_by else ""
        raise AudioPaLMError(f"{path} does not exist{hint}")
    return Path(path)


def sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
