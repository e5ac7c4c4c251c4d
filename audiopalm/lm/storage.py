"""A language model on disk (config.json and model.safetensors), and the extension of its vocabulary."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from audiopalm.core.config import from_dict, to_dict
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_object, require, write_json
from audiopalm.core.tensors import Stored, in_memory
from audiopalm.core.weights import build_empty, check_shapes, load_module, shapes_of, stored_weights, write_weights
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.trained import KEY, TrainedTask, trained_to_json
from audiopalm.vocabulary.joint import Vocabulary

INITIALISATIONS = ("zero", "normal", "mean")
VOCABULARY_WEIGHTS = ("embedding.weight", "head.weight")  # matrices with a row for each id


def save_model(directory: str | Path, config: ModelConfig, weights: Mapping[str, Tensor | Stored], vocabulary_hash: str,
               seed: int, trained: Iterable[TrainedTask] = ()) -> None:
    """Write config.json, then model.safetensors: if the weights exist, the model is complete."""
    write_json(Path(directory) / "config.json",
               {"model": to_dict(config), "vocabulary_hash": vocabulary_hash, "seed": seed,
                KEY: trained_to_json(trained)})
    write_weights(Path(directory) / "model.safetensors", weights)


def load_model(directory: str | Path, vocabulary: Vocabulary, made_by: str) -> Decoder:
    """The model in `directory`.

    Raises AudioPaLMError if it was trained with another vocabulary, or if its weights do not fit its config.json.
    """
    config = _read_config(Path(directory), vocabulary, made_by)
    return load_module(lambda: Decoder(config), Path(directory) / "model.safetensors", made_by)


def stored_model(directory: str | Path, vocabulary: Vocabulary, made_by: str) -> tuple[ModelConfig, dict[str, Stored]]:
    """Configuration and weights of the model in `directory`. Each weight is read when it is needed.

    Raises AudioPaLMError as `load_model` does.
    """
    path = Path(directory) / "model.safetensors"
    config = _read_config(Path(directory), vocabulary, made_by)
    weights = stored_weights(path, made_by)
    expected = shapes_of(build_empty(lambda: Decoder(config), path))
    check_shapes({name: weight.shape for name, weight in weights.items()}, expected, path)
    for name, weight in weights.items():
        if not weight.dtype.is_floating_point:
            raise AudioPaLMError(f"{path}: {name} is of type {weight.dtype}, expected is a floating-point type")
    return config, weights


def _read_config(directory: Path, vocabulary: Vocabulary, made_by: str) -> ModelConfig:
    require(directory / "model.safetensors", made_by)
    settings = read_object(directory / "config.json", made_by, {"model": dict, "vocabulary_hash": str})
    vocabulary.check(settings["vocabulary_hash"], str(directory))
    config = from_dict(ModelConfig, settings["model"], str(directory / "config.json"))
    if config.vocabulary_size not in (vocabulary.text_size, vocabulary.size):
        raise AudioPaLMError(f"{directory}/config.json: vocabulary_size is {config.vocabulary_size}, the vocabulary "
                             f"has {vocabulary.text_size} text ids and {vocabulary.audio_size} audio ids")
    return config


def extend_vocabulary(model: Decoder, number: int, initialisation: str = "zero",
                      text_rows: int | None = None) -> Decoder:
    """A copy of `model` whose vocabulary has `number` more rows; see `extended`."""
    weights = {name: in_memory(value) for name, value in model.state_dict().items()}
    config, weights = extended(model.config, weights, number, initialisation, text_rows)
    copy = build_empty(lambda: Decoder(config), "the weights")
    copy.load_state_dict({name: weight.whole().clone() for name, weight in weights.items()}, assign=True)
    return copy


def extended(config: ModelConfig, weights: Mapping[str, Stored], number: int, initialisation: str = "zero",
             text_rows: int | None = None) -> tuple[ModelConfig, dict[str, Stored]]:
    """Configuration and weights of a model whose vocabulary has `number` more rows (paper 3.2).

    text_rows: the number of text rows, after which the new rows are inserted; by default all rows are text.
    initialisation: of the new rows; `zero` as in the paper, `normal` (mean 0, the standard deviation of the text rows)
    or `mean` (the mean of the text rows). The logits of the old ids do not change, bit for bit. Raises AudioPaLMError
    for an unknown initialisation.
    """
    if initialisation not in INITIALISATIONS:
        raise AudioPaLMError(f"unknown initialisation {initialisation!r}; {nearest(initialisation, INITIALISATIONS)}")
    longer = dict(weights)
    for name in VOCABULARY_WEIGHTS:
        if number and name in longer:
            longer[name] = _with_more_rows(longer[name], number, initialisation, text_rows, named_seed(name))
    return replace(config, vocabulary_size=config.vocabulary_size + number), longer


def named_seed(name: str) -> int:
    """The seed of one weight, from torch's seed and the name. It does not depend on which other weights are drawn."""
    return int.from_bytes(hashlib.sha256(f"{torch.initial_seed()} {name}".encode()).digest()[:4], "little")


def _with_more_rows(old: Stored, number: int, initialisation: str, text_rows: int | None, seed: int) -> Stored:
    """The matrix `old`, which has a row for each id, with `number` more rows. A shard reads its own rows only."""
    start = old.shape[0] if text_rows is None else text_rows

    @cache
    def new() -> Tensor:
        rows = torch.zeros(number, old.shape[1], dtype=old.dtype)
        if initialisation == "normal":
            rows.normal_(std=float(old.rows(0, start).std()), generator=torch.Generator().manual_seed(seed))
        elif initialisation == "mean":
            rows += old.rows(0, start).mean(dim=0)
        return rows

    def rows(first: int, last: int) -> Tensor:
        parts = []
        if first < start:
            parts.append(old.rows(first, min(last, start)))
        if first < start + number and last > start:
            parts.append(new()[max(first - start, 0):last - start])
        if last > start + number:
            parts.append(old.rows(max(first - number, start), last - number))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return Stored((old.shape[0] + number, *old.shape[1:]), old.dtype, rows)
