"""Print the paper's tables 2 to 13 beside ours, at full scale and in small, as Markdown."""

import argparse
from pathlib import Path

import audiopalm
from audiopalm.ablations.tables import print_tables
from audiopalm.core.command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--egs", type=Path, default=Path(audiopalm.__file__).parents[1] / "egs",
                        help="the recipes, with their results.json (default: those of this repository)")
    parser.add_argument("--only", default="", help='numbers of tables: "2 5" (default: all)')
    arguments = parser.parse_args()
    print(print_tables(arguments.egs, arguments.only.split()))


if __name__ == "__main__":
    run(main)
