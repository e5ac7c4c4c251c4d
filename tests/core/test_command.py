"""Errors of the operating system end a command with one line and exit code 1. Finished files stay as they are."""

import resource
import subprocess
import sys

import pytest

from audiopalm.core.files import read_json, write_json

WRITE = """
import sys
from audiopalm.core.command import run
from audiopalm.core.files import write_json
{body}
run(main)
"""
CASES = {  # {name: (body of the command, part of its message)}
    "a file in place of a folder": ("def main(): write_json(sys.argv[1] + '/file/x.json', {})", "/file: File exists"),
    "no permission": ("def main(): raise PermissionError(13, 'Permission denied', sys.argv[1])", ": Permission denied"),
    "an error without a file": ("def main(): raise TimeoutError('no\\nanswer')", "error: no answer"),
    "an error without a word": ("def main(): raise ConnectionError", "error: ConnectionError"),
    "an open file that meets a full disk": (
        "def main():\n  with open(sys.argv[1] + '/log', 'w') as file: file.write('x' * 10 ** 6)", "File too large"),
    "a model that meets a full disk": (
        "def main(): write_json(sys.argv[1] + '/model.json', ['x' * 10 ** 6])", "File too large"),
}


def small_files_only():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.parametrize("case", CASES)
def test_an_error_of_the_system_is_one_line_and_leaves_finished_files(tmp_path, case):
    body, message = CASES[case]
    (tmp_path / "file").touch()
    write_json(tmp_path / "model.json", {"old": True})
    result = subprocess.run([sys.executable, "-c", WRITE.format(body=body), str(tmp_path)], capture_output=True,
                            text=True, preexec_fn=small_files_only)
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("-c: error: ")
    assert read_json(tmp_path / "model.json") == {"old": True}


def test_a_second_sigterm_does_not_disturb_the_exit():
    """`timeout` sends SIGTERM to the command and to its process group, in which the command is too."""
    body = "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n" \
           "def main(): os.kill(os.getpid(), signal.SIGTERM); signal.pause()"
    result = subprocess.run([sys.executable, "-c", WRITE.format(body=body)], capture_output=True, text=True)
    assert result.returncode == 130 and len(result.stderr.splitlines()) == 1 and "interrupted" in result.stderr
