"""Kaldi data directories: check, repair, copy, subset, split, combine. The scripts of utils/ call this command."""

import sys

from audiopalm.core.command import run
from audiopalm.data.commands import run_script


def main() -> None:
    run_script(sys.argv[0], sys.argv[1:])


if __name__ == "__main__":
    sys.argv = sys.argv[1:] or ["data_dir"]  # the script's own call: errors begin with its name
    run(main)
