"""A language model on disk (config.json and model.safetensors), and the extension of its vocabulary."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from audiopalm.core.config import from_dict, to_dict
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_object, require, write_json
from audiopalm.core.weights import load_module, write_weights
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.trained import KEY, TrainedTask, trained_to_json
from audiopalm.vocabulary.joint import Vocabulary

INITIALISATIONS = ("zero", "normal", "mean")


def save_model(directory: str | Path, config: ModelConfig, weights: Mapping[str, Tensor], vocabulary_hash: str,
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
    directory = Path(directory)
    require(directory / "model.safetensors", made_by)
    settings = read_object(directory / "config.json", made_by, {"model": dict, "vocabulary_hash": str})
    vocabulary.check(settings["vocabulary_hash"], str(directory))
    config = from_dict(ModelConfig, settings["model"], str(directory / "config.json"))
    if config.vocabulary_size not in (vocabulary.text_size, vocabulary.size):
        raise AudioPaLMError(f"{directory}/config.json: vocabulary_size is {config.vocabulary_size}, the vocabulary "
                             f"has {vocabulary.text_size} text ids and {vocabulary.audio_size} audio ids")
    return load_module(lambda: Decoder(config), directory / "model.safetensors", made_by)


def extend_vocabulary(model: Decoder, number: int, initialisation: str = "zero", behind: int | None = None) -> Decoder:
    """A copy of `model` whose vocabulary has `number` more rows behind the first `behind` ones, the text rows; without
    `behind`, all rows are text (paper 3.2).

    initialisation of the new rows: `zero` as in the paper, `normal` (mean 0, the standard deviation of the text rows)
    or `mean` (the mean of the text rows). The logits of the known ids do not change, bit for bit.
    """
    if initialisation not in INITIALISATIONS:
        raise AudioPaLMError(f"unknown initialisation {initialisation!r}; {nearest(initialisation, INITIALISATIONS)}")
    extended = Decoder(replace(model.config, vocabulary_size=model.config.vocabulary_size + number))
    state = model.state_dict()
    for name in ("embedding.weight", "head.weight"):
        if name in state:
            text_rows, audio_rows = state[name][:behind], state[name][len(state[name][:behind]):]
            rows = torch.zeros(number, text_rows.shape[1])
            if initialisation == "normal":
                rows.normal_(std=float(text_rows.std()))
            elif initialisation == "mean":
                rows += text_rows.mean(dim=0)
            state[name] = torch.cat([text_rows, rows, audio_rows])
    extended.load_state_dict(state)
    return extended
