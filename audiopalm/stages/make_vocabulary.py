"""Stage 6: the text tokenizer and vocabulary.json, from the training texts and the tokens of stage 5."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from audiopalm.core.config import chosen, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, require
from audiopalm.core.hub import find_pretrained
from audiopalm.core.manifest import check_manifest
from audiopalm.data.example_set import DATA_STAGE, UNITS_META
from audiopalm.data.index import open_index, renew_index
from audiopalm.data.indexed import IndexedSet
from audiopalm.languages import in_order
from audiopalm.lm.huggingface.pretrained import read_config, read_eos
from audiopalm.lm.importing import check_text_lm
from audiopalm.lm.lengths import write_lengths
from audiopalm.tasks import TASKS
from audiopalm.vocabulary.extension import extend_tokenizer, is_extensible
from audiopalm.vocabulary.joint import Vocabulary, load_vocabulary, make_vocabulary
from audiopalm.vocabulary.text import FILES, take_tokenizer, tokenizer_file, train_tokenizer

MAX_TEXTS = 100_000  # texts that pieces are learned from; SentencePiece takes 1 to 4 KB of memory for each


@dataclass
class VocabularyConfig:
    """The text tokenizer: its size when it is trained, and how a pack's tokenizer is extended."""

    text_size: int = ranged(1000, low=1, high=10 ** 6)  # maximum; SentencePiece makes fewer pieces from few texts
    new_pieces: int = ranged(500, low=0, high=10 ** 6)  # maximum number of pieces added to the tokenizer of a pack
    # New pieces are learned from texts in languages that the pack lacks, or from all texts. With `all` the texts of
    # known languages get other ids, and the model has to learn them again.
    pieces_from: str = chosen("new_languages", ("new_languages", "all"))


def make_from_data(data_dir: Path, tokens: Path, config: VocabularyConfig, init_lm: str | None,
                   output: Path) -> Vocabulary:
    """Write the tokenizer and vocabulary.json. The tokenizer is taken from the text LM `init_lm`, or trained.

    data_dir: the data directory of the training set. tokens: its folder of stage 5. init_lm: a folder or hub id. Raises
    AudioPaLMError for missing inputs and for a text LM that cannot be imported.
    """
    meta, texts = read_object(tokens / "meta.json", "stage 5 (tokenize)", UNITS_META), Texts(data_dir)
    if init_lm:
        lm = find_pretrained(init_lm)
        check_text_lm(lm)
        text_size, eos = read_config(lm).vocabulary_size, read_eos(lm)
        _remove_earlier(output)
        take_tokenizer(lm, output)
        return _finish(data_dir, output, meta, texts.languages, text_size, eos)
    sentences = sample(texts.of(texts.languages))
    # The tags are part of the training texts, because the tokenizer encodes tags like any other text.
    try:
        train_tokenizer(sentences + _tags(texts.languages) * 10, output / "text.model", config.text_size)
    except RuntimeError as error:
        raise AudioPaLMError(f"text_size {config.text_size} is too small for the characters of {data_dir} "
                             f"({' '.join(str(error).split())[-120:]}); raise it by --vocabulary_args text_size=N"
                             ) from None
    _remove_earlier(output, except_for="text.model")
    return _finish(data_dir, output, meta, texts.languages, None, -1)


