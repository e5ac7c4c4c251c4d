"""Print how many steps of stage 8 see a number of tokens of certain tasks; no model is needed.

With `training.steps=N` a training then has that budget. `audiopalm.bin.ablations` uses it, so that systems with
different mixtures have seen as much of the task by which they are compared.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.core.files import write_json
from audiopalm.lm.budget import steps_for
from audiopalm.lm.training import LMConfig, LMInputs, read_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--config", required=True, help="YAML of LMConfig, as of stage 8")
    add("--vocabulary", required=True, help="directory of stage 6")
    add("--data_dir", required=True)
    add("--tokens", required=True, help="tokens of --data_dir (stage 5)")
    add("--budget", type=int, required=True, metavar="N", help="tokens that the training shall see")
    add("--tasks", default="", help='tasks whose tokens count: "ast asr+ast" (default: all)')
    add("--targets", default="", help='target languages whose tokens count: "en" (default: all)')
    add("--output", type=Path, help="also write the counts as JSON")
    add_seed(parser)
    args = parse_with_overrides(parser, "batch.rows=7")
    config = load_config(LMConfig, args.config, args.overrides)
    data = read_data(LMInputs(args.vocabulary, args.data_dir, args.data_dir, args.tokens, args.tokens))
    count = steps_for(config, data, args.seed, args.budget, args.tasks.split(), args.targets.split())
    for task, tokens in count.by_task.items():
        print(f"{task:16s} {tokens:12d} tokens")
    print(f"training.steps={count.steps}")
    if args.output:
        write_json(args.output, vars(count))


if __name__ == "__main__":
    run(main)
