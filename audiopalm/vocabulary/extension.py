"""New pieces for the text tokenizer of a packed model. Their ids follow the existing ids.

The texts of the languages that the model was trained on must keep their ids, so that the model answers as before: new
pieces that would change the ids of such a text are left out.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, sha256
from audiopalm.vocabulary.text import learn_pieces, sentencepiece_messages, tokenizer_file

# The number of pieces that every model of `learn_pieces` has: the bytes, <unk>, <s>, </s> and the newline.
COMMON_PIECES = 260


def is_extensible(file: Path) -> bool:
    """Whether `extend_tokenizer` can add pieces to a tokenizer: it can if this is a unigram model, as of stage 6."""
    unigram = sentencepiece_messages().TrainerSpec.UNIGRAM
    return file.suffix == ".model" and bool(_read(file).trainer_spec.model_type == unigram)


def extend_tokenizer(file: Path, output: Path, texts: Iterable[str], known_texts: Callable[[], Iterable[str]],
                     number: int) -> int:
    """Write the SentencePiece model `file` with at most `number` new pieces, learned from `texts`, to `output`.

    Ids and scores of the old pieces do not change, nor do the ids of the texts that `known_texts` returns, which is
    called several times, so that these texts need not be in memory. Returns the number of new pieces.
    Raises AudioPaLMError where `number` is less than the number of different characters in `texts`.
    """
    old = _read(file)
    pieces = _new_pieces(old, texts, number)
    while pieces:  # repeated, because known texts may use another new piece when one is removed
        processor = sentencepiece.SentencePieceProcessor(model_proto=_with(old, pieces).SerializeToString())
        used = {index - len(old.pieces) for text in known_texts() for index in processor.encode(text)}
        if not any(index >= 0 for index in used):
            break
        pieces = [piece for index, piece in enumerate(pieces) if index not in used]
    with atomic_path(output) as temporary:
        temporary.write_bytes(_with(old, pieces).SerializeToString(deterministic=True))
    return len(pieces)


def check_extension(old_directory: Path, new_directory: Path) -> None:
    """Raise AudioPaLMError unless the new tokenizer is the old one, or the old one with pieces appended.

    Both directories are those of stage 6.
    """
    old, new = tokenizer_file(old_directory), tokenizer_file(new_directory)
    if sha256(old) == sha256(new):
        return
    if old.suffix == new.suffix == ".model":
        known, all_pieces = (_read(file).pieces for file in (old, new))
        if [piece.piece for piece in known] == [piece.piece for piece in all_pieces[:len(known)]]:
            return
    raise AudioPaLMError(f"{new} does not begin with the pieces of {old}; run stage 6 (vocabulary) with the same "
                         "--init_pack")


def _new_pieces(old: Any, texts: Iterable[str], number: int) -> list[tuple[str, float]]:
    """(piece, score) of a model that is trained on `texts`, without the pieces of `old`.

    Scores are clipped to the range of the old scores, because SentencePiece derives the scores of unknown characters
    and of the newline from the lowest and the highest score.
    """
    try:
        model = _parse(learn_pieces(texts, number + COMMON_PIECES))
    except RuntimeError as error:
        raise AudioPaLMError(f"{number} new pieces cannot be learned ({' '.join(str(error).split())[-120:]}); allow "
                             "more by --vocabulary_args new_pieces=N, or none by new_pieces=0") from None
    known = {piece.piece for piece in old.pieces}
    scores = [piece.score for piece in old.pieces if piece.type == piece.NORMAL]
    return [(piece.piece, min(max(piece.score, min(scores)), max(scores))) for piece in model.pieces
            if piece.type == piece.NORMAL and piece.piece not in known][:number]


def _with(old: Any, pieces: list[tuple[str, float]]) -> Any:
    """A copy of the model `old` with the (piece, score) appended."""
    model = type(old)()
    model.CopyFrom(old)
    for piece, score in pieces:
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model


def _read(file: Path) -> Any:
    return _parse(file.read_bytes())


def _parse(content: bytes) -> Any:
    """The `ModelProto` message in the content of a SentencePiece model."""
    return sentencepiece_messages().ModelProto.FromString(content)
