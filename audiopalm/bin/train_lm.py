"""Stages 7 and 8: pretrain the text LM, or finetune the joint speech-text LM on the task mixture.

Without --init_lm a text LM is trained from scratch on text-only tasks. With it, that LM is trained further; a text LM
gets audio rows first. After an interruption, the same command resumes from the last checkpoint.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.lm.training import LMConfig, SetPaths, first_batch, read_data, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="YAML of LMConfig: mixture, training, optimizer, model")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--tokens", help="tokens of --data_dir (stage 5); none for text-only training")
    parser.add_argument("--distorted_data_dir", nargs="*", default=[], help="distorted copies of it (bin.distort)")
    parser.add_argument("--distorted_tokens", nargs="*", default=[], help="their tokens, in the same order")
    parser.add_argument("--text_dir", help="a data directory of parallel texts without audio, to train on as well")
    parser.add_argument("--dev_data_dir", required=True)
    parser.add_argument("--dev_tokens")
    parser.add_argument("--dev_text_dir")
    parser.add_argument("--init_lm", help="directory of the LM to start from, a text LM or one with audio rows")
    parser.add_argument("--output", required=True)
    add_seed(parser)
    parser.add_argument("--show_batch", action="store_true", help="print the first batch in readable form and stop")
    args = parse_with_overrides(parser, "training.steps=100")
    config = load_config(LMConfig, args.config, args.overrides)
    if len(args.distorted_data_dir) != len(args.distorted_tokens):
        parser.error("--distorted_tokens must name as many folders as --distorted_data_dir")
    distorted = tuple(zip(args.distorted_data_dir, args.distorted_tokens, strict=True))
    data = read_data(args.vocabulary, SetPaths(args.data_dir, args.tokens, args.text_dir, distorted),
                     SetPaths(args.dev_data_dir, args.dev_tokens, args.dev_text_dir), args.init_lm)
    if args.show_batch:
        return print(first_batch(config, data, args.seed))
    train(config, data, Path(args.output), args.seed)


if __name__ == "__main__":
    run(main)
