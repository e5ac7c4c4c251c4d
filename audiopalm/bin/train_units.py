"""Stage 3: train the unit tokenizer (speech -> 25 Hz ids) on the recordings of a data directory, and measure it.

`kind` in the configuration selects the tokenizer: usm-v2 (trained with texts), w2v-bert (trained without texts),
huggingface (a pretrained encoder), log-mel (no encoder). Writes config.json, model.safetensors and report.json.
"""

import argparse
import json
import os
from pathlib import Path

from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.units.quality import report_units
from audiopalm.units.training import load_training, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="data directory of stage 2, with its texts")
    parser.add_argument("--dev_dir", type=Path, help="data directory for dev losses and for the quality of units; "
                                                     "without it, no dev losses, and the quality on --data_dir")
    parser.add_argument("--config", help="YAML of a class of audiopalm.units.training.TRAININGS")
    parser.add_argument("--output", type=Path, required=True, help="directory to write or to resume")
    add_seed(parser)
    arguments = parse_with_overrides(parser, "kind=log-mel")
    config = load_training(arguments.config, arguments.overrides)
    train(arguments.data_dir, config, arguments.output, arguments.seed, arguments.dev_dir)
    if int(os.environ.get("RANK", 0)) == 0 and not (arguments.output / "report.json").exists():
        print(json.dumps(report_units(arguments.output, arguments.dev_dir or arguments.data_dir), indent=1))


if __name__ == "__main__":
    run(main)
