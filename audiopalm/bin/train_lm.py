"""Stages 7 and 8: pretrain the text LM, or finetune the joint speech-text LM on the task mixture.

Without --init_lm a text LM is trained from scratch on text-only tasks. With it, that LM is trained further; a text LM
gets audio rows first. After an interruption, the same command resumes from the last checkpoint.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, options_of, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.lm.training import LMConfig, LMInputs, first_batch, read_data, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, text in (("config", "YAML of LMConfig: mixture, training, optimizer, model"), ("output", "e.g. exp/lm"),
                       ("vocabulary", "directory of stage 6"), ("data_dir", "train set"), ("dev_data_dir", "dev set")):
        parser.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--tokens", help="tokens of --data_dir (stage 5); none for text-only training")
    parser.add_argument("--distorted_data_dir", nargs="*", default=[], help="distorted copies of it (bin.distort)")
    parser.add_argument("--distorted_tokens", nargs="*", default=[], help="their tokens, in the same order")
    parser.add_argument("--text_dir", help="a data directory of parallel texts without audio, to train on as well")
    parser.add_argument("--dev_tokens")
    parser.add_argument("--dev_text_dir")
    parser.add_argument("--init_lm", help="directory of the LM to start from, a text LM or one with audio rows")
    add_seed(parser)
    parser.add_argument("--show_batch", action="store_true", help="print the first batch in readable form and stop")
    args = parse_with_overrides(parser, "training.steps=100")
    config = load_config(LMConfig, args.config, args.overrides)
    data = read_data(options_of(LMInputs, args))
    if args.show_batch:
        return print(first_batch(config, data, args.seed))
    train(config, data, Path(args.output), args.seed)


if __name__ == "__main__":
    run(main)
