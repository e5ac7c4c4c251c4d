"""The joint vocabulary as a Hugging Face tokenizer, in which audio ids are the tokens `<audio_0>`, `<audio_1>`, ...

transformers can then encode the prompts `[ASR Spanish]<audio_17><audio_4>` and `[MT Spanish English] uno dos`, each
with a newline after it, and decode the answers. The space is SentencePiece's, which encodes tag and text one by one.
"""

import json
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.vocabulary.joint import Vocabulary
from audiopalm.vocabulary.text import NEWLINE, sentencepiece_messages

SPACE = "\u2581"  # SentencePiece's symbol for a space


def write_tokenizer(vocabulary: Vocabulary, file: Path, directory: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json into `directory`, from the vocabulary's tokenizer `file`.

    Raises AudioPaLMError where the package tokenizers is not installed, and for a tokenizer that cannot be converted or
    extended.
    """
    try:
        from tokenizers import AddedToken
    except ImportError:
        raise AudioPaLMError("an export needs the package tokenizers, which is not installed: pip install tokenizers") \
            from None
    tokenizer = _from_json(file, vocabulary.text_size) if file.suffix == ".json" else _from_sentencepiece(file)
    # Unused rows of the text LM's embedding get tokens too, because ids must have no gap before the first audio id.
    tokenizer.add_special_tokens([f"<unused_{row}>" for row in range(tokenizer.get_vocab_size(), vocabulary.text_size)])
    tokenizer.add_tokens([AddedToken(f"<audio_{unit}>", normalized=False) for unit in range(vocabulary.audio_size)])
    if tokenizer.token_to_id("<audio_0>") != vocabulary.text_size:
        raise AudioPaLMError(f"the ids of {file} have gaps or names that are already taken: it cannot be extended by "
                             "audio tokens")
    tokenizer.save(str(directory / "tokenizer.json"))
    eos = tokenizer.id_to_token(vocabulary.eos)
    write_json(directory / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        # Rows are padded with <eos> on the left, where the attention mask hides it: an answer is appended on the right.
        "eos_token": eos, "pad_token": eos, "padding_side": "left",
        # <eos> begins a document of the text LM, but not the prompt of a task, so the tokenizer must not add it.
        "bos_token": eos, "add_bos_token": False, "model_input_names": ["input_ids", "attention_mask"]})


def _from_json(file: Path, text_size: int) -> Any:
    """A `tokenizers.Tokenizer` that adds no special tokens and has no ids beyond the rows of its text LM."""
    from tokenizers import Tokenizer
    layout = json.loads(file.read_text(encoding="utf-8"))
    layout["post_processor"] = None
    layout["added_tokens"] = [token for token in layout["added_tokens"] if token["id"] < text_size]
    return Tokenizer.from_str(json.dumps(layout))


def _from_sentencepiece(file: Path) -> Any:
    """A `tokenizers.Tokenizer` equal to the unigram model that stage 6 trains."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    model = sentencepiece_messages().ModelProto.FromString(file.read_bytes())
    if model.trainer_spec.model_type != model.trainer_spec.UNIGRAM:
        raise AudioPaLMError(f"{file} is not a unigram model, and only unigram models can be converted to "
                             "tokenizer.json; take a text LM that has a tokenizer.json")
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in model.pieces],
                                         model.trainer_spec.unk_id, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    # In training each text of a sequence is encoded separately, so it begins with a space, also after a newline.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    special = [piece.piece for piece in model.pieces if piece.type in (piece.CONTROL, piece.UNKNOWN)]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(NEWLINE, normalized=False)])
    return tokenizer
