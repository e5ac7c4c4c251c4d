"""Stage 7 with --init_lm or --init_pack: a trained LM becomes the folder that stage 8 starts from."""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.core.hub import find_pretrained
from audiopalm.core.lock import locked
from audiopalm.core.manifest import check_manifest
from audiopalm.core.tensors import Stored
from audiopalm.lm.huggingface.pretrained import read_config, stored_pretrained
from audiopalm.lm.initial import text_lm
from audiopalm.lm.model import ModelConfig
from audiopalm.lm.storage import extended, save_model, stored_model
from audiopalm.lm.trained import EXPORT_FILE, read_trained
from audiopalm.training.record import begin, hash_model
from audiopalm.vocabulary.extension import check_extension
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import tokenizer_of_lm


def import_text_lm(init_lm: str, vocabulary_dir: Path, output: Path, seed: int, layers: int | None = None,
                   random: bool = False) -> None:
    """Write the text LM of the folder or hub id `init_lm` to `output`; its config.json records `seed`.

    layers: only the first ones (None: all). random: a model of the same shape whose weights are drawn by the seed, the
    baseline of a comparison.

    A finished output of the same LM stays as it is. Raises AudioPaLMError if the vocabulary was not made from the
    tokenizer of the LM, and if `output` was made from another LM.
    """
    vocabulary, _ = load_vocabulary(vocabulary_dir)
    folder = find_pretrained(init_lm)
    check_text_lm(folder)
    if (sha256(tokenizer_of_lm(folder)) != vocabulary.text_sha256
            or read_config(folder).vocabulary_size != vocabulary.text_size):
        raise AudioPaLMError(f"{vocabulary_dir} was not made from the tokenizer of {init_lm}; run stage 6 (vocabulary) "
                             "with the same --init_lm")
    made_from = {"imported": init_lm, "model": hash_model(folder), "config": sha256(folder / "config.json"),
                 "vocabulary": vocabulary.layout_hash, "seed": seed, "layers": layers, "random": random or None}
    with locked(output, "import_lm"):
        if begin(output, "model.safetensors", made_from):
            config, weights = stored_pretrained(folder)
            if layers is not None:
                config, weights = first_layers(config, weights, layers)
            if random:
                torch.manual_seed(seed)
                weights = text_lm(config).weights
            save_model(output, config, weights, vocabulary.layout_hash, seed)
            logging.info("%s: %s, %.1f M parameters, from %s", output, config.family,
                         sum(math.prod(weight.shape) for weight in weights.values()) / 1e6, init_lm)


def first_layers(config: ModelConfig, weights: Mapping[str, Stored],
                 layers: int) -> tuple[ModelConfig, dict[str, Stored]]:
    """The model that has only the first `layers` blocks. Raises AudioPaLMError for more blocks than there are."""
    if not 1 <= layers <= config.layers:
        raise AudioPaLMError(f"the text LM has {config.layers} layers; cannot take {layers}")
    kept = {name: weight for name, weight in weights.items()
            if not (found := re.match(r"blocks\.(\d+)\.", name)) or int(found[1]) < layers}
    local = [layer for layer in config.local_layers if layer < layers]
    return replace(config, layers=layers, local_layers=local), kept


def check_text_lm(folder: Path) -> None:
    """Raise AudioPaLMError if `folder` is an export of our own joint LM, which would get audio rows a second time."""
    if (folder / EXPORT_FILE).exists():
        raise AudioPaLMError(f"{folder} is the export of a joint LM, which has audio ids already; to go on training "
                             "it, give the pack of its recipe: --init_pack")


def import_pack_lm(pack: Path, vocabulary_dir: Path, output: Path, seed: int) -> None:
    """Write the joint LM of a pack to `output`, with a row of zeros for each additional text id of `vocabulary_dir`.

    The logits of all old ids stay the same, bit for bit. A finished output of the same pack stays as it is. Raises
    AudioPaLMError if the vocabulary is not that of the pack with additional pieces, and if `output` was made from
    another model.
    """
    check_manifest(pack)
    (old, _), (vocabulary, _) = load_vocabulary(pack / "vocabulary"), load_vocabulary(vocabulary_dir)
    check_extension(pack / "vocabulary", vocabulary_dir)
    vocabulary.check_units(old.units_sha256, str(pack))
    made_from = {"pack": hash_model(pack / "lm"), "known": old.layout_hash, "vocabulary": vocabulary.layout_hash,
                 "seed": seed}
    with locked(output, "import_lm"):
        if begin(output, "model.safetensors", made_from):
            trained = read_trained(pack / "lm")
            config, weights = stored_model(pack / "lm", old, "stage 8 (finetune)")
            if config.vocabulary_size != old.size:
                raise AudioPaLMError(f"{pack}/lm has {config.vocabulary_size} ids, {pack}/vocabulary "
                                     f"{old.size}: it is no joint LM; make the pack by stage 14")
            number = vocabulary.text_size - old.text_size
            config, weights = extended(config, weights, number, text_rows=old.text_size)
            save_model(output, config, weights, vocabulary.layout_hash, seed, trained)
            logging.info("%s: the LM of %s with %d more text ids", output, pack, number)
