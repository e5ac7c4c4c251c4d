"""The kinds of acoustic models: SoundStorm, the default, and AudioLM's stages 2 and 3."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from audiopalm.acoustic.audiolm.generation import AudioLMAcoustic
from audiopalm.acoustic.audiolm.model import AudioLM
from audiopalm.acoustic.audiolm.training import AudioLMConfig, AudioLMTraining
from audiopalm.acoustic.base import CONFIG, DEFAULT, MADE_BY, MODEL, Acoustic
from audiopalm.acoustic.soundstorm.generation import SoundStormAcoustic
from audiopalm.acoustic.soundstorm.model import SoundStorm
from audiopalm.acoustic.soundstorm.training import SoundStormConfig, SoundStormTraining
from audiopalm.acoustic.training import AcousticTraining
from audiopalm.core.config import apply_overrides, find_kind, from_dict, load_kind_config
from audiopalm.core.files import read_object
from audiopalm.core.weights import load_module


@dataclass(frozen=True)
class Kind:
    """A kind of acoustic model: the classes of its network, its use, its configuration and its training."""

    model: type[nn.Module]
    acoustic: type[Acoustic]
    config: type
    training: type[AcousticTraining]


KINDS = {"soundstorm": Kind(SoundStorm, SoundStormAcoustic, SoundStormConfig, SoundStormTraining),
         "audiolm": Kind(AudioLM, AudioLMAcoustic, AudioLMConfig, AudioLMTraining)}


def load_training_config(path: str | Path, overrides: Iterable[str] = ()) -> tuple[Kind, Any]:
    """The configuration of a training (conf/acoustic.yaml), and the kind that it chooses."""
    config = load_kind_config(path, overrides, {name: kind.config for name, kind in KINDS.items()}, DEFAULT)
    return KINDS[config.kind], config


def load_acoustic(directory: str | Path, device: str | torch.device = "cpu", overrides: list[str] = ()) -> Acoustic:
    """The model that stage 9 wrote; `overrides` change how it generates, for example `temperature=0`.

    Raises AudioPaLMError when it is missing or damaged.
    """
    where = Path(directory) / CONFIG
    meta = read_object(where, MADE_BY, {"model": dict, "generation": dict, "units_sha256": str, "codes_sha256": str})
    kind = KINDS[find_kind(meta, KINDS, DEFAULT, where)]
    types = get_type_hints(kind.config)
    config = from_dict(types["model"], meta["model"], f"{where}: model")
    model = load_module(lambda: kind.model(config), Path(directory) / MODEL, MADE_BY)
    values = apply_overrides(dict(meta["generation"]), overrides)
    generation = from_dict(types["generation"], values, f"{where}: generation")
    return kind.acoustic(model.to(device), generation, meta)
