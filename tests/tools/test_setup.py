"""tools/setup.sh, with a stand-in for Python that records the calls of pip and uv."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from waiting import LIMIT, wait_until

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/usr/bin/env bash
set -eu
echo "$*" >> "$CALLS"
if [ -n "${UV_DEFAULT_INDEX:-}" ]; then echo "UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX}" >> "$CALLS"; fi
case "$*" in
    --version) echo "Python 3.11.7" ;;
    "-m pip config list") printf "${SETTINGS:-}" ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; touch "$3/pyvenv.cfg" ;;
    *"${FAIL:-no call}"*) echo "ERROR: no such package" >&2; exit 1 ;;
    *"${HANG:-no call}"*) touch "$CALLS.hanging"; sleep 600 ;;
esac
"""


@pytest.fixture
def setup(tmp_path):
    """A function that runs tools/setup.sh in a copy of the files that it reads."""
    root = tmp_path / "repository"
    # Another test may be compiling these files at this moment.
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python-stub").write_text(PYTHON)
    (programs / "python-stub").chmod(0o755)
    record = tmp_path / "calls"

    class Setup:
        path, venv, directory = root, root / ".venv", programs
        command = [str(root / "tools" / "setup.sh")]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AUDIOPALM_")} | {
            "PYTHON": str(programs / "python-stub"), "CALLS": str(record), "PATH": f"{programs}:{os.environ['PATH']}"}

        def __call__(self, **environment):
            record.write_text("")
            return subprocess.run(self.command, env={**self.environment, **environment}, text=True, capture_output=True,
                                  timeout=LIMIT)

        def calls(self):
            return record.read_text().splitlines()

        def installed(self):
            """The arguments of each installation by uv, then ESPnet's by pip."""
            by_uv = f"-m uv pip install --python {self.venv}/bin/python --index-strategy unsafe-best-match "
            return [call.removeprefix(by_uv).removeprefix("-m pip install ") for call in self.calls()
                    if " pip install " in call]

    return Setup()


def test_a_second_call_calls_no_program(setup):
    assert setup().returncode == 0
    assert [line.split()[-1] for line in setup.installed()] == [
        f"{setup.path}/tools/requirements.txt", "torch==2.13.0+cpu", "espnet==202511", str(setup.path)]
    result = setup()
    assert (result.returncode, result.stdout, result.stderr, setup.calls()) == (0, "", "", [])


def test_changed_requirements_update_the_environment(setup):
    assert setup().returncode == 0
    with open(setup.path / "tools" / "requirements.txt", "a") as file:
        file.write("six==1.17.0\n")
    assert setup().returncode == 0
    assert len(setup.installed()) == 4
    assert not any("-m venv" in call for call in setup.calls())
    setup()
    assert setup.calls() == []


def test_a_failed_set_up_is_started_from_the_beginning(setup):
    result = setup(FAIL="espnet==")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"setup.sh: error: espnet cannot be installed; details: {setup.venv}/setup.log")
    (setup.venv / "left over").touch()
    assert setup().returncode == 0
    assert not (setup.venv / "left over").exists()


def test_a_killed_set_up_is_started_from_the_beginning(setup, tmp_path):
    process = subprocess.Popen(setup.command, env={**setup.environment, "HANG": "requirements.txt"},
                               start_new_session=True, stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "calls.hanging").exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert setup().returncode == 0
    assert any("-m venv" in call for call in setup.calls())


def test_a_failed_update_is_followed_by_a_new_set_up(setup):
    assert setup().returncode == 0
    (setup.path / "pyproject.toml").write_text("# changed\n")
    assert setup(FAIL="torch==").returncode == 1
    assert setup().returncode == 0
    assert any("-m venv" in call for call in setup.calls())


def test_only_torch_is_taken_from_the_index_of_torch(setup):
    assert setup(AUDIOPALM_TORCH_INDEX="file:///wheels").returncode == 0
    assert [line for line in setup.installed() if "--default-index" in line] == [
        "--default-index file:///wheels torch==2.13.0+cpu"]


def test_uv_looks_where_pip_does(setup):
    assert setup(SETTINGS=r":env:.find-links='/mine'\nglobal.extra-index-url='\\nfile:///one\\nfile:///two'\n"
                          r"global.find-links='/not/mine'\nglobal.index-url='file:///first'\n").returncode == 0
    assert setup.installed()[1] == ("--index file:///first --index file:///one --index file:///two --find-links /mine "
                                    "torch==2.13.0+cpu")
    assert "UV_DEFAULT_INDEX=file:///first" in setup.calls()


def test_the_usual_torch_is_taken_where_there_is_no_cpu_build(setup):
    result = setup(FAIL="torch==2.13.0+cpu")
    assert result.returncode == 0
    assert "torch==2.13.0" in setup.installed()
    assert "taking the usual build" in result.stderr


def test_a_machine_with_a_gpu_gets_the_build_for_gpus(setup):
    (setup.directory / "nvidia-smi").write_text("#!/bin/sh\n")
    (setup.directory / "nvidia-smi").chmod(0o755)
    assert setup().returncode == 0
    assert "torch==2.13.0,!=2.13.0+cpu" in setup.installed()


def test_the_build_for_gpus_stays_on_a_machine_without_one(setup):
    """On a cluster the login node and the nodes with GPUs share the environment."""
    assert setup(AUDIOPALM_DEVICE="gpu").returncode == 0
    assert "torch==2.13.0,!=2.13.0+cpu" in setup.installed()
    assert setup().returncode == 0 and setup.calls() == []
    assert setup(AUDIOPALM_DEVICE="cpu").returncode == 0 and "torch==2.13.0+cpu" in setup.installed()
    result = setup(AUDIOPALM_DEVICE="cuda")
    assert result.returncode == 1 and "AUDIOPALM_DEVICE takes cpu or gpu, not 'cuda'" in result.stderr


def test_a_directory_that_is_no_environment_is_not_removed(setup, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    result = setup(AUDIOPALM_VENV=str(tmp_path / "home"))
    assert result.returncode == 1
    assert "is not a virtual environment" in result.stderr
    assert (tmp_path / "home" / "letter").exists()


def test_an_absent_python_is_one_line(setup):
    result = setup(PYTHON="python-that-is-not-there")
    assert result.returncode == 1
    assert result.stderr.startswith("setup.sh: error: no Python 3.11 or later found")


def test_a_python_of_the_user_s_own_is_left_alone(setup):
    result = setup(AUDIOPALM_PYTHON=setup.environment["PYTHON"])
    assert result.returncode == 1 and "the commands run the program python of its folder" in result.stderr
    (setup.directory / "python").symlink_to("python-stub")
    assert setup(AUDIOPALM_PYTHON=setup.environment["PYTHON"]).returncode == 0
    assert not setup.venv.exists()
    assert setup(AUDIOPALM_PYTHON="/nonexistent").returncode == 1
