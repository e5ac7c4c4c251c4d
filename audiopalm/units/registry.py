"""Speech -> unit ids at 25 Hz, by one of four kinds of encoders, each with a codebook.

Encoding and the search for the nearest code are one pass. Features are never written.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.config import find_kind, from_dict, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, require, write_json
from audiopalm.core.gradients import inference_mode
from audiopalm.core.quantiser import nearest as nearest_codes
from audiopalm.core.weights import load_module, write_weights
from audiopalm.data.audio import check_samples
from audiopalm.units.encoder import RATE, SpeechEncoder
from audiopalm.units.huggingface import HuggingFaceConfig, HuggingFaceUnits
from audiopalm.units.log_mel import LogMelConfig, LogMelUnits
from audiopalm.units.mel_conformer import MelConformer
from audiopalm.units.usm_v2 import UnitConfig, UnitModel
from audiopalm.units.w2v_bert import W2vBert, W2vBertConfig

MADE_BY = "stage 3 (units)"
RECORDINGS = 64  # recordings that share their passes on a GPU
# `kind` of config.json -> the classes of its configuration and of its encoder
KINDS: dict[str, tuple[type[Any], type[SpeechEncoder]]] = {
    "usm-v2": (UnitConfig, UnitModel),
    "w2v-bert": (W2vBertConfig, W2vBert),
    "huggingface": (HuggingFaceConfig, HuggingFaceUnits),
    "log-mel": (LogMelConfig, LogMelUnits),
}


class UnitTokenizer:
    """Speech to unit ids.

        UnitTokenizer.load("exp/units").encode([samples])[0]
    """

    rate = RATE  # Hz

    def __init__(self, model: SpeechEncoder):
        self.model = model.eval()
        self.size = model.config.size

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> "UnitTokenizer":
        """Read config.json and model.safetensors of stage 3.

        Raises AudioPaLMError if they are missing, of an unknown kind or of different trainings.
        """
        path = Path(directory) / "config.json"
        settings = read_object(path, MADE_BY)
        kind, codes = kind_of(settings, path), settings.pop("codebook_sha256", None)
        config_class, model_class = KINDS[kind]
        config = from_dict(config_class, settings, str(path))
        weights = require(Path(directory) / "model.safetensors", MADE_BY)
        model = load_module(lambda: model_class(config), weights, MADE_BY,
                            build_on="cpu" if kind == "huggingface" else "meta")
        if codes not in (None, tensor_sha256(model.codebook)):
            raise AudioPaLMError(f"the codebook in {weights} is not the one of {path}; remove both and run {MADE_BY} "
                                 "again")
        return cls(model.to(device))

    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        """Recordings, float32 `[samples]` at 16 kHz -> ids, int64 `[ceil(samples / 640)]` each.

        On a CPU, every recording has passes of its own, which are as fast as common ones. Matrix products may round
        differently in a larger batch, so that ids would depend on the other recordings. On other devices, RECORDINGS
        recordings share their passes if the encoder supports it.
        """
        if self.model.codebook.device.type != "cpu" and isinstance(self.model, MelConformer):
            return [ids for first in range(0, len(audio), RECORDINGS)
                    for ids in self.encode_batch(audio[first:first + RECORDINGS])]
        return [self.encode_one(samples) for samples in audio]

    @inference_mode
    def encode_batch(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        """`encode` with common passes for all recordings and one copy to the host."""
        codebook = self.model.codebook
        samples = [torch.from_numpy(check_samples(recording)).to(codebook.device, non_blocking=True)
                   for recording in audio]
        features = self.model.batch_features(samples)
        ids = nearest_codes(torch.cat(features), codebook).cpu().numpy()
        return np.split(ids, np.cumsum([len(rows) for rows in features])[:-1])

    @inference_mode
    def encode_one(self, samples: np.ndarray) -> np.ndarray:
        """`encode` for one recording."""
        codebook = self.model.codebook
        parts = self.model.features(torch.from_numpy(check_samples(samples)).to(codebook.device))
        return torch.cat([nearest_codes(part, codebook) for part in parts]).cpu().numpy()


def kind_of(settings: dict[str, Any], path: Path) -> str:
    """Remove `kind` from the settings of `path` and return it; usm-v2 in old files without `kind`."""
    find_kind(settings, KINDS, "usm-v2", path)
    return str(settings.pop("kind"))


def save_units(model: SpeechEncoder, output: Path) -> None:
    """Write config.json, with the kind and the hash of the codebook, and model.safetensors."""
    kind = next(name for name, (_, model_class) in KINDS.items() if isinstance(model, model_class))
    write_json(output / "config.json", {"kind": kind, "codebook_sha256": tensor_sha256(model.codebook),
                                        **to_dict(model.config)})
    write_weights(output / "model.safetensors", model.state_dict())  # last: it marks the training as finished


def tensor_sha256(tensor: Tensor) -> str:
    """The SHA-256 of a tensor's bytes."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
