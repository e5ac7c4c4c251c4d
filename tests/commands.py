"""The commands of audiopalm/bin as tests call them: in this process, or as a process of their own."""

import importlib
import subprocess
import sys

import pytest
from prestarted import run_python


def call(name: str, *arguments) -> None:
    """Run the command in this process, without the start of a new one. Its errors are exceptions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        importlib.import_module(f"audiopalm.bin.{name}").main()


def command(name: str, *arguments) -> subprocess.CompletedProcess:
    return run_python("-m", f"audiopalm.bin.{name}", *arguments)


def check(result: subprocess.CompletedProcess) -> None:
    assert result.returncode == 0, result.stderr
