"""audiopalm.json, the manifest of a packed model: which files belong to it, with their size and SHA-256."""

from pathlib import Path, PurePosixPath

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, sha256

MANIFEST = "audiopalm.json"
AGAIN = "pack the model again (stage 14) or fetch it again"


def check_manifest(directory: Path) -> dict[str, str]:
    """Compare a packed folder with its manifest; return {file: its SHA-256}.

    Raises AudioPaLMError for a file that is missing or differs, and for a file in a subfolder that the manifest does
    not list. Other files at the top of the folder are ignored: no part of the model is read from there. A folder
    without a manifest, such as exp/, is not checked and gives no hashes.
    """
    manifest = directory / MANIFEST
    if not manifest.exists():
        return {}
    files = read_object(manifest, keys={"files": dict})["files"]
    for name, stated in files.items():
        if not isinstance(stated, dict) or not {"sha256", "bytes"} <= stated.keys():
            raise AudioPaLMError(f"{manifest} does not state sha256 and bytes of {name!r}; {AGAIN}")
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
            raise AudioPaLMError(f"{manifest} lists {name!r}, which is no file of this folder; {AGAIN}")
        path = directory / name
        if not path.is_file():
            raise AudioPaLMError(f"{path} is missing, {MANIFEST} lists it; {AGAIN}")
        if path.stat().st_size != stated["bytes"]:
            raise AudioPaLMError(f"{path} has {path.stat().st_size} bytes, {MANIFEST} states {stated['bytes']!r}; "
                                 f"{AGAIN}")
        if (actual := sha256(path)) != stated["sha256"]:
            raise AudioPaLMError(f"{path} has SHA-256 {actual}, {MANIFEST} states {stated['sha256']!r}; {AGAIN}")
    for path in sorted(directory.glob("*/*")):
        if path.is_file() and path.relative_to(directory).as_posix() not in files:
            raise AudioPaLMError(f"{path} is not listed in {MANIFEST}; {AGAIN}")
    return {name: stated["sha256"] for name, stated in files.items()}
