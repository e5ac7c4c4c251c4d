"""Zip files from elsewhere: unpacked whole or not at all, never outside of their folder, never larger than allowed."""

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.partials import partial_folder

MAX_BYTES, MAX_FILES = 64 << 30, 10_000
MAX_RATIO, FREE_BYTES = 200, 64 << 20  # above FREE_BYTES a zip may grow by this factor: zip bombs grow by thousands
AGAIN = "fetch it again"


def unzip(archive: Path, target: Path) -> Path:
    """Unpack `archive` into the new folder `target`; return `target`.

    A folder that is already there with all files of the archive, by name and size, is left as it is; any other one is
    replaced. Raises AudioPaLMError for a file that is not a zip or is damaged, for names outside of the folder, links,
    encrypted files, for more than MAX_FILES files or MAX_BYTES bytes, and where the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as members:
            files = _checked(archive, members)
            if _is_unpacked(files, target):
                return target
            partial = partial_folder(target)
            try:
                for name, member in files.items():
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    # No more than the stated size is read, and the CRC of every file is compared.
                    with members.open(member) as source, open(partial / name, "wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
                _put_in_place(partial, target, files)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise AudioPaLMError(f"{archive} is not a zip file or is damaged ({error}); {AGAIN}") from None
    except OSError as error:
        raise AudioPaLMError(f"{archive} cannot be unpacked into {target}: {error.strerror or error}") from None
    return target


def _checked(archive: Path, members: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """{name: member} of the files in the archive; raises AudioPaLMError for whatever may not be unpacked."""
    files: dict[str, zipfile.ZipInfo] = {}
    for member in members.infolist():
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        if member.is_dir():
            continue
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
            raise AudioPaLMError(f"{archive} holds {name!r}, which would lie outside of its folder; {AGAIN}")
        for refused, why in ((kind not in (0, stat.S_IFREG), "a link or a device"), (member.flag_bits & 1, "encrypted"),
                             (name in files, "in it twice")):
            if refused:
                raise AudioPaLMError(f"{archive} holds {name!r}, which is {why}; {AGAIN}")
        files[name] = member
    size, allowed = sum(member.file_size for member in files.values()), archive.stat().st_size * MAX_RATIO
    if len(files) > MAX_FILES or size > MAX_BYTES or size > max(allowed, FREE_BYTES):
        raise AudioPaLMError(f"{archive} would unpack to {len(files)} files of {size} bytes together, too much for the "
                             "zip of a model")
    return files


def _is_unpacked(files: dict[str, zipfile.ZipInfo], target: Path) -> bool:
    return all((target / name).is_file() and (target / name).stat().st_size == member.file_size
               for name, member in files.items()) and bool(files)


def _put_in_place(partial: Path, target: Path, files: dict[str, zipfile.ZipInfo]) -> None:
    """Rename `partial` to `target`, unless another process has just done the same."""
    if target.exists() and not _is_unpacked(files, target):
        shutil.rmtree(target)
    try:
        os.rename(partial, target)
    except OSError:
        if not _is_unpacked(files, target):
            raise
