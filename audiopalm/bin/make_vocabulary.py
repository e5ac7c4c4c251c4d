"""Stage 6: the joint vocabulary: text ids, then audio ids.

The text tokenizer is trained on the training texts, or taken from a text LM (--init_lm), or taken from a packed model
and extended with pieces for new languages (--init_pack)."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.core.lock import locked
from audiopalm.stages.make_vocabulary import VocabularyConfig, make_from_data, make_from_pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, required=True, help="training data directory: text, text.<language>")
    parser.add_argument("--tokens", type=Path, required=True, help="its folder of stage 5")
    parser.add_argument("--config", help="YAML of VocabularyConfig")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--init_lm", help="folder or hub id of a text LM in Hugging Face's layout: take its tokenizer")
    source.add_argument("--init_pack", type=Path, help="folder of a packed model: take and extend its tokenizer")
    parser.add_argument("--output", type=Path, required=True, help="directory for the tokenizer and vocabulary.json")
    args = parse_with_overrides(parser, "text_size=500")
    config = load_config(VocabularyConfig, args.config, args.overrides)
    with locked(args.output, "vocabulary"):
        if args.init_pack:
            make_from_pack(args.data_dir, args.tokens, config, args.init_pack, args.output)
        else:
            make_from_data(args.data_dir, args.tokens, config, args.init_lm, args.output)


if __name__ == "__main__":
    run(main)
