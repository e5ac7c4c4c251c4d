"""Only one process at a time is within `compiling_alone`."""

import os
import subprocess
import sys

PROCESS = """
import sys, time
from audiopalm.core.compiling import compiling_alone
with compiling_alone():
    print("in", flush=True)
    sys.stdin.readline()
    print("out", flush=True)
"""


def start(temporary) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"TMPDIR": str(temporary)})


def test_a_second_process_waits_until_the_first_is_out_or_killed(tmp_path):
    first = start(tmp_path)
    assert first.stdout.readline() == "in\n"
    second, third = start(tmp_path), start(tmp_path)
    for process in (second, third):  # what they read later is there already: only the lock holds them
        process.stdin.write("\n")
        process.stdin.flush()
    try:
        second.wait(timeout=3)
    except subprocess.TimeoutExpired:
        pass
    assert second.poll() is None and third.poll() is None
    first.kill()
    assert second.communicate(timeout=300)[0] == third.communicate(timeout=300)[0] == "in\nout\n"
    first.communicate()
