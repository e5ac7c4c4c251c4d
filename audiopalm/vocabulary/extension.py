"""More pieces for the text tokenizer of a packed model. They get the ids behind the known ones.

A text in a language that the model knows keeps its ids, so that the model answers it as before: pieces that would
change the ids of such a text are left out.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, sha256
from audiopalm.vocabulary.text import learn_pieces, tokenizer_file

# Pieces that every model of `learn_pieces` has: the bytes, <unk>, <s>, </s> and the newline.
COMMON_PIECES = 260


def is_extensible(file: Path) -> bool:
    """Whether `extend_tokenizer` can add pieces: to unigram models, as those of stage 6, not to others of text LMs."""
    return file.suffix == ".model" and _read(file).trainer_spec.model_type == _unigram()


def extend_tokenizer(file: Path, output: Path, texts: Iterable[str], known_texts: Iterable[str], number: int) -> int:
    """Write the SentencePiece model `file` with at most `number` more pieces, learned from `texts`, to `output`.

    Ids and scores of the known pieces do not change, and the ids of `known_texts` stay as they are. Returns how many
    pieces were added. Raises AudioPaLMError where `number` is less than the characters of `texts`.
    """
    old = _read(file)
    pieces = _new_pieces(old, texts, number)
    known = sorted(set(known_texts))
    while pieces:  # a piece that leaves can let another one in, so until none is used
        processor = sentencepiece.SentencePieceProcessor(model_proto=_with(old, pieces).SerializeToString())
        used = {index - len(old.pieces) for ids in processor.encode(known) for index in ids}
        if not any(index >= 0 for index in used):
            break
        pieces = [piece for index, piece in enumerate(pieces) if index not in used]
    with atomic_path(output) as temporary:
        temporary.write_bytes(_with(old, pieces).SerializeToString(deterministic=True))
    return len(pieces)


def check_extension(old_directory: Path, new_directory: Path) -> None:
    """Raise AudioPaLMError unless the tokenizer of one directory of stage 6 is that of another one with more pieces."""
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
    """Pieces with scores of a model trained on `texts` that `old` lacks. Scores stay between those of `old`, because
    SentencePiece derives the scores of unknown characters and of the newline from the lowest and the highest."""
    try:
        model = _parse(learn_pieces(texts, number + COMMON_PIECES))
    except RuntimeError as error:
        raise AudioPaLMError(f"{number} new pieces cannot be learned ({' '.join(str(error).split())[-120:]}); give "
                             "more of them, --vocabulary_args new_pieces=N, or none at all, 0") from None
    known = {piece.piece for piece in old.pieces}
    scores = [piece.score for piece in old.pieces if piece.type == piece.NORMAL]
    return [(piece.piece, min(max(piece.score, min(scores)), max(scores))) for piece in model.pieces
            if piece.type == piece.NORMAL and piece.piece not in known][:number]


def _with(old: Any, pieces: list[tuple[str, float]]) -> Any:
    model = type(old)()
    model.CopyFrom(old)
    for piece, score in pieces:
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model


def _read(file: Path) -> Any:
    return _parse(file.read_bytes())


def _parse(content: bytes) -> Any:
    from sentencepiece import sentencepiece_model_pb2
    return sentencepiece_model_pb2.ModelProto.FromString(content)


def _unigram() -> int:
    from sentencepiece import sentencepiece_model_pb2
    return sentencepiece_model_pb2.TrainerSpec.UNIGRAM
