"""The trainings of stage 4, chosen by `kind` of its configuration."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from audiopalm.codec.soundstream_training import SoundStreamTraining, train_soundstream
from audiopalm.codec.spectral_training import CodecTraining, train_codec
from audiopalm.core.config import load_kind_config
from audiopalm.core.errors import AudioPaLMError

TRAININGS: dict[str, type] = {"spectral": CodecTraining, "soundstream": SoundStreamTraining}  # kind -> configuration


def load_training(path: str | Path | None, overrides: Iterable[str] = ()) -> Any:
    """The configuration of the kind that the YAML file or an override `kind=...` names; `spectral` by default."""
    return load_kind_config(path, overrides, TRAININGS, "spectral")


def train(data: Path, config: Any, output: Path, seed: int, dev: Path | None = None,
          init: Path | None = None) -> None:
    """Train the codec of `config` on the speech of the data directory `data`; the dev losses are measured on `dev`.

    init: a trained spectral codec whose decoder is trained further. Raises AudioPaLMError for `init` with another kind.
    """
    if config.kind == "spectral":
        train_codec(data, config, output, seed, dev, init)
    elif init is not None:
        raise AudioPaLMError(f"--init_codec is for kind spectral, the configuration has {config.kind}; leave it out")
    else:
        train_soundstream(data, config, output, seed, dev)
