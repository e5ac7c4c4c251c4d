"""Stages 7 and 8: pretrain the text LM, or finetune the joint speech-text LM on the task mixture.

Without --init_lm a text LM is trained from nothing on text-only tasks; with it, that LM's vocabulary is extended by
zero audio rows and all of it is finetuned. Stopped and started again, it goes on where it was.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.data.examples import ExampleSet
from audiopalm.lm.mixture import Mixture
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.show import show_batch
from audiopalm.lm.training import LMConfig, train
from audiopalm.vocabulary.joint import load_vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="YAML of LMConfig: mixture, training, optimizer, model")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--tokens", help="tokens of --data_dir (stage 5); none for text-only training")
    parser.add_argument("--text_dir", help="a data directory of parallel texts without audio, to train on as well")
    parser.add_argument("--dev_data_dir", required=True)
    parser.add_argument("--dev_tokens")
    parser.add_argument("--dev_text_dir")
    parser.add_argument("--init_lm", help="directory of a text LM to start from")
    parser.add_argument("--output", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show_batch", action="store_true", help="print the first batch readably and stop")
    args = parse_with_overrides(parser, "training.steps=100")
    config = load_config(LMConfig, args.config, args.overrides)
    vocabulary, tokenizer = load_vocabulary(args.vocabulary)
    examples = ExampleSet(args.data_dir, args.tokens, args.text_dir)
    if args.tokens:
        vocabulary.check_units(examples.meta["units_sha256"], args.tokens)
    if args.show_batch:
        mixture = Mixture(config.mixture, examples, SequenceBuilder(vocabulary, tokenizer), config.training.row_length,
                          config.training.rows, args.seed)
        print(show_batch(next(mixture.batches()), vocabulary, tokenizer))
        return
    dev = ExampleSet(args.dev_data_dir, args.dev_tokens, args.dev_text_dir)
    if args.dev_tokens:
        vocabulary.check_units(dev.meta["units_sha256"], args.dev_tokens)
    train(config, vocabulary, tokenizer, examples, dev, Path(args.output), args.seed, args.init_lm)


if __name__ == "__main__":
    run(main)
