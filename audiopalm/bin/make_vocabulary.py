"""Stage 6: train a text tokenizer on the training texts, or take that of a text LM, and lay the audio ids behind."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.core.files import read_json
from audiopalm.core.hub import find_pretrained
from audiopalm.data.datadir import languages_of, read_table
from audiopalm.data.examples import DATA_STAGE
from audiopalm.languages import in_order
from audiopalm.lm.huggingface.pretrained import read_config, read_eos
from audiopalm.tasks import TASKS
from audiopalm.vocabulary.joint import make_vocabulary
from audiopalm.vocabulary.text import FILES, take_tokenizer, train_tokenizer


@dataclass
class VocabularyConfig:
    text_size: int = 1000  # at most; SentencePiece stops earlier when the text has fewer pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="training data directory: text, text.<language>")
    parser.add_argument("--tokens", required=True, help="its tokens (stage 5): size and hash of the units")
    parser.add_argument("--config", help="YAML of VocabularyConfig")
    parser.add_argument("--init_lm", help="folder or hub id of a text LM in Hugging Face's layout: take its tokenizer")
    parser.add_argument("--output", required=True, help="directory for the tokenizer and vocabulary.json")
    args = parser.parse_args()
    config = load_config(VocabularyConfig, args.config)
    meta = read_json(Path(args.tokens) / "meta.json", "stage 5 (tokenize)")
    data_dir, output = Path(args.data_dir), Path(args.output)
    languages = in_order({*read_table(data_dir / "utt2lang", DATA_STAGE).values(), *languages_of(data_dir, "text")})
    text_size, eos = None, -1
    if args.init_lm:
        lm = find_pretrained(args.init_lm)
        text_size, eos = read_config(lm).vocabulary_size, read_eos(lm)
    for name in FILES:  # of an earlier run, perhaps of the other kind
        (output / name).unlink(missing_ok=True)
    if args.init_lm:
        take_tokenizer(lm, output)
    else:
        _train(data_dir, languages, output / "text.model", config.text_size)
    vocabulary = make_vocabulary(output, meta["units_size"], meta["units_sha256"], languages, text_size, eos)
    logging.info("%s: %d text ids, %d audio ids, layout %s", output, vocabulary.text_size, vocabulary.audio_size,
                 vocabulary.layout_hash)


def _train(data_dir: Path, languages: list[str], model: Path, size: int) -> None:
    texts = list(read_table(data_dir / "text", DATA_STAGE).values())
    for language in languages_of(data_dir, "text"):
        texts += read_table(data_dir / f"text.{language}").values()
    # A tag is text like any other; the tokenizer must have met its words.
    tags = [task.tag_text(source, target) for task in TASKS.values() if task.tag
            for source in languages for target in languages]
    train_tokenizer(sorted(set(texts)) + sorted(set(tags)) * 10, model, size)


if __name__ == "__main__":
    run(main)
