"""Stage 7 with --init_lm: a text LM that others trained becomes a folder as if it had been trained here."""

import logging
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.core.hub import find_pretrained
from audiopalm.core.lock import locked
from audiopalm.lm.huggingface.pretrained import read_config, read_pretrained
from audiopalm.lm.storage import save_model
from audiopalm.training.record import begin, hash_model
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import tokenizer_of_lm


def import_text_lm(init_lm: str, vocabulary_dir: Path, output: Path, seed: int) -> None:
    """Write the text LM of the folder or hub id `init_lm` to `output`; `seed` stands in config.json.

    A finished output of the same LM is left alone. Raises AudioPaLMError when the vocabulary was not made from the
    tokenizer of the LM, and when `output` was made from anything else.
    """
    vocabulary, _ = load_vocabulary(vocabulary_dir)
    folder = find_pretrained(init_lm)
    if (sha256(tokenizer_of_lm(folder)) != vocabulary.text_sha256
            or read_config(folder).vocabulary_size != vocabulary.text_size):
        raise AudioPaLMError(f"{vocabulary_dir} was not made from the tokenizer of {init_lm}; run stage 6 (vocabulary) "
                             "with the same --init_lm")
    made_from = {"imported": init_lm, "model": hash_model(folder), "config": sha256(folder / "config.json"),
                 "vocabulary": vocabulary.layout_hash, "seed": seed}
    with locked(output, "import_lm"):
        if begin(output, "model.safetensors", made_from):
            model = read_pretrained(folder)
            save_model(output, model.config, model.state_dict(), vocabulary.layout_hash, seed)
            logging.info("%s: %s, %.1f M parameters, from %s", output, model.config.family,
                         sum(one.numel() for one in model.parameters()) / 1e6, init_lm)
