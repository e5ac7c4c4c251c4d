"""The lengths of a data set's texts in tokens: int32 columns beside its index, one file for each text tokenizer.

`DATA_DIR/text_lengths.<first 16 digits of the tokenizer's SHA-256>.arrow` has a column for each text table, with the
rows of the data index; -1 stands for no text. Trainings with different vocabularies can therefore share a data
directory.
"""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.example_set import ExampleSet
from audiopalm.data.index import LENGTHS, Index, open_index, open_one, rebuild, save
from audiopalm.data.indexed import IndexedSet
from audiopalm.tasks import AUDIO_FIELDS
from audiopalm.vocabulary.joint import Vocabulary
from audiopalm.vocabulary.text import TextTokenizer


def make_lengths(part: IndexedSet, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Index:
    """Encode every text of a data directory, and return the lengths as an index that is not yet saved."""
    columns = {}
    for table in part.data.tables():
        rows = np.flatnonzero(part.has_text(table, np.arange(part.rows)))
        lengths = np.full(part.rows, -1, dtype=np.int32)
        lengths[rows] = np.fromiter((len(tokenizer.encode(part.text(table, int(row)))) for row in rows), np.int32,
                                    len(rows))
        columns[table] = pa.array(lengths)
    meta = {"tables": {}, "data": part.data.meta["hash"], "tokenizer": vocabulary.text_sha256}
    return Index(lengths_path(part.data.path.parent, vocabulary), pa.table(columns), meta)


def lengths_path(data_dir: Path, vocabulary: Vocabulary) -> Path:
    return data_dir / LENGTHS.replace("*", vocabulary.text_sha256[:16])


def write_lengths(data_dir: Path, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> None:
    """Write the lengths of the texts of a data directory. Raises AudioPaLMError if its index is too old."""
    part = IndexedSet(*open_index(data_dir, None))
    save(make_lengths(part, vocabulary, tokenizer))
    logging.info("wrote %s: %d utterances", lengths_path(data_dir, vocabulary), part.rows)


def open_lengths(part: IndexedSet, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Index:
    """The lengths of the texts of a data directory, mapped into memory.

    If the file is missing, one process makes it, and the others wait. Raises AudioPaLMError if the file belongs to
    other texts or to another tokenizer.
    """
    directory = part.data.path.parent
    advice = rebuild(directory, None)
    lengths = open_one(lengths_path(directory, vocabulary), lambda: make_lengths(part, vocabulary, tokenizer), (),
                       advice)
    if lengths.meta.get("data") != part.data.meta["hash"] or lengths.meta.get("tokenizer") != vocabulary.text_sha256:
        raise AudioPaLMError(f"{lengths.path} is of other texts or of another tokenizer; {advice}")
    return lengths


class FieldLengths:
    """The number of tokens of each field of each row of a set."""

    def __init__(self, examples: ExampleSet, vocabulary: Vocabulary, tokenizer: TextTokenizer):
        self.examples = examples
        get = open_lengths if examples.saved else make_lengths
        self._texts = {id(part): get(part, vocabulary, tokenizer) for part in examples.parts}

    def count(self, field: str, target: str | None, rows: np.ndarray) -> np.ndarray:
        """The tokens of `field` in the sorted `rows`, int64 `[N]`; -1 where a row does not have the field."""
        table = self.examples.table(field, target)
        counts = []
        for _, part, local in self.examples.split(rows):
            if field in AUDIO_FIELDS:
                counts.append(part.counts(table, local))
            else:
                texts = self._texts[id(part)]
                counts.append(texts.numbers(table)[local] if texts.has(table) else np.full(len(local), -1))
        return np.concatenate(counts).astype(np.int64) if counts else np.zeros(0, np.int64)
