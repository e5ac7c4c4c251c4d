"""The joint vocabulary: text ids 0..t-1 as in the text LM, then audio ids t..t+a-1 (paper 3.2).

`vocabulary.json` states the ranges and the SHA-256 of the text tokenizer and of the audio tokenizer. Every command that
uses ids compares the layout hash and stops if it differs, because a model with a permuted vocabulary would load without
an error and generate nonsense.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from audiopalm.core.config import from_dict, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, sha256, write_json
from audiopalm.vocabulary.text import TextTokenizer, load_tokenizer, tokenizer_file


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Sizes and hashes of both tokenizers, the two end tokens, and the language codes of the training texts.

    eos: the id that ends a document. newline: the id that ends every part of a sequence except the last.
    """

    text_size: int = ranged(low=1)
    audio_size: int = ranged(low=1)
    eos: int = ranged(low=0)
    newline: int = ranged(low=0)
    text_sha256: str
    units_sha256: str
    languages: list[str]

    @property
    def size(self) -> int:
        """The number of ids, text and audio."""
        return self.text_size + self.audio_size

    @property
    def layout_hash(self) -> str:
        """A hash of everything that determines the meaning of an id."""
        layout = {key: value for key, value in asdict(self).items() if key != "languages"}
        return hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, directory: str | Path) -> None:
        """Write vocabulary.json into `directory`."""
        write_json(Path(directory) / "vocabulary.json", {**asdict(self), "layout_hash": self.layout_hash})

    def check(self, other_hash: str, what: str) -> None:
        """Raise AudioPaLMError if `other_hash`, the layout hash that `what` was made with, is not this one."""
        if other_hash != self.layout_hash:
            raise AudioPaLMError(
                f"vocabulary mismatch: {what} was made with vocabulary {other_hash}, this one is {self.layout_hash}; "
                "use the vocabulary it was trained with, or run stages 6 to 8 again"
            )

    def check_units(self, other_sha256: str, what: str) -> None:
        """Raise AudioPaLMError if the units of `what`, a folder of stage 5, are not those of this vocabulary."""
        if other_sha256 != self.units_sha256:
            raise AudioPaLMError(f"{what} was made with units {other_sha256}, the vocabulary with {self.units_sha256}; "
                                 "run stages 5 and 6 again")


def make_vocabulary(directory: str | Path, units_size: int, units_sha256: str, languages: list[str],
                    text_size: int | None = None, eos: int = -1) -> Vocabulary:
    """Append `units_size` audio ids to the text ids of the tokenizer in `directory` and save vocabulary.json.

    For the tokenizer of a text LM: text_size is the number of rows of the LM's embedding, which may exceed the number
    of ids; eos is its end-of-document id, used if the tokenizer does not state one. Raises AudioPaLMError for a
    tokenizer with more ids than text_size.
    """
    file = tokenizer_file(directory)
    tokenizer = load_tokenizer(file, eos)
    text_size = text_size or tokenizer.size
    if tokenizer.size > text_size:
        raise AudioPaLMError(f"{file} has {tokenizer.size} ids, but the text LM has {text_size} rows: they do not "
                             "belong to the same LM")
    vocabulary = Vocabulary(text_size=text_size, audio_size=units_size, eos=tokenizer.eos, newline=tokenizer.newline,
                            text_sha256=sha256(file), units_sha256=units_sha256, languages=languages)
    vocabulary.save(directory)
    return vocabulary


def load_vocabulary(directory: str | Path) -> tuple[Vocabulary, TextTokenizer]:
    """The vocabulary and its text tokenizer, from a directory of stage 6.

    Raises AudioPaLMError for a missing or damaged file, and if the tokenizer is not that of vocabulary.json.
    """
    directory = Path(directory)
    path = directory / "vocabulary.json"
    values = read_object(path, "stage 6 (vocabulary)", {"layout_hash": str})
    stated = values.pop("layout_hash")
    vocabulary = from_dict(Vocabulary, values, str(path))
    vocabulary.check(stated, str(path))
    file = tokenizer_file(directory)
    if (actual := sha256(file)) != vocabulary.text_sha256:
        raise AudioPaLMError(f"{file} has SHA-256 {actual}, vocabulary.json states {vocabulary.text_sha256}; run stage "
                             "6 (vocabulary) again")
    tokenizer = load_tokenizer(file, vocabulary.eos)
    ends = tokenizer.eos, tokenizer.newline
    if tokenizer.size > vocabulary.text_size or ends != (vocabulary.eos, vocabulary.newline):
        raise AudioPaLMError(f"{file} has {tokenizer.size} ids and ends documents by {tokenizer.eos} and parts by "
                             f"{tokenizer.newline}, which does not fit {path}; run stage 6 (vocabulary) again")
    return vocabulary, tokenizer
