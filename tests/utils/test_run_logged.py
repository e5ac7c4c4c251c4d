"""utils/run_logged.py: log, table of usage, exit codes, and processes that a command leaves behind."""

import signal
import subprocess
import sys
from pathlib import Path

from waiting import LIMIT, wait_until

from audiopalm.core.processes import start_time

UTILS = Path(__file__).resolve().parents[2] / "utils"
RUN = [sys.executable, str(UTILS / "run_logged.py")]
# The same program with shorter waits for the processes that a command leaves behind.
RUN_IN_HASTE = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(UTILS)!r}); import run_logged; "
                "run_logged.GRACE = (0.2, 0.5); sys.exit(run_logged.main())"]


def test_output_goes_to_the_screen_and_the_log_and_usage_to_a_table(tmp_path):
    result = subprocess.run([*RUN, tmp_path / "log" / "stage3.log", "sh", "-c", "echo one; echo two >&2; exit 3"],
                            capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (3, "one\ntwo\n", "")
    log = (tmp_path / "log" / "stage3.log").read_text().splitlines()
    assert log[1:3] == ["one", "two"] and log[3].startswith("# exit code 3, ")
    name, _, _, code, command = (tmp_path / "log" / "usage.tsv").read_text().rstrip("\n").split("\t")
    assert (name, code, command) == ("stage3", "3", "sh -c 'echo one; echo two >&2; exit 3'")


def test_processes_that_a_command_leaves_behind_are_ended(tmp_path):
    """They are in sessions of their own, as ranks of torchrun are; one of the two ignores SIGTERM."""
    script = ("setsid sleep 600 & echo $! > plain; setsid sh -c 'trap \"\" TERM; echo $$ > stubborn; sleep 600' & "
              "until [ -s stubborn ]; do sleep 0.05; done; kill -KILL $$")
    command = [*RUN_IN_HASTE, "a.log", "bash", "-c", script]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=LIMIT)
    assert result.returncode == 128 + signal.SIGKILL
    wait_until(lambda: not any(start_time(int((tmp_path / name).read_text())) for name in ("plain", "stubborn")))


def test_a_command_ends_when_run_logged_is_killed(tmp_path):
    process = subprocess.Popen([*RUN, "a.log", "bash", "-c", "echo $$ > pid; exec sleep 600"], cwd=tmp_path)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), process)
    process.kill()
    process.wait()
    wait_until(lambda: not start_time(int((tmp_path / "pid").read_text())))
