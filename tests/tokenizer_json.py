"""A small tokenizer.json for tests of imported text LMs."""

import pytest

TEXTS = ["one two three four", "uno dos tres cuatro", "[ASR AST S2ST MT TTS Spanish English]", "già più città"] * 20


def byte_level(file, newline: bool = True):
    """A tokenizer.json of bytes and merges, as GPT-2 and SmolLM2 have it, with a template that puts <bos> in front."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<bos>", "<end>"], show_progress=False,
        initial_alphabet=[letter for letter in alphabet if newline or letter != "\u010a"])
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 0)])
    tokenizer.enable_truncation(3)
    tokenizer.save(str(file))
    return file
