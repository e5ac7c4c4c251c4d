"""A language model on disk: config.json and model.safetensors; and how a text LM grows audio rows."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiopalm.core.config import from_dict, to_dict
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import atomic_path, read_json, require, write_json
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.trained import KEY, TrainedTask, trained_to_json
from audiopalm.vocabulary.joint import Vocabulary

INITIALISATIONS = ("zero", "normal", "mean")


def save_model(directory: str | Path, config: ModelConfig, weights: Mapping[str, Tensor], vocabulary_hash: str,
               seed: int, trained: Iterable[TrainedTask] = ()) -> None:
    """config.json first: the presence of the weights says that the model is whole."""
    write_json(Path(directory) / "config.json",
               {"model": to_dict(config), "vocabulary_hash": vocabulary_hash, "seed": seed,
                KEY: trained_to_json(trained)})
    with atomic_path(Path(directory) / "model.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, str(temporary))


def load_model(directory: str | Path, vocabulary: Vocabulary, made_by: str) -> Decoder:
    """The model of `directory`; its vocabulary must be `vocabulary`, by hash and by size."""
    directory = Path(directory)
    require(directory / "model.safetensors", made_by)
    settings = read_json(directory / "config.json", made_by)
    vocabulary.check(settings["vocabulary_hash"], str(directory))
    model = Decoder(from_dict(ModelConfig, settings["model"], str(directory / "config.json")))
    try:
        model.load_state_dict(load_file(directory / "model.safetensors"))
    except RuntimeError as error:
        raise AudioPaLMError(f"{directory}/model.safetensors does not fit its config.json: {error}") from None
    return model


def extend_vocabulary(model: Decoder, audio_size: int, initialisation: str = "zero") -> Decoder:
    """A new model with `audio_size` rows behind the text rows of `model` (paper 3.2); all else is carried over.

    New rows are zero as in the paper, `normal` (the spread of the text rows around zero) or `mean` (their mean).
    The logits of text ids stay what they were, bit for bit.
    """
    if initialisation not in INITIALISATIONS:
        raise AudioPaLMError(f"unknown initialisation {initialisation!r}; {nearest(initialisation, INITIALISATIONS)}")
    extended = Decoder(replace(model.config, vocabulary_size=model.config.vocabulary_size + audio_size))
    state = model.state_dict()
    for name in ("embedding.weight", "head.weight"):
        if name in state:
            text_rows = state[name]
            rows = torch.zeros(audio_size, text_rows.shape[1])
            if initialisation == "normal":
                rows.normal_(std=float(text_rows.std()))
            elif initialisation == "mean":
                rows += text_rows.mean(dim=0)
            state[name] = torch.cat([text_rows, rows])
    extended.load_state_dict(state)
    return extended
