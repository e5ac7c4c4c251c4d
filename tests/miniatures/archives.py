"""Downloads: files packed into an archive, or unpacked into a folder."""

import io
import tarfile
from pathlib import Path


def pack(archive: Path, files: dict[str, bytes], members: list[tarfile.TarInfo] = ()) -> None:
    """Write a tar.gz of `files` in order, and of `members`, which must not be unpacked."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"evil") if member.isfile() else None)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def lay_out(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def evil_members() -> list[tarfile.TarInfo]:
    """Members with a path out of the folder, with an absolute path, and with a link."""
    outside, absolute, link = tarfile.TarInfo("../evil.txt"), tarfile.TarInfo("/evil.txt"), tarfile.TarInfo("link")
    outside.size = absolute.size = 4
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return [outside, absolute, link]
