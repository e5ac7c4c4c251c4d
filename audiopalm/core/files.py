"""Files that are either whole or absent: written aside, fsynced, renamed. Hashes and JSON."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError, shown
from audiopalm.core.partials import partial_path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | Path, final: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error, else remove it.

    Without `final` the temporary file is always removed. Raises AudioPaLMError where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_path(path)
    try:
        yield temporary
        if final:
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    except Exception as error:
        # The text is searched, because errors of safetensors have no errno.
        if any(os.strerror(number) in str(error) for number in DISK_FULL):
            raise AudioPaLMError(f"{path} cannot be written: {error}; an older file there is unchanged. Make room, "
                                 "then run the same command again") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path, suffixes: tuple[str, ...] = ()) -> Path:
    """Return `path` if a file can be written there. Call it before long work whose result is written to `path`.

    Folders that do not exist yet are made when the file is written. Raises AudioPaLMError for a suffix that is not
    among `suffixes`, for a folder, and for a path that cannot be written.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise AudioPaLMError(f"{path}: the name must end in {' or '.join(suffixes)}")
    if os.path.isdir(path):
        raise AudioPaLMError(f"{path} is a folder; give the name of a file")
    _try_writing(path)
    return path


def check_writable_folder(path: str | Path) -> Path:
    """Return `path` if it is, or can become, a folder that files can be written to. Raises AudioPaLMError otherwise."""
    path = Path(path)
    if os.path.exists(path) and not os.path.isdir(path):
        raise AudioPaLMError(f"{path} is a file; give the name of a folder")
    _try_writing(path / "x")
    return path


def _try_writing(path: Path) -> None:
    """Write and remove an empty file beside `path`, or in its nearest parent that exists."""
    try:
        while not path.parent.exists():
            path = path.parent
        with atomic_path(path, final=False) as temporary:
            temporary.touch()
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise AudioPaLMError(f"{str(path)!r} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: str | Path, made_by: str = "") -> Any:
    """Read JSON. Raises AudioPaLMError as `read_text` does, and for a file that is not JSON."""
    text = read_text(path, made_by)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AudioPaLMError(f"{path} is not JSON: {error}") from None


def read_object(path: str | Path, made_by: str = "", keys: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Read a JSON object that has all `keys`, {name: type}; raises AudioPaLMError for anything else.

    >>> read_object("dump/tokens/train/meta.json", "stage 5 (tokenize)", {"units_size": int, "units_sha256": str})
    """
    values = read_json(path, made_by)
    again = f"; run {made_by} again" if made_by else ""
    if not isinstance(values, dict):
        raise AudioPaLMError(f"{path} holds {shown(values)} where an object with keys is expected{again}")
    if missing := [key for key in keys or {} if key not in values]:
        raise AudioPaLMError(f"{path} lacks {', '.join(missing)}{again}")
    for key, kind in (keys or {}).items():
        if not isinstance(values[key], kind) or (kind is int and isinstance(values[key], bool)):
            raise AudioPaLMError(f"{path}: {key} must be of type {kind.__name__}, found {shown(values[key])}{again}")
    return values


def read_text(path: str | Path, made_by: str = "") -> str:
    """Read a file in UTF-8. Raises AudioPaLMError for a file that is missing, cannot be read, or is not UTF-8.

    The message about a missing file names what makes it: `made_by`, for example `stage 6`.
    """
    require(path, made_by)
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise AudioPaLMError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise AudioPaLMError(f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8") from None



def require(path: str | Path, made_by: str = "") -> Path:
    """Return `path` if it exists. Raises AudioPaLMError otherwise, with `made_by` as the stage that makes it."""
    if not Path(path).exists():
        hint = f"; run {made_by} first" if made_by else ""
        raise AudioPaLMError(f"{path} does not exist{hint}")
    return Path(path)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError for a file that cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
