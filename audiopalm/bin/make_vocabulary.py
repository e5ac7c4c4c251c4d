"""Stage 6: train the text tokenizer on the training texts and lay the audio ids behind it."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from audiopalm.bin.common import run
from audiopalm.config import load_config
from audiopalm.data.datadir import languages_of, read_table
from audiopalm.data.examples import DATA_STAGE
from audiopalm.data.files import read_json
from audiopalm.languages import in_order
from audiopalm.tasks import TASKS
from audiopalm.tokenizers.text import train_tokenizer
from audiopalm.tokenizers.vocabulary import make_vocabulary


@dataclass
class VocabularyConfig:
    text_size: int = 1000  # at most; SentencePiece stops earlier when the text has fewer pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="training data directory: text, text.<language>")
    parser.add_argument("--tokens", required=True, help="its tokens (stage 5): size and hash of the units")
    parser.add_argument("--config", help="YAML of VocabularyConfig")
    parser.add_argument("--output", required=True, help="directory for text.model and vocabulary.json")
    args = parser.parse_args()
    config = load_config(VocabularyConfig, args.config)
    meta = read_json(Path(args.tokens) / "meta.json", "stage 5 (tokenize)")
    data_dir = Path(args.data_dir)
    texts = list(read_table(data_dir / "text", DATA_STAGE).values())
    for language in languages_of(data_dir, "text"):
        texts += read_table(data_dir / f"text.{language}").values()
    languages = in_order({*read_table(data_dir / "utt2lang", DATA_STAGE).values(), *languages_of(data_dir, "text")})
    # A tag is text like any other; the tokenizer must have met its words.
    tags = [task.tag_text(source, target) for task in TASKS.values() if task.tag
            for source in languages for target in languages]
    train_tokenizer(sorted(set(texts)) + sorted(set(tags)) * 10, Path(args.output) / "text.model", config.text_size)
    vocabulary = make_vocabulary(args.output, meta["units_size"], meta["units_sha256"], languages)
    logging.info("%s: %d text ids from %d texts, %d audio ids, layout %s", args.output, vocabulary.text_size,
                 len(set(texts)), vocabulary.audio_size, vocabulary.layout_hash)


if __name__ == "__main__":
    run(main)
