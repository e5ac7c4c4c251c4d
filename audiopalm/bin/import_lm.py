"""Stage 7 with --init_lm: bring a text LM in Hugging Face's layout into ours, as if it had been trained here."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed
from audiopalm.core.command import run
from audiopalm.lm.importing import import_text_lm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init_lm", required=True, help="its folder or hub id, the same as in stage 6")
    parser.add_argument("--vocabulary", type=Path, required=True, help="directory of stage 6")
    parser.add_argument("--output", type=Path, required=True)
    add_seed(parser, "stands in config.json; nothing is drawn")
    arguments = parser.parse_args()
    import_text_lm(arguments.init_lm, arguments.vocabulary, arguments.output, arguments.seed)


if __name__ == "__main__":
    run(main)
