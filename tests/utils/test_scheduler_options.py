"""The options that sbatch and qsub get, and the conf file that decides. Stand-ins record them and run the job."""

import os
import subprocess
from pathlib import Path

import pytest
from waiting import LIMIT

UTILS = Path(__file__).resolve().parents[2] / "utils"
SUBMIT = """#!/bin/sh
printf '%s\\n' "$*" > submitted
for last; do :; done
bash "$last" > /dev/null 2>&1
echo "{answer}"
"""


@pytest.fixture
def submitted(tmp_path):
    """A function that runs a launcher in a folder of its own and returns the arguments of the stand-in."""
    programs = {"sbatch": SUBMIT.format(answer="17"), "squeue": "#!/bin/sh\necho 17\n", "qstat": "#!/bin/sh\n",
                "qsub": SUBMIT.format(answer="Your job 17 (x) has been submitted")}
    for name, text in programs.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    (tmp_path / "recipe").mkdir()

    def run(launcher, *arguments):
        result = subprocess.run([UTILS / launcher, *map(str, arguments), "log", "echo done"], text=True, timeout=LIMIT,
                                capture_output=True, cwd=tmp_path / "recipe",
                                env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
        assert result.returncode == 0, result.stderr
        assert "done\n" in (tmp_path / "recipe/log").read_text()
        return (tmp_path / "recipe/submitted").read_text()

    return run


def test_options_with_a_single_hyphen_are_passed_on(submitted):
    words = submitted("queue.pl", "-V", "-l", "mem_free=2G", "-pe", "smp", 4, "--mem", "3G", "-sync", "y", "-tc", 2)
    assert words.startswith("-V -cwd -S /bin/bash -j y -r y -l mem_free=3G -V -l mem_free=2G -pe smp 4 -N log ")
    words = submitted("slurm.pl", "-p", "long", "--mem", "3G")
    assert words.startswith("--requeue --signal=B:USR1@120 --mem-per-cpu 3G -p long --parsable ")


def test_a_recipe_s_conf_file_goes_before_the_repository_s(submitted, tmp_path):
    assert "--gres gpu:2" in submitted("slurm.pl", "--gpu", 2) and "-l gpu=2" in submitted("queue.pl", "--gpu", 2)
    (tmp_path / "recipe/conf").mkdir()
    (tmp_path / "recipe/conf/slurm.conf").write_text("command sbatch --partition ours\noption gpu=* --gpus $0\n")
    assert submitted("slurm.pl", "--gpu", 2).startswith("--partition ours --gpus 2 --parsable ")
    assert "-l gpu=2" in submitted("queue.pl", "--gpu", 2)
