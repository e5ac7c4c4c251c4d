"""Every supported Python that is installed here compiles all files without a warning and runs what needs no package.

The whole suite runs on the Python of the environment; torch has no builds of the others at hand everywhere.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from waiting import LIMIT

ROOT = Path(__file__).resolve().parents[2]
SUPPORTED = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run(python: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYENV_VERSION"}
    return subprocess.run([python, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=LIMIT,
                          env=environment | variables)


def find_python(version: str) -> str:
    """A working Python of a version. Skips the test where there is none."""
    places = [f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for python in places:
        try:
            if run(python, "--version").returncode == 0:
                return python
        except FileNotFoundError:
            continue
    pytest.skip(f"Python {version} is not installed")


@pytest.mark.parametrize("version", [version for version in SUPPORTED if sys.version_info[:2] != tuple(
    map(int, version.split(".")))])
def test_another_python_compiles_every_file_and_runs_what_needs_no_package(version, tmp_path):
    python = find_python(version)
    compiled = run(python, "-W", "error", "-m", "compileall", "-q", "audiopalm", "utils", "tools", "benchmarks", "egs",
                   PYTHONPYCACHEPREFIX=str(tmp_path))
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    shown = run(python, "-m", "audiopalm.cli", "--version")
    assert shown.returncode == 0 and "audiopalm" in shown.stdout, shown.stderr
    listed = run(python, "-m", "audiopalm.cli", "--help")
    assert listed.returncode == 0 and "translate" in listed.stdout, listed.stderr


def test_the_lowest_supported_python_is_the_lowest_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={min(SUPPORTED, key=lambda text: int(text.split('.')[1]))}"
