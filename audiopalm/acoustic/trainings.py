"""The acoustic models that stage 9 trains, chosen by `kind` of its configuration.

They are separate from registry.py, which generation imports, because the trainings take seconds to import.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from audiopalm.acoustic.audiolm.training import AudioLMConfig, AudioLMTraining
from audiopalm.acoustic.base import DEFAULT
from audiopalm.acoustic.soundstorm.training import SoundStormConfig, SoundStormTraining
from audiopalm.acoustic.training import AcousticTraining
from audiopalm.core.config import load_kind_config

# kind -> its configuration, its training
TRAININGS: dict[str, tuple[type, type[AcousticTraining]]] = {"soundstorm": (SoundStormConfig, SoundStormTraining),
                                                             "audiolm": (AudioLMConfig, AudioLMTraining)}


def load_training(path: str | Path, overrides: Iterable[str] = ()) -> tuple[type[AcousticTraining], Any]:
    """The training that a YAML file (conf/acoustic.yaml) or an override `kind=...` chooses, and its configuration."""
    config = load_kind_config(path, overrides, {kind: config for kind, (config, _) in TRAININGS.items()}, DEFAULT)
    return TRAININGS[config.kind][1], config
