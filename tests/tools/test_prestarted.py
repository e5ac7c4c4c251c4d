"""The stand-in for Python that tests start commands with behaves as Python does towards its caller."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from prestarted import prestarted, run_python
from waiting import LIMIT, wait_until

PROGRAM = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ["WORD"], sys.path[0], "audiopalm" in sys.modules]))
print("on stderr", file=sys.stderr)
sys.exit(3)
"""


def write(path: Path, program: str) -> Path:
    path.write_text(program)
    return path


def test_a_program_has_its_own_folder_arguments_streams_and_exit_code(tmp_path):
    program = write(tmp_path / "été.py", PROGRAM)
    python = prestarted()["AUDIOPALM_PYTHON"]
    result = subprocess.run([python, program, "a b", "--c"], cwd=tmp_path, env=prestarted(WORD="né"), text=True,
                            capture_output=True)
    assert (result.returncode, result.stderr) == (3, "on stderr\n")
    assert json.loads(result.stdout) == [[str(program), "a b", "--c"], str(tmp_path), "né", str(tmp_path), False]
    assert "WORD" not in os.environ and run_python("-c", "print(5)").stdout == "5\n"


def test_a_program_begins_with_the_sitecustomize_of_pythonpath(tmp_path):
    write(tmp_path / "sitecustomize.py", "import sys\nsys.seen = sys.orig_argv[1:]")
    (tmp_path / "programs").mkdir()
    program = write(tmp_path / "programs/x.py", "import sys\nprint(*sys.seen)")
    assert run_python(program, "a", PYTHONPATH=str(tmp_path)).stdout == f"{program} a\n"


@pytest.mark.parametrize("end, code", [("sys.exit('a word')", 1), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -9),
                                       ("os._exit(130)", 130), ("pass", 0)])
def test_the_caller_sees_how_a_program_ends(tmp_path, end, code):
    assert run_python(write(tmp_path / "x.py", f"import os, sys\n{end}")).returncode == code


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 7), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_signals_reach_the_program(tmp_path, number, code):
    program = write(tmp_path / "x.py", "import os, sys, time\ntry:\n    open('x.pid', 'w').write(str(os.getpid()))\n"
                                       "    time.sleep(600)\nexcept KeyboardInterrupt: sys.exit(7)\n")
    process = subprocess.Popen([prestarted()["AUDIOPALM_PYTHON"], program], cwd=tmp_path)
    pid = tmp_path / "x.pid"
    wait_until(lambda: pid.exists() and pid.read_text(), process)
    process.send_signal(number)
    assert process.wait(timeout=LIMIT) == code
    wait_until(lambda: not Path(f"/proc/{pid.read_text()}").exists())
