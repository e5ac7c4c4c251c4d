"""The jobs of `distort`: recordings, joined and distorted, as FLAC files."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.data.distortion import DistortionConfig
from audiopalm.stages.distort import distort_files
from audiopalm.stages.jobs import add_worker_options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio_dir", type=Path, required=True, help="folder for the FLAC files")
    parser.add_argument("--data_dir", type=Path, required=True, help="data directory for the voices of babble")
    add_worker_options(parser)
    arguments = parse_with_overrides(parser, "noise=0.5")
    config = load_config(DistortionConfig, None, arguments.overrides)
    distort_files(arguments.todo, arguments.done, arguments.audio_dir, arguments.data_dir, config)


if __name__ == "__main__":
    run(main)
