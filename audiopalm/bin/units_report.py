"""Measure a unit tokenizer: purity of phones, use of the codebook, bits a second. Writes its report.json."""

import argparse
import json
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.units.quality import report_units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=Path, required=True, help="directory of stage 3")
    parser.add_argument("--data_dir", type=Path, required=True, help="data directory of stage 2")
    arguments = parser.parse_args()
    print(json.dumps(report_units(arguments.units, arguments.data_dir), indent=1))


if __name__ == "__main__":
    run(main)
