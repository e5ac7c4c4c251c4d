"""The jobs of stage 10: shards of utterances to files of answers."""

import argparse

import torch

from audiopalm.core.command import run
from audiopalm.stages.decode_shards import Worker
from audiopalm.stages.jobs import add_worker_options, work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", required=True, help="directory of stage 8")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--sets", nargs="+", required=True, help="data directory and tokens of one set after another")
    parser.add_argument("--batch_size", type=int, required=True)
    add_worker_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a job has one core
    worker = Worker(arguments.lm, arguments.vocabulary, arguments.sets, arguments.batch_size)
    work(arguments.todo, arguments.done, worker)


if __name__ == "__main__":
    run(main)
