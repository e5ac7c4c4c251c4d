"""Zip files from elsewhere: unpacked whole or not at all, never outside of their folder, never larger than allowed."""

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.partials import partial_folder

MAX_BYTES, MAX_FILES = 64 << 30, 10_000
# A zip may unpack to FREE_BYTES, or to MAX_RATIO times its own size; zip bombs grow by a factor of thousands.
MAX_RATIO, FREE_BYTES = 200, 64 << 20
AGAIN = "fetch it again"


def unzip(archive: Path, target: Path) -> Path:
    """Unpack `archive` into the new folder `target`; return `target`.

    A folder that already holds all files of the archive, by name and size, stays unchanged; any other folder is
    replaced. Raises AudioPaLMError as `check_zip` does, and where the folder cannot be written.
    """
    try:
        with _opened(archive) as (members, files):
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
    except OSError as error:
        raise AudioPaLMError(f"{archive} cannot be unpacked into {target}: {error.strerror or error}") from None
    return target


def check_zip(archive: Path) -> None:
    """Raise AudioPaLMError for an archive that must not be unpacked, by `unzip` or by another package.

    Refused are a file that is not a zip or is damaged, names outside of the folder, repeated names, links, encrypted
    files, more than MAX_FILES files or MAX_BYTES bytes, and a zip that would grow by more than MAX_RATIO.
    """
    with _opened(archive):
        pass


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """The open archive and its checked files. Errors of its format inside the block become those of `check_zip`."""
    try:
        with zipfile.ZipFile(archive) as members:
            yield members, _checked(archive, members)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise AudioPaLMError(f"{archive} is not a zip file or is damaged ({error}); {AGAIN}") from None


def _checked(archive: Path, members: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """{name: member} of the files in the archive; raises AudioPaLMError for an archive that must not be unpacked."""
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
