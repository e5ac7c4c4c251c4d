"""The processes of a training on this machine, one for each GPU, or one on the CPU. bin.launch starts it.

Under srun, those of all machines of the job train together. What fails is one line.
"""

import argparse
import sys

from audiopalm.core.command import run
from audiopalm.stages.ranks import start_ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ngpu", type=int, default=0, help="GPUs of this machine")
    parser.add_argument("--num_nodes", type=int, default=1, help="machines, on each of which srun has started this")
    parser.add_argument("name", help="a command of audiopalm.bin, such as train_lm")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    args = parser.parse_args()
    sys.exit(start_ranks(args.ngpu, args.num_nodes, ["-m", f"audiopalm.bin.{args.name}", *args.arguments]))


if __name__ == "__main__":
    run(main)
