"""The trainings of stage 4, chosen by `kind` of its configuration."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from audiopalm.codec.soundstream_training import SoundStreamTraining, train_soundstream
from audiopalm.codec.spectral_training import CodecTraining, train_codec
from audiopalm.core.config import load_kind_config

TRAININGS: dict[str, type] = {"spectral": CodecTraining, "soundstream": SoundStreamTraining}  # kind -> configuration


def load_training(path: str | Path | None, overrides: Iterable[str] = ()) -> Any:
    """The configuration of the kind that the YAML file or an override `kind=...` names; `spectral` by default."""
    return load_kind_config(path, overrides, TRAININGS, "spectral")


def train(data: Path, config: Any, output: Path, seed: int, dev: Path | None = None,
          init: Path | None = None) -> None:
    """Train the codec of `config` on the speech of the data directory `data`; the dev losses are measured on `dev`.

    init: a trained codec of the same kind whose decoder is trained further.
    """
    trainer = train_codec if config.kind == "spectral" else train_soundstream
    trainer(data, config, output, seed, dev, init)
