"""A recipe around the driver egs/TEMPLATE/audiopalm.sh. A stand-in for Python records the commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from waiting import LIMIT

ROOT = Path(__file__).resolve().parents[1]

PYTHON = """#!/usr/bin/env bash
# called as: python -m audiopalm.bin.NAME ARGUMENTS...
set -eu
name=${2#audiopalm.bin.}
if [ "$name" = launch ]; then  # record the launcher, then go on as the training
    echo "${*:3:8}" >> launched.txt
    name=${11}
    set -- -m "audiopalm.bin.$name" "${@:12}"
fi
echo "$name ${*:3}" >> commands.txt
echo "output of $name"
if [ "${FAIL:-}" = "$name" ]; then echo "$name: error: broken on purpose" >&2; exit 3; fi
if [ "${HANG:-}" = "$name" ]; then
    trap 'echo "$name: interrupted" >&2; exit 130' INT
    echo $$ > hanging.new && mv hanging.new hanging
    for _ in $(seq 6000); do sleep 0.1; done
fi
while [ $# -gt 1 ]; do
    if [ "$1" = --output ]; then
        output=$2
        while [ $# -gt 1 ] && [[ "$2" != --* ]]; do mkdir -p "$2"; shift; done  # tokenize writes several
    fi
    if [ "$1" = --results ]; then results=$2; fi
    if [ "$1" = --report ]; then report=$2; fi
    if [ "$1" = --audio_dir ]; then mkdir -p "$2"; fi
    shift
done
case "$name" in
    prepare) mkdir -p "$output"/{train,dev,test,sayings} ;;
    score) touch "$results" "$report" ;;
    report) touch "$output/index.html" ;;
    pack) touch "$output.zip" ;;
    data_dir) mkdir -p "$1" ;;  # what copy_data_dir.sh writes
esac
"""


def toy_recipe(tmp_path):
    """A recipe directory with a link to the real driver, as a function that runs its run.sh."""
    directory = tmp_path / "egs" / "toy"
    for name in ("units", "codec", "acoustic"):
        (directory / "pretrained" / "pack" / name).mkdir(parents=True)
        (directory / "pretrained" / "pack" / name / "config.json").write_text("{}")
    (tmp_path / "egs" / "TEMPLATE").symlink_to(ROOT / "egs" / "TEMPLATE")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    for name in ("run.sh", "cmd.sh", "path.sh", "db.sh", "conf", "local/data.sh"):
        target = directory / name
        target.parent.mkdir(exist_ok=True)
        copy = shutil.copytree if name == "conf" else shutil.copy
        copy(ROOT / "egs" / "mini" / name, target, **({} if name == "conf" else {"follow_symlinks": False}))
    script = directory / "run.sh"
    script.write_text(re.sub("--train_(units|acoustic) false", r"--train_\1 true", script.read_text())
                      .replace("--text_sets test_paraphrase", "--text_sets ''"))
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    (python.parent / "python3").symlink_to(sys.executable)  # for the driver's own helper

    class Recipe:
        path = directory
        environment = {**os.environ, "AUDIOPALM_PYTHON": str(python)}
        command = [str(directory / "run.sh"), "--test_sets", "test"]

        def __call__(self, *arguments, **environment):
            return subprocess.run([*self.command, *arguments], env={**self.environment, **environment}, cwd=tmp_path,
                                  text=True, capture_output=True, timeout=LIMIT)

        def commands(self):
            return (directory / "commands.txt").read_text().splitlines()

    return Recipe()


def make_pack_folders(directory):
    for name in ("units", "codec", "vocabulary", "lm", "acoustic"):
        (directory / name).mkdir(parents=True)
        (directory / name / "config.json").write_text("{}")
    return directory
