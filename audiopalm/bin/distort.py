"""Distort the speech of a data directory of stage 2, for robust training or for the test sets test_robust_*.

    python -m audiopalm.bin.distort --data_dir dump/raw/test --output dump/raw/test_robust_telephone \
        --audio_dir dump/audio_distorted --condition telephone

`--condition random` draws distortions by DistortionConfig of audiopalm/data/distortion.py, with its settings as
`key=value`. `--condition joined` joins two recordings of a speaker. The other conditions are the names of CONDITIONS
in that file.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.data.distortion import DistortionConfig
from audiopalm.stages.distort import NAMES, distort_set
from audiopalm.stages.jobs import add_launcher_options, launcher_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="data directory of stage 2")
    parser.add_argument("--output", type=Path, required=True, help="data directory to write")
    parser.add_argument("--audio_dir", type=Path, required=True, help="folder for the FLAC files")
    parser.add_argument("--condition", required=True, help=", ".join(NAMES))
    add_seed(parser)
    add_launcher_options(parser, "OUTPUT/jobs")
    arguments = parse_with_overrides(parser, "noise=0.5")
    config = load_config(DistortionConfig, None, arguments.overrides)
    distort_set(arguments.data_dir, arguments.output, arguments.audio_dir, arguments.condition, config, arguments.seed,
                launcher_of(arguments, arguments.output))


if __name__ == "__main__":
    run(main)
