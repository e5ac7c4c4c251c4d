"""The jobs of stage 5: shards of audio files to archives of unit ids or codec ids."""

import argparse

from audiopalm.core.command import run
from audiopalm.stages.encode_shards import encode_shards
from audiopalm.stages.jobs import add_worker_options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", required=True, help="directory of stage 3")
    parser.add_argument("--codec", required=True, help="directory of stage 4")
    add_worker_options(parser)
    arguments = parser.parse_args()
    encode_shards(arguments.todo, arguments.done, arguments.units, arguments.codec)


if __name__ == "__main__":
    run(main)
