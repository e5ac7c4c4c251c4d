"""The jobs of stage 2: source files, or cuts of them joined in order, as 16 kHz mono FLAC."""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.stages.jobs import add_worker_options
from audiopalm.stages.write_audio import write_audio_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio_dir", type=Path, required=True, help="where the FLAC files go")
    add_worker_options(parser)
    arguments = parser.parse_args()
    write_audio_files(arguments.todo, arguments.done, arguments.audio_dir)


if __name__ == "__main__":
    run(main)
