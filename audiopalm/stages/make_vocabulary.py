"""Stage 6: the text tokenizer and vocabulary.json, from the training texts and the tokens of stage 5."""

import logging
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.config import ranged
from audiopalm.core.files import read_object
from audiopalm.core.hub import find_pretrained
from audiopalm.data.datadir import languages_of, read_table
from audiopalm.data.examples import DATA_STAGE, UNITS_META
from audiopalm.languages import in_order
from audiopalm.lm.huggingface.pretrained import read_config, read_eos
from audiopalm.tasks import TASKS
from audiopalm.vocabulary.joint import make_vocabulary
from audiopalm.vocabulary.text import FILES, take_tokenizer, train_tokenizer


@dataclass
class VocabularyConfig:
    text_size: int = ranged(1000, low=1, high=10 ** 6)  # at most; SentencePiece stops where the text has fewer pieces


def make_from_data(data_dir: Path, tokens: Path, config: VocabularyConfig, init_lm: str | None, output: Path) -> None:
    """Write the tokenizer, trained on the texts of `data_dir` or that of the text LM `init_lm`, and vocabulary.json."""
    meta = read_object(tokens / "meta.json", "stage 5 (tokenize)", UNITS_META)
    languages = in_order({*read_table(data_dir / "utt2lang", DATA_STAGE).values(), *languages_of(data_dir, "text")})
    text_size, eos = None, -1
    if init_lm:
        lm = find_pretrained(init_lm)
        text_size, eos = read_config(lm).vocabulary_size, read_eos(lm)
    for name in FILES:  # of an earlier run, perhaps of the other kind
        (output / name).unlink(missing_ok=True)
    if init_lm:
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
