"""The text tokenizer: SentencePiece, trained by stage 6 or taken from a text LM."""

from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from audiopalm.data.files import atomic_path, require
from audiopalm.errors import AudioPaLMError

NEWLINE = "\n"  # ends every part of a sequence (audiopalm/tasks.py), so it must be one token


class TextTokenizer:
    """`encode` and `decode` between text and ids 0..size-1; `eos` ends a document."""

    def __init__(self, model: str | Path):
        require(model, "stage 6 (vocabulary)")
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        self.size = self.processor.get_piece_size()
        self.eos, self.newline = self.processor.eos_id(), self.processor.piece_to_id(NEWLINE)
        if self.newline == self.processor.unk_id():
            raise AudioPaLMError(f"{model} has no newline token; train it by stage 6 (vocabulary)")

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.processor.decode([int(token) for token in ids])


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
