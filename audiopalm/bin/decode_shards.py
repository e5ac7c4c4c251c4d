"""The jobs of stage 10: shards of utterances to files of answers."""

import argparse

from audiopalm.core.command import run
from audiopalm.stages.decode_shards import decode_shards
from audiopalm.stages.jobs import add_worker_options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", required=True, help="directory of stage 8")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--sets", nargs="+", required=True, help="data directory and tokens of one set after another")
    parser.add_argument("--batch_size", type=int, required=True)
    add_worker_options(parser)
    arguments = parser.parse_args()
    tokens = dict(zip(arguments.sets[::2], arguments.sets[1::2], strict=True))
    decode_shards(arguments.todo, arguments.done, arguments.lm, arguments.vocabulary, tokens, arguments.batch_size)


if __name__ == "__main__":
    run(main)
