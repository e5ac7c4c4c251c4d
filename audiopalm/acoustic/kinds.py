"""The kinds of acoustic models: SoundStorm, the default, and AudioLM's stages 2 and 3."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from audiopalm.acoustic import audiolm_training, soundstorm_training
from audiopalm.acoustic.audiolm import AudioLM
from audiopalm.acoustic.audiolm_generation import AudioLMAcoustic
from audiopalm.acoustic.soundstorm import SoundStorm
from audiopalm.acoustic.soundstorm_generation import SoundStormAcoustic
from audiopalm.acoustic.training import Kind
from audiopalm.config import load_config
from audiopalm.errors import AudioPaLMError, nearest

DEFAULT = "soundstorm"
KINDS = {
    "soundstorm": Kind(SoundStorm, SoundStormAcoustic, soundstorm_training.SoundStormConfig,
                       soundstorm_training.loss, soundstorm_training.evaluate),
    "audiolm": Kind(AudioLM, AudioLMAcoustic, audiolm_training.AudioLMConfig,
                    audiolm_training.loss, audiolm_training.evaluate),
}


def find_kind(settings: Mapping[str, Any], where: object) -> Kind:
    """The kind that settings name as `kind`, SoundStorm where they name none."""
    name = settings.get("kind", DEFAULT)
    if name not in KINDS:
        raise AudioPaLMError(f"{where}: unknown kind of acoustic model {name!r}; {nearest(str(name), KINDS)}")
    return KINDS[name]


def load_training_config(path: str | Path, overrides: list[str] = ()) -> tuple[Kind, Any]:
    """What conf/acoustic.yaml says, and the kind that it is for."""
    if not Path(path).is_file():
        raise AudioPaLMError(f"configuration {path} does not exist")
    kind = find_kind(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}, path)
    return kind, load_config(kind.config, path, overrides)