def make_from_pack(data_dir: Path, tokens: Path, config: VocabularyConfig, pack: Path, output: Path) -> Vocabulary:
    """Write the tokenizer of a packed model, extended as `config` asks, and vocabulary.json.

    Raises AudioPaLMError if the tokens were made by other units than those of the pack.
    """
    meta, texts = read_object(tokens / "meta.json", "stage 5 (tokenize)", UNITS_META), Texts(data_dir)
    check_manifest(pack)
    known, _ = load_vocabulary(pack / "vocabulary")
    if meta["units_sha256"] != known.units_sha256:
        raise AudioPaLMError(f"{tokens} was made with units {meta['units_sha256']}, {pack} with {known.units_sha256}; "
                             "run stages 3 and 5 with the same --init_pack")
    languages = in_order({*known.languages, *texts.languages})
    learned = [code for code in texts.languages if config.pieces_from == "all" or code not in known.languages]
    file, added = tokenizer_file(pack / "vocabulary"), 0
    _remove_earlier(output)
    if learned and config.new_pieces and is_extensible(file):
        def kept() -> Iterator[str]:
            yield from _tags(known.languages)
            yield from texts.of(code for code in texts.languages if code not in learned)

        new_tags = [tag for tag in _tags(languages) if tag not in set(_tags(known.languages))]
        sentences = sample(texts.of(learned)) + new_tags * 10
        added = extend_tokenizer(file, output / file.name, sentences, kept, config.new_pieces)
    else:
        take_tokenizer(pack / "vocabulary", output)
    logging.info("%s: %d text ids, %d of them new; new languages: %s", output, known.text_size + added, added,
                 " ".join(code for code in languages if code not in known.languages) or "none")
    return _finish(data_dir, output, meta, languages, known.text_size + added, known.eos)


def _remove_earlier(output: Path, except_for: str = "") -> None:
    """Remove the tokenizer of an earlier run, which may be of the other kind, except for the new one."""
    for name in FILES:
        if name != except_for:
            (output / name).unlink(missing_ok=True)


def _finish(data_dir: Path, output: Path, meta: dict, languages: list[str], text_size: int | None,
            eos: int) -> Vocabulary:
    vocabulary = make_vocabulary(output, meta["units_size"], meta["units_sha256"], languages, text_size, eos)
    logging.info("%s: %d text ids, %d audio ids, layout %s", output, vocabulary.text_size, vocabulary.audio_size,
                 vocabulary.layout_hash)
    write_lengths(data_dir, *load_vocabulary(output))
    return vocabulary


class Texts:
    """The texts of a data directory, and its `languages` in the order of audiopalm/languages.py.

    Texts are read by the index of the directory, which is made if needed. Raises AudioPaLMError as `write_index` does.
    """

    def __init__(self, data_dir: Path):
        require(data_dir / "text", DATA_STAGE)
        renew_index(data_dir, DATA_STAGE)
        self._set = IndexedSet(open_index(data_dir, None)[0])
        translations = {table.partition(".")[2] for table in self._set.data.tables()} - {""}
        self.languages = in_order({*self._set.data.languages, *translations})

    def of(self, languages: Iterable[str]) -> Iterator[str]:
        """The transcripts and translations in `languages`; only one of them is in memory at a time."""
        for code in languages:
            tables = {"text": self._set.rows_of_language(code), f"text.{code}": np.arange(self._set.rows)}
            for table, rows in tables.items():
                for row in rows[self._set.has_text(table, rows)]:
                    yield self._set.text(table, int(row))


def sample(texts: Iterable[str]) -> list[str]:
    """The distinct `texts`, sorted; of more than MAX_TEXTS, those with the smallest hashes.

    So the sample is random, and does not depend on the order of the texts. A quarter more is in memory at most.
    """
    chosen: dict[bytes, str] = {}
    limit = b"\xff" * 8
    for text in texts:
        key = blake2b(text.encode(), digest_size=8).digest()
        if key <= limit:
            chosen[key] = text
        if len(chosen) > MAX_TEXTS * 5 // 4:
            limit = sorted(chosen)[MAX_TEXTS - 1]
            chosen = {key: text for key, text in chosen.items() if key <= limit}
    return sorted(chosen[key] for key in sorted(chosen)[:MAX_TEXTS])


def _tags(languages: Iterable[str]) -> list[str]:
    """All tags in these languages, sorted."""
    languages = list(languages)
    return sorted({task.tag_text(source, target) for task in TASKS.values() if task.tag
                   for source in languages for target in languages})
