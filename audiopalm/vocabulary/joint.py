"""The joint vocabulary: text ids 0..t-1 as the text LM has them, audio ids t..t+a-1 after them (paper 3.2).

`vocabulary.json` states the ranges and the SHA-256 of the text tokenizer and of the audio tokenizer. Everything that
uses ids compares the layout hash and stops when it differs: a permuted vocabulary loads without an error and speaks
nonsense.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from audiopalm.core.config import from_dict, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, sha256, write_json
from audiopalm.vocabulary.text import TextTokenizer, load_tokenizer, tokenizer_file


@dataclass(frozen=True)
class Vocabulary:
    """Sizes, hashes, the two ids that end things, and the codes of the languages of the training texts."""

    text_size: int = ranged(low=1)
    audio_size: int = ranged(low=1)
    eos: int = ranged(low=0)
    newline: int = ranged(low=0)
    text_sha256: str
    units_sha256: str
    languages: list[str]

    @property
    def size(self) -> int:
        return self.text_size + self.audio_size

    @property
    def layout_hash(self) -> str:
        layout = {key: value for key, value in asdict(self).items() if key != "languages"}
        return hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, directory: str | Path) -> None:
        write_json(Path(directory) / "vocabulary.json", {**asdict(self), "layout_hash": self.layout_hash})

    def check(self, other_hash: str, what: str) -> None:
        if other_hash != self.layout_hash:
            raise AudioPaLMError(
                f"vocabulary mismatch: {what} was made with vocabulary {other_hash}, this one is {self.layout_hash}; "
                "use the vocabulary it was trained with, or run stages 6 to 8 again"
            )

    def check_units(self, other_sha256: str, what: str) -> None:
        """The units of `what`, a folder of stage 5, must be those of this vocabulary."""
        if other_sha256 != self.units_sha256:
            raise AudioPaLMError(f"{what} was made with units {other_sha256}, the vocabulary with {self.units_sha256}; "
                                 "run stages 5 and 6 again")


def make_vocabulary(directory: str | Path, units_size: int, units_sha256: str, languages: list[str],
                    text_size: int | None = None, eos: int = -1) -> Vocabulary:
    """Lay `units_size` audio ids behind the text ids of the tokenizer in `directory` and save vocabulary.json.

    For the tokenizer of a text LM: `text_size` is how many rows its embedding has, which may be more than the tokenizer
    has ids; `eos` its end of a document, where the tokenizer does not state it.
    """
    file = tokenizer_file(directory)
    tokenizer = load_tokenizer(file, eos)
    text_size = text_size or tokenizer.size
    if tokenizer.size > text_size:
        raise AudioPaLMError(f"{file} has {tokenizer.size} ids, the text LM {text_size} rows: they are not of one LM")
    vocabulary = Vocabulary(text_size, units_size, tokenizer.eos, tokenizer.newline, sha256(file), units_sha256,
                            languages)
    vocabulary.save(directory)
    return vocabulary


def load_vocabulary(directory: str | Path) -> tuple[Vocabulary, TextTokenizer]:
    """The vocabulary and its text tokenizer; raises AudioPaLMError when the tokenizer is another one."""
    directory = Path(directory)
    path = directory / "vocabulary.json"
    values = read_object(path, "stage 6 (vocabulary)", {"layout_hash": str})
    stated = values.pop("layout_hash")
    vocabulary = from_dict(Vocabulary, values, str(path))
    vocabulary.check(stated, str(path))
    file = tokenizer_file(directory)
    if (found := sha256(file)) != vocabulary.text_sha256:
        raise AudioPaLMError(f"{file} has SHA-256 {found}, vocabulary.json says {vocabulary.text_sha256}")
    tokenizer = load_tokenizer(file, vocabulary.eos)
    ends = tokenizer.eos, tokenizer.newline
    if tokenizer.size > vocabulary.text_size or ends != (vocabulary.eos, vocabulary.newline):
        raise AudioPaLMError(f"{file} has {tokenizer.size} ids and ends documents by {tokenizer.eos} and parts by "
                             f"{tokenizer.newline}, which does not fit {path}; run stage 6 (vocabulary) again")
    return vocabulary, tokenizer
