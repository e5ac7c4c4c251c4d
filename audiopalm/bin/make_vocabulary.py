"""Stage 6: train a text tokenizer on the training texts, or take that of a text LM, and lay the audio ids behind."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.stages.make_vocabulary import VocabularyConfig, make_from_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, required=True, help="training data directory: text, text.<language>")
    parser.add_argument("--tokens", type=Path, required=True, help="its tokens (stage 5): size and hash of the units")
    parser.add_argument("--config", help="YAML of VocabularyConfig")
    parser.add_argument("--init_lm", help="folder or hub id of a text LM in Hugging Face's layout: take its tokenizer")
    parser.add_argument("--output", type=Path, required=True, help="directory for the tokenizer and vocabulary.json")
    args = parse_with_overrides(parser, "text_size=500")
    config = load_config(VocabularyConfig, args.config, args.overrides)
    make_from_data(args.data_dir, args.tokens, config, args.init_lm, args.output)


if __name__ == "__main__":
    run(main)
