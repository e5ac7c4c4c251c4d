"""Start the processes of a training on this machine, one per GPU, or one on the CPU. bin.launch runs this command.

Under srun, the processes of all machines of the job train together. A failure is reported in one line.
"""

import argparse
import sys

from audiopalm.core.command import run
from audiopalm.stages.ranks import start_ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ngpu", type=int, default=0, help="GPUs of this machine")
    parser.add_argument("--num_nodes", type=int, default=1, help="machines; srun runs this command on each")
    parser.add_argument("name", help="a command of audiopalm.bin, such as train_lm")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    args = parser.parse_args()
    sys.exit(start_ranks(args.ngpu, args.num_nodes, ["-m", f"audiopalm.bin.{args.name}", *args.arguments]))


if __name__ == "__main__":
    run(main)
