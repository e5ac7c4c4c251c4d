"""Parallel texts to data directories without audio: OUTPUT/{train,dev}, for train_lm's --text_dir and speak_texts."""

import argparse
import logging
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.parallel_text import prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True,
                        help="folder with <name>.fr-en.tsv, or <name>.fr-en.fr and <name>.fr-en.en")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if not arguments.input.is_dir():
        raise AudioPaLMError(f"{arguments.input} is no folder; give a folder with parallel texts")
    report = prepare(arguments.input, arguments.output)
    dropped = ", ".join(f"{count} {reason}" for reason, count in report["dropped"].items()) or "none"
    logging.info("wrote %s: %d pairs; dropped: %s", arguments.output, report["kept"], dropped)


if __name__ == "__main__":
    run(main)
