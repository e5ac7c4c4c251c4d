"""Make token folders with every k-th unit of those of stage 5, for experiments with the rate of units."""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.stages.thin_tokens import thin_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, nargs="+", required=True, help="dump/tokens/train dump/tokens/dev ...")
    parser.add_argument("--output", type=Path, nargs="+", required=True, help="a new folder for each of --tokens")
    parser.add_argument("--every", type=int, required=True, metavar="K", help="2 for half as many units a second")
    arguments = parser.parse_args()
    thin_tokens(arguments.tokens, arguments.output, arguments.every)


if __name__ == "__main__":
    run(main)
