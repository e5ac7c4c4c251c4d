"""Text tokenizers: a SentencePiece model (of stage 6 or of a text LM), or the tokenizer.json of a text LM."""

import importlib
import io
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Protocol

import sentencepiece

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require

NEWLINE = "\n"  # ends every part of a sequence (audiopalm/tasks.py), so it must be one token
NEWLINE_BYTE = "<0x0A>"  # the name of the newline in tokenizers with byte tokens
FILES = ("text.model", "tokenizer.json")  # the tokenizer in the directory of stage 6: SentencePiece, JSON


class TextTokenizer(Protocol):
    """Conversion between texts and ids 0..size-1. The id `eos` ends a document, `newline` a part of a sequence."""

    size: int
    eos: int
    newline: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text; no special tokens are added."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of ids. Ids without a token (unused rows of an embedding) are skipped."""
        ...


class SentencePieceTokenizer:
    """A SentencePiece model, which states its own end-of-document id.

    Raises AudioPaLMError for a file that is no SentencePiece model, and for a model without a newline token.
    """

    def __init__(self, file: str | Path):
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError):
            raise AudioPaLMError(f"{file} is not a SentencePiece model") from None
        if self.processor.get_piece_size() == 0 or self.processor.eos_id() < 0:
            raise AudioPaLMError(f"{file} is a damaged SentencePiece model: it has no token that ends a document")
        self.size, self.eos = self.processor.get_piece_size(), self.processor.eos_id()
        newlines = [self.processor.piece_to_id(piece) for piece in (NEWLINE, NEWLINE_BYTE)]
        newlines = [token for token in newlines if token != self.processor.unk_id()]
        if not newlines:
            raise AudioPaLMError(f"{file} has no newline token, which ends the parts of a sequence; take a text LM "
                                 "that has one, or train the tokenizer by stage 6 (vocabulary)")
        self.newline = newlines[0]

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.processor.decode([int(token) for token in ids if token < self.size])


class JsonTokenizer:
    """A tokenizer.json of the library `tokenizers`. Such a file does not state its end-of-document id, `eos`.

    Raises AudioPaLMError where the library is not installed, for a damaged file, and for one without a newline token.
    """

    def __init__(self, file: str | Path, eos: int):
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise AudioPaLMError(f"{file} is read by the package tokenizers, which is not installed: "
                                 "pip install tokenizers") from None
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exceptions
            raise AudioPaLMError(f"{file} is not a tokenizer.json: {' '.join(str(error).split())}") from None
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.size, self.eos = self.tokenizer.get_vocab_size(with_added_tokens=False), eos
        ids = self.encode(NEWLINE)
        newline = ids[0] if len(ids) == 1 else self.tokenizer.token_to_id(NEWLINE_BYTE)
        if newline is None:
            raise AudioPaLMError(f"{file}: a newline is {len(ids)} tokens, but must be one, because it ends the parts "
                                 "of a sequence; take a text LM that has a newline token")
        self.newline = newline

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode([int(token) for token in ids])


def tokenizer_file(directory: str | Path) -> Path:
    """The tokenizer file in the directory of stage 6. Raises AudioPaLMError where there is none."""
    for name in FILES:
        if (Path(directory) / name).exists():
            return Path(directory) / name
    return require(Path(directory) / FILES[0], "stage 6 (vocabulary)")


def load_tokenizer(file: Path, eos: int) -> TextTokenizer:
    """The tokenizer in `file`. `eos` is used if the file does not state an end-of-document id."""
    return JsonTokenizer(file, eos) if file.suffix == ".json" else SentencePieceTokenizer(file)


def tokenizer_of_lm(lm: Path) -> Path:
    """The tokenizer file of a text LM in Hugging Face's layout, or of a directory of stage 6.

    Raises AudioPaLMError where there is none.
    """
    for name in ("tokenizer.json", "tokenizer.model", "text.model"):
        if (lm / name).exists():
            return lm / name
    raise AudioPaLMError(f"{lm} has neither tokenizer.json nor tokenizer.model; a text LM is used with its tokenizer")


def sentencepiece_messages() -> ModuleType:
    """The module with SentencePiece's protocol buffer messages, such as `ModelProto`.

    It is imported by name: it makes its classes when it is imported, so that type checkers do not see them.
    """
    return importlib.import_module("sentencepiece.sentencepiece_model_pb2")


def take_tokenizer(lm: Path, directory: Path) -> None:
    """Copy the tokenizer of a text LM, or of another directory of stage 6, into the directory of stage 6."""
    file = tokenizer_of_lm(lm)
    with atomic_path(directory / ("tokenizer.json" if file.suffix == ".json" else "text.model")) as temporary:
        shutil.copyfile(file, temporary)


def train_tokenizer(texts: Iterable[str], model: str | Path, size: int) -> None:
    """Train a unigram SentencePiece model of at most `size` pieces and write it to `model`; see `learn_pieces`."""
    with atomic_path(model) as temporary:
        temporary.write_bytes(learn_pieces(texts, size))


def learn_pieces(texts: Iterable[str], size: int) -> bytes:
    """Train a unigram SentencePiece model of at most `size` pieces; return the content of its file.

    Byte fallback makes every text encodable. Texts are not normalised, because tags have brackets and capitals. Raises
    RuntimeError where `size` is less than the number of different characters.
    """
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=stream, vocab_size=size, hard_vocab_limit=False,
        character_coverage=1.0, byte_fallback=True, normalization_rule_name="identity",
        user_defined_symbols=[NEWLINE], pad_id=-1, unk_id=0, bos_id=1, eos_id=2,
        num_threads=1, minloglevel=2,
    )
    return stream.getvalue()
