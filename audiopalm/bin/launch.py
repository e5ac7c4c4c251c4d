"""Run a training of stage 3, 4, 7, 8 or 9 as a job of Kaldi's launchers, on one or several machines; show its log.

Each process has a GPU; with --ngpu 0 there is one process per machine, on its CPU. The training's exit code is
returned. The same command resumes an interrupted training.
"""

import argparse
import sys
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.stages.launch import TrainingJob, launch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cmd", default="run.pl", help="launcher: run.pl, slurm.pl or queue.pl, with options")
    parser.add_argument("--ngpu", type=int, default=0, help="GPUs on each machine")
    parser.add_argument("--num_nodes", type=int, default=1, help="machines; more than one needs slurm.pl")
    parser.add_argument("--job_dir", type=Path, required=True, help="folder for the log")
    parser.add_argument("name", help="a command of audiopalm.bin, such as train_lm")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    args = parser.parse_args()
    sys.exit(launch(TrainingJob(args.cmd, args.ngpu, args.num_nodes, args.job_dir, args.name, args.arguments)))


if __name__ == "__main__":
    run(main)
