"""Stage 6: the text tokenizer and vocabulary.json, from the training texts and the tokens of stage 5."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.config import chosen, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object
from audiopalm.core.hub import find_pretrained
from audiopalm.core.manifest import check_manifest
from audiopalm.data.datadir import languages_of, read_table
from audiopalm.data.example_set import DATA_STAGE, UNITS_META
from audiopalm.data.index import renew_index
from audiopalm.languages import in_order
from audiopalm.lm.huggingface.pretrained import read_config, read_eos
from audiopalm.lm.importing import check_text_lm
from audiopalm.lm.lengths import write_lengths
from audiopalm.tasks import TASKS
from audiopalm.vocabulary.extension import extend_tokenizer, is_extensible
from audiopalm.vocabulary.joint import Vocabulary, load_vocabulary, make_vocabulary
from audiopalm.vocabulary.text import FILES, take_tokenizer, tokenizer_file, train_tokenizer

MAX_TEXTS = 1_000_000  # texts that pieces are learned from; SentencePiece takes 2 to 4 KB of memory for each


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
    meta, texts = read_object(tokens / "meta.json", "stage 5 (tokenize)", UNITS_META), _texts(data_dir)
    if init_lm:
        lm = find_pretrained(init_lm)
        check_text_lm(lm)
        text_size, eos = read_config(lm).vocabulary_size, read_eos(lm)
        _remove_earlier(output)
        take_tokenizer(lm, output)
        return _finish(data_dir, output, meta, list(texts), text_size, eos)
    _remove_earlier(output)
    sentences = _spread(sorted({text for in_language in texts.values() for text in in_language}))
    # The tags are part of the training texts, because the tokenizer encodes tags like any other text.
    train_tokenizer(sentences + _tags(texts) * 10, output / "text.model", config.text_size)
    return _finish(data_dir, output, meta, list(texts), None, -1)


def make_from_pack(data_dir: Path, tokens: Path, config: VocabularyConfig, pack: Path, output: Path) -> Vocabulary:
    """Write the tokenizer of a packed model, extended as `config` asks, and vocabulary.json.

    Raises AudioPaLMError if the tokens were made by other units than those of the pack.
    """
    meta, texts = read_object(tokens / "meta.json", "stage 5 (tokenize)", UNITS_META), _texts(data_dir)
    check_manifest(pack)
    known, _ = load_vocabulary(pack / "vocabulary")
    if meta["units_sha256"] != known.units_sha256:
        raise AudioPaLMError(f"{tokens} was made with units {meta['units_sha256']}, {pack} with {known.units_sha256}; "
                             "run stages 3 and 5 with the same --init_pack")
    languages = in_order({*known.languages, *texts})
    learned = [code for code in texts if config.pieces_from == "all" or code not in known.languages]
    file, added = tokenizer_file(pack / "vocabulary"), 0
    _remove_earlier(output)
    if learned and config.new_pieces and is_extensible(file):
        kept = _tags(known.languages) + [text for code in texts if code not in learned for text in texts[code]]
        new_tags = [tag for tag in _tags(languages) if tag not in set(_tags(known.languages))]
        sentences = _spread(sorted({text for code in learned for text in texts[code]}))
        added = extend_tokenizer(file, output / file.name, sentences + new_tags * 10, kept, config.new_pieces)
    else:
        take_tokenizer(pack / "vocabulary", output)
    logging.info("%s: %d text ids, %d of them new; new languages: %s", output, known.text_size + added, added,
                 " ".join(code for code in languages if code not in known.languages) or "none")
    return _finish(data_dir, output, meta, languages, known.text_size + added, known.eos)


def _remove_earlier(output: Path) -> None:
    """Remove the tokenizer of an earlier run, which may be of the other kind."""
    for name in FILES:
        (output / name).unlink(missing_ok=True)


def _finish(data_dir: Path, output: Path, meta: dict, languages: list[str], text_size: int | None,
            eos: int) -> Vocabulary:
    vocabulary = make_vocabulary(output, meta["units_size"], meta["units_sha256"], languages, text_size, eos)
    logging.info("%s: %d text ids, %d audio ids, layout %s", output, vocabulary.text_size, vocabulary.audio_size,
                 vocabulary.layout_hash)
    renew_index(data_dir, DATA_STAGE)
    write_lengths(data_dir, *load_vocabulary(output))
    return vocabulary


def _texts(data_dir: Path) -> dict[str, list[str]]:
    """{language: texts and translations in it} of a data directory, in the order of the languages."""
    languages = read_table(data_dir / "utt2lang", DATA_STAGE)
    texts: dict[str, list[str]] = {code: [] for code in (*languages.values(), *languages_of(data_dir, "text"))}
    for utterance, text in read_table(data_dir / "text", DATA_STAGE).items():
        if utterance not in languages:
            raise AudioPaLMError(f"{data_dir}/utt2lang has no line for {utterance!r}")
        texts[languages[utterance]].append(text)
    for language in languages_of(data_dir, "text"):
        texts[language] += read_table(data_dir / f"text.{language}").values()
    return {code: texts[code] for code in in_order(set(texts))}


def _spread(texts: list[str]) -> list[str]:
    """At most MAX_TEXTS of the texts, evenly spaced."""
    return texts[::max(-(-len(texts) // MAX_TEXTS), 1)]


def _tags(languages: Iterable[str]) -> list[str]:
    """All tags in these languages, sorted."""
    languages = list(languages)
    return sorted({task.tag_text(source, target) for task in TASKS.values() if task.tag
                   for source in languages for target in languages})
