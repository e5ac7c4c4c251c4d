"""The kinds of units that stage 3 makes, chosen by `kind` of its configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from audiopalm.core.config import load_kind_config
from audiopalm.units.kmeans_training import HuggingFaceTraining, LogMelTraining, train_huggingface, train_log_mel
from audiopalm.units.usm_v2_training import UnitTraining, train_units
from audiopalm.units.w2v_bert_training import W2vBertTraining, train_w2v_bert

# kind -> the class of its configuration; what trains by it, (data directory, configuration, output, seed)
TRAININGS: dict[str, tuple[type, Callable[[Path, Any, Path, int], None]]] = {
    "usm-v2": (UnitTraining, train_units),
    "w2v-bert": (W2vBertTraining, train_w2v_bert),
    "huggingface": (HuggingFaceTraining, train_huggingface),
    "log-mel": (LogMelTraining, train_log_mel),
}


def load_training(path: str | Path | None, overrides: list[str] = ()) -> Any:
    """The configuration of the kind that the YAML file or an override `kind=...` names; usm-v2 where none does."""
    return load_kind_config(path, overrides, {kind: training for kind, (training, _) in TRAININGS.items()}, "usm-v2")


def train(data: Path, config: Any, output: Path, seed: int) -> None:
    TRAININGS[config.kind][1](data, config, output, seed)
