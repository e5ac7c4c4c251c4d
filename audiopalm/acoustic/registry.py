"""The kinds of acoustic models: SoundStorm, the default, and AudioLM's stages 2 and 3."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audiopalm.acoustic.audiolm import generation as audiolm
from audiopalm.acoustic.audiolm.model import AudioLM
from audiopalm.acoustic.audiolm.model import ModelConfig as AudioLMModelConfig
from audiopalm.acoustic.base import CONFIG, DEFAULT, MADE_BY, MODEL, Acoustic, WindowConfig
from audiopalm.acoustic.soundstorm import generation as soundstorm
from audiopalm.acoustic.soundstorm.model import ModelConfig as SoundStormModelConfig
from audiopalm.acoustic.soundstorm.model import SoundStorm
from audiopalm.core.config import apply_overrides, find_kind, from_dict
from audiopalm.core.files import read_object
from audiopalm.core.weights import load_module


@dataclass(frozen=True)
class Kind:
    """A kind of acoustic model: the classes of its network and its generation, and of their configurations."""

    model: type[nn.Module]
    model_config: type[Any]
    acoustic: type[Acoustic]
    generation_config: type[WindowConfig]


KINDS = {
    "soundstorm": Kind(SoundStorm, SoundStormModelConfig, soundstorm.SoundStormAcoustic, soundstorm.GenerationConfig),
    "audiolm": Kind(AudioLM, AudioLMModelConfig, audiolm.AudioLMAcoustic, audiolm.GenerationConfig),
}


def load_acoustic(directory: str | Path, device: str | torch.device = "cpu", overrides: Iterable[str] = ()) -> Acoustic:
    """The model that stage 9 wrote. `overrides` change its generation settings, for example `temperature=0`.

    Raises AudioPaLMError if it is missing or damaged.
    """
    where = Path(directory) / CONFIG
    meta = read_object(where, MADE_BY, {"model": dict, "generation": dict, "units_sha256": str, "codes_sha256": str})
    kind = KINDS[find_kind(meta, KINDS, DEFAULT, where)]
    config = from_dict(kind.model_config, meta["model"], f"{where}: model")
    model = load_module(lambda: kind.model(config), Path(directory) / MODEL, MADE_BY)
    values = apply_overrides(dict(meta["generation"]), overrides)
    generation = from_dict(kind.generation_config, values, f"{where}: generation")
    return kind.acoustic(model.to(device), generation, meta)
