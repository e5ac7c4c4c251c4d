"""Stage 4: train a codec (speech <-> 50 Hz ids of several levels) on the recordings of a data directory.

`kind` in the configuration selects the codec: `spectral`, which two cores train in half an hour, or `soundstream`.
After an interruption, the same command resumes from the last checkpoint. A finished training is not repeated.
"""

import argparse
from pathlib import Path

from audiopalm.codec.training import load_training, train
from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="data directory of stage 2")
    parser.add_argument("--dev_dir", type=Path, help="data directory of the dev losses; without it none are computed")
    parser.add_argument("--config", help="YAML of a class of audiopalm.codec.training.TRAININGS")
    parser.add_argument("--output", type=Path, required=True, help="directory to write or to resume")
    parser.add_argument("--init_codec", type=Path, help="a trained codec, only whose decoder is trained further; its "
                                                        "ids do not change; needs quantise_from: 0")
    add_seed(parser)
    arguments = parse_with_overrides(parser, "training.steps=100")
    config = load_training(arguments.config, arguments.overrides)
    train(arguments.data_dir, config, arguments.output, arguments.seed, arguments.dev_dir, arguments.init_codec)


if __name__ == "__main__":
    run(main)
