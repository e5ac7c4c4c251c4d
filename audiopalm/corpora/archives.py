"""Archives of corpora: unpacked once, under another name until they are whole, never outside of their folder."""

import logging
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.core.lock import locked
from audiopalm.core.partials import partial_folder
from audiopalm.core.progress import progress

MARKER = ".unpacked.json"


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar file, compressed or not, into `folder / <its name without suffixes>`; return that folder.

    Members that would lie outside of it, links and devices are left out and named in its `.unpacked.json`. From an
    archive that is cut off, the whole files are unpacked, with a warning. Raises AudioPaLMError when there is no file.
    """
    target = folder / archive.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    report = fill_once(target, [archive], lambda partial: _extract(archive, partial))
    if report["cut_off"]:
        logging.warning("%s is cut off after %d files (%s); fetch it again", archive, report["files"],
                        report["cut_off"])
    for name, reason in list(report["left_out"].items())[:5]:
        logging.warning("%s: left out %s: %s", archive, name, reason)
    return target


def fill_once(target: Path, sources: list[Path], fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Make the folder `target` by `fill(folder)` unless it was made from the same `sources`; return the report of
    `fill`, which has a key `files`.

    The folder is filled under another name and renamed when it is whole. Its `.unpacked.json` holds the report and the
    name, size and time of each source, so that another file of the same name is unpacked anew. Raises Busy where
    another process fills the same folder.
    """
    status = [(source.name, source.stat()) for source in sources]
    made_of = [{"archive": name, "bytes": stat.st_size, "changed": stat.st_mtime_ns} for name, stat in status]

    def made_before() -> dict[str, Any] | None:
        report: dict[str, Any] = read_json(target / MARKER) if (target / MARKER).exists() else {}
        return report if report.get("made_of") == made_of else None

    if (found := made_before()) is not None:  # without a lock, so that the folder may be read-only
        return found
    with locked(target.with_name(f".{target.name}.lock"), f"unpacking {sources[0].name}"):
        if (found := made_before()) is not None:
            return found
        shutil.rmtree(target, ignore_errors=True)
        partial = partial_folder(target)
        try:
            report = {"made_of": made_of, **fill(partial)}
        except AudioPaLMError:
            shutil.rmtree(partial)
            raise
        write_json(partial / MARKER, report)
        partial.rename(target)
        logging.info("unpacked %s into %s: %d files", sources[0], target, report["files"])
        return report


def _extract(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack `archive` into `folder`; return {files: number, left_out: {member: reason}, cut_off: reason or None}."""
    files = 0
    left_out: dict[str, str] = {}
    cut_off = unfinished = None
    try:
        with tarfile.open(archive) as members:
            for member in progress(members, None, f"unpacking {archive.name}"):
                reason = _unsafe(member, folder)
                if reason:
                    left_out[member.name] = reason
                elif member.isfile():
                    unfinished = folder / member.name
                    members.extract(member, folder, filter="data")
                    unfinished = None
                    files += 1
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, not of the archive
            raise
        cut_off = str(error)
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
    if not files:
        raise AudioPaLMError(f"{archive} is no archive or is cut off before its first file "
                             f"({cut_off or 'it holds no file'}); fetch it again")
    return {"files": files, "left_out": left_out, "cut_off": cut_off}


def _unsafe(member: tarfile.TarInfo, target: Path) -> str | None:
    """The reason why a member is left out; None for a plain file or folder inside `target`."""
    if not (member.isfile() or member.isdir()):
        return "link" if member.issym() or member.islnk() else "not a file"
    if member.name.startswith("/") or ".." in Path(member.name).parts:
        return "outside of the folder"
    try:
        tarfile.data_filter(member, str(target))
    except tarfile.FilterError as error:
        return str(error)
    return None
