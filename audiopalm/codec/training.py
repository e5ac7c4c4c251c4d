"""The codecs that stage 4 trains, chosen by `kind` of its configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from audiopalm.codec.soundstream_training import SoundStreamTraining, train_soundstream
from audiopalm.codec.spectral_training import CodecTraining, train_codec
from audiopalm.core.config import load_kind_config

# kind -> its configuration; its training, called with (data directory, configuration, output, seed, dev directory)
TRAININGS: dict[str, tuple[type, Callable[[Path, Any, Path, int, Path | None], None]]] = {
    "spectral": (CodecTraining, train_codec),
    "soundstream": (SoundStreamTraining, train_soundstream),
}


def load_training(path: str | Path | None, overrides: list[str] = ()) -> Any:
    """The configuration of the kind that the YAML file or an override `kind=...` names; `spectral` by default."""
    return load_kind_config(path, overrides, {kind: config for kind, (config, _) in TRAININGS.items()}, "spectral")


def train(data: Path, config: Any, output: Path, seed: int, dev: Path | None = None) -> None:
    """Train the codec of `config` on the speech of the data directory `data`; dev losses are of `dev`."""
    TRAININGS[config.kind][1](data, config, output, seed, dev)
