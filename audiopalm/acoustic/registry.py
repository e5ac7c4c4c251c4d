"""The kinds of acoustic models: SoundStorm, the default, and AudioLM's stages 2 and 3.

Their trainings are in training_registry.py, so that use of a model does not import the training engine.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from audiopalm.acoustic.audiolm.generation import AudioLMAcoustic
from audiopalm.acoustic.audiolm.generation import GenerationConfig as AudioLMGeneration
from audiopalm.acoustic.audiolm.model import AudioLM
from audiopalm.acoustic.audiolm.model import ModelConfig as AudioLMConfig
from audiopalm.acoustic.base import CONFIG, MODEL, Acoustic
from audiopalm.acoustic.soundstorm.generation import GenerationConfig as SoundStormGeneration
from audiopalm.acoustic.soundstorm.generation import SoundStormAcoustic
from audiopalm.acoustic.soundstorm.model import ModelConfig as SoundStormConfig
from audiopalm.acoustic.soundstorm.model import SoundStorm
from audiopalm.core.config import apply_overrides, find_kind, from_dict
from audiopalm.core.files import read_object
from audiopalm.core.weights import load_module

DEFAULT = "soundstorm"


@dataclass(frozen=True)
class Kind:
    """A kind of acoustic model: the classes of its network, its use, and their configurations."""

    model: type[nn.Module]
    acoustic: type[Acoustic]
    model_config: type
    generation_config: type


KINDS = {"soundstorm": Kind(SoundStorm, SoundStormAcoustic, SoundStormConfig, SoundStormGeneration),
         "audiolm": Kind(AudioLM, AudioLMAcoustic, AudioLMConfig, AudioLMGeneration)}


def load_acoustic(directory: str | Path, device: str | torch.device = "cpu", overrides: list[str] = ()) -> Acoustic:
    """The model that stage 9 wrote; `overrides` change how it generates, for example `temperature=0`.

    Raises AudioPaLMError when it is missing or damaged.
    """
    made_by = "stage 9 (acoustic)"
    where = Path(directory) / CONFIG
    meta = read_object(where, made_by, {"model": dict, "generation": dict, "units_sha256": str, "codec_sha256": str})
    kind = KINDS[find_kind(meta, KINDS, DEFAULT, where)]
    config = from_dict(kind.model_config, meta["model"], f"{where}: model")
    model = load_module(lambda: kind.model(config), Path(directory) / MODEL, made_by)
    values = apply_overrides(dict(meta["generation"]), overrides)
    generation = from_dict(kind.generation_config, values, f"{where}: generation")
    return kind.acoustic(model.to(device), generation, meta)
