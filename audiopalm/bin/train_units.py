"""Stage 3: make the unit tokenizer (speech -> 25 Hz ids) from the recordings of a data directory, and measure it.

Which kind is said by `kind` of the configuration: usm-v2 (trained on texts), w2v-bert (trained without), huggingface
(an encoder that others trained), log-mel (no encoder). Writes config.json, model.safetensors and report.json.
"""

import argparse
import json
import logging
from pathlib import Path

from audiopalm.bin.units_report import report_units
from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.units.registry import kind_of
from audiopalm.units.training import load_training, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="data directory of stage 2, with its texts")
    parser.add_argument("--dev_dir", type=Path, help="data directory on which units are measured [--data_dir]")
    parser.add_argument("--config", help="YAML of a class of audiopalm.units.training.TRAININGS")
    parser.add_argument("--output", type=Path, required=True, help="directory to write, or to go on in")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parse_with_overrides(parser, "kind=log-mel")
    config = load_training(arguments.config, arguments.overrides)
    settings = arguments.output / "config.json"
    if settings.exists():
        if (kind := kind_of(read_json(settings), settings)) != config.kind:
            raise AudioPaLMError(f"{arguments.output} holds units of kind {kind}, asked for are {config.kind}: give "
                                 "another --output (--units_exp of run.sh), or remove it")
        logging.info("%s is trained already; remove it to train anew", arguments.output)
    else:
        train(arguments.data_dir, config, arguments.output, arguments.seed)
    if not (arguments.output / "report.json").exists():
        print(json.dumps(report_units(arguments.output, arguments.dev_dir or arguments.data_dir), indent=1))


if __name__ == "__main__":
    run(main)
