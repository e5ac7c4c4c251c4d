"""Text tokenizers: SentencePiece, trained by stage 6 or taken from a text LM; or a text LM's tokenizer.json."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import sentencepiece

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require

NEWLINE = "\n"  # ends every part of a sequence (audiopalm/tasks.py), so it must be one token
NEWLINE_BYTE = "<0x0A>"  # how tokenizers with a token for each byte call it
FILES = ("text.model", "tokenizer.json")  # what the tokenizer is called in the directory of stage 6, by kind


class TextTokenizer(Protocol):
    """`encode` and `decode` between text and ids 0..size-1; `eos` ends a document. Special tokens are never added."""

    size: int
    eos: int
    newline: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: list[int]) -> str:
        """Ids that the tokenizer does not have, of rows that only fill up an embedding, are nothing."""
        ...


class SentencePieceTokenizer:
    def __init__(self, file: str | Path):
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError):
            raise AudioPaLMError(f"{file} is not a SentencePiece model") from None
        if self.processor.get_piece_size() == 0 or self.processor.eos_id() < 0:
            raise AudioPaLMError(f"{file} is a damaged SentencePiece model: it has no token that ends a document")
        self.size, self.eos = self.processor.get_piece_size(), self.processor.eos_id()
        known = [self.processor.piece_to_id(piece) for piece in (NEWLINE, NEWLINE_BYTE)]
        known = [token for token in known if token != self.processor.unk_id()]
        if not known:
            raise AudioPaLMError(f"{file} has no newline token, which ends the parts of a sequence; take a text LM "
                                 "that has one, or train the tokenizer by stage 6 (vocabulary)")
        self.newline = known[0]

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.processor.decode([int(token) for token in ids if token < self.size])


class JsonTokenizer:
    """A tokenizer.json of the library `tokenizers`, which does not say which of its tokens ends a document."""

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
    """The tokenizer in the directory of stage 6, of whichever kind it is."""
    found = [Path(directory) / name for name in FILES if (Path(directory) / name).exists()]
    return found[0] if found else require(Path(directory) / FILES[0], "stage 6 (vocabulary)")


def load_tokenizer(file: Path, eos: int) -> TextTokenizer:
    """`eos` is for the kind that does not state it."""
    return JsonTokenizer(file, eos) if file.suffix == ".json" else SentencePieceTokenizer(file)


def tokenizer_of_lm(lm: Path) -> Path:
    """The tokenizer of a text LM in Hugging Face's layout."""
    for name in ("tokenizer.json", "tokenizer.model"):
        if (lm / name).exists():
            return lm / name
    raise AudioPaLMError(f"{lm} has neither tokenizer.json nor tokenizer.model, without which a text LM is of no use")


def take_tokenizer(lm: Path, directory: Path) -> None:
    """Copy the tokenizer of a text LM into the directory of stage 6."""
    file = tokenizer_of_lm(lm)
    with atomic_path(directory / ("tokenizer.json" if file.suffix == ".json" else "text.model")) as temporary:
        shutil.copyfile(file, temporary)


def train_tokenizer(texts: Iterable[str], model: str | Path, size: int) -> None:
    """Train a unigram SentencePiece model of at most `size` pieces and write it to `model`.

    Byte fallback makes every text encodable; the text itself is left as it is (identity normalisation), because
    tags carry brackets and capitals.
    """
    with atomic_path(model) as temporary:
        with open(temporary, "wb") as stream:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts), model_writer=stream, vocab_size=size, hard_vocab_limit=False,
                character_coverage=1.0, byte_fallback=True, normalization_rule_name="identity",
                user_defined_symbols=[NEWLINE], pad_id=-1, unk_id=0, bos_id=1, eos_id=2,
                num_threads=1, minloglevel=2,
            )
