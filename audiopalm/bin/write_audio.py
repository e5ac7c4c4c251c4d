"""The jobs of stage 2: write sources, or cuts of them joined in order, as 16 kHz mono files or archives."""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.stages.audio_store import FORMATS
from audiopalm.stages.jobs import add_worker_options
from audiopalm.stages.write_audio import write_audio_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio_dir", type=Path, required=True, help="folder for the audio")
    parser.add_argument("--audio_format", choices=FORMATS, default="flac")
    add_worker_options(parser)
    arguments = parser.parse_args()
    write_audio_files(arguments.todo, arguments.done, arguments.audio_dir, arguments.audio_format)


if __name__ == "__main__":
    run(main)
