"""The trainings of stage 3, chosen by `kind` of its configuration."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from audiopalm.core.config import load_kind_config
from audiopalm.units.kmeans_training import HuggingFaceTraining, LogMelTraining, train_huggingface, train_log_mel
from audiopalm.units.usm_v2_training import UnitTraining, train_units
from audiopalm.units.w2v_bert_training import W2vBertTraining, train_w2v_bert

# kind -> its configuration; its training, called with (data directory, configuration, output, seed, dev directory)
TRAININGS: dict[str, tuple[type, Callable[[Path, Any, Path, int, Path | None], None]]] = {
    "usm-v2": (UnitTraining, train_units),
    "w2v-bert": (W2vBertTraining, train_w2v_bert),
    "huggingface": (HuggingFaceTraining, train_huggingface),
    "log-mel": (LogMelTraining, train_log_mel),
}


def load_training(path: str | Path | None, overrides: Iterable[str] = ()) -> Any:
    """The configuration of the kind that the YAML file or an override `kind=...` names; usm-v2 by default."""
    return load_kind_config(path, overrides, {kind: training for kind, (training, _) in TRAININGS.items()}, "usm-v2")


def train(data: Path, config: Any, output: Path, seed: int, dev: Path | None = None) -> None:
    """Train the units of `config` on the speech of the data directory `data`; the dev losses are measured on `dev`."""
    TRAININGS[config.kind][1](data, config, output, seed, dev)
