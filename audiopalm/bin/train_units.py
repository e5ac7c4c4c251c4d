"""Stage 3: train the unit tokenizer (speech -> 25 Hz ids) on the recordings and texts of a data directory."""

import argparse
import json
import logging
from pathlib import Path

from audiopalm.bin.common import run
from audiopalm.config import load_config
from audiopalm.train.units import UnitTraining, train_units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="data directory of stage 2, with its texts")
    parser.add_argument("--dev_dir", help="data directory on which the units are measured at the end")
    parser.add_argument("--config", help="YAML of audiopalm.train.units.UnitTraining")
    parser.add_argument("--output", required=True, help="directory to write, or to go on in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="key=value, for example plain_steps=100")
    arguments = parser.parse_args()
    config = load_config(UnitTraining, arguments.config, arguments.overrides)
    if (Path(arguments.output) / "report.json").exists():
        logging.info("%s is trained already; remove it to train anew", arguments.output)
        return
    report = train_units(arguments.data_dir, arguments.dev_dir, config, arguments.output, arguments.seed)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    run(main)
