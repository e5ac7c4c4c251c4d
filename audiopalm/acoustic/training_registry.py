"""The trainings of the kinds of acoustic models."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiopalm.acoustic.audiolm.training import AudioLMConfig, AudioLMTraining
from audiopalm.acoustic.registry import DEFAULT
from audiopalm.acoustic.soundstorm.training import SoundStormConfig, SoundStormTraining
from audiopalm.acoustic.training import AcousticTraining
from audiopalm.core.config import load_kind_config


@dataclass(frozen=True)
class TrainingKind:
    """The classes of the configuration and of the training of a kind in registry.py."""

    config: type
    training: type[AcousticTraining]


TRAININGS = {"soundstorm": TrainingKind(SoundStormConfig, SoundStormTraining),
             "audiolm": TrainingKind(AudioLMConfig, AudioLMTraining)}


def load_training_config(path: str | Path, overrides: Iterable[str] = ()) -> tuple[TrainingKind, Any]:
    """The configuration of a training (conf/acoustic.yaml), and the kind that it chooses."""
    config = load_kind_config(path, overrides, {name: kind.config for name, kind in TRAININGS.items()}, DEFAULT)
    return TRAININGS[config.kind], config
