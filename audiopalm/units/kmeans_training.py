"""K-means on features of speech, and the kinds that need no other training: `log-mel` and `huggingface`."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from audiopalm.core.config import ranged
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import inference_mode
from audiopalm.core.hub import find_pretrained
from audiopalm.core.kmeans import kmeans
from audiopalm.core.lock import locked
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.speech import SpeechList, open_speech
from audiopalm.training.parallel import world_size
from audiopalm.training.record import begin, hash_data, hash_model, settings_of
from audiopalm.units.encoder import SpeechEncoder, count_units
from audiopalm.units.huggingface import read_huggingface
from audiopalm.units.log_mel import LogMelConfig, LogMelUnits
from audiopalm.units.registry import save_units


@dataclass
class KMeansConfig:
    """`kmeans:` of conf/units.yaml."""

    frames: int = ranged(262144, low=1)  # frames of 40 ms that are clustered, from random recordings
    iterations: int = ranged(20, low=1)


@dataclass
class LogMelTraining:
    """conf/units.yaml for `kind: log-mel`."""

    kind: str = "log-mel"
    model: LogMelConfig = field(default_factory=LogMelConfig)
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)


@dataclass
class HuggingFaceTraining:
    """conf/units.yaml for `kind: huggingface`."""

    kind: str = "huggingface"
    encoder: str = ""  # a folder in Hugging Face's layout, or a hub id
    layer: int = ranged(0, low=0)  # the layer whose output is clustered, from 1
    padded: bool = True  # Whisper: pad every recording to 30 s, as in its training; false is many times faster
    size: int = ranged(1024, low=1)  # codes
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)


def train_log_mel(data: str | Path, config: LogMelTraining, output: Path, seed: int,
                  dev: str | Path | None = None) -> None:
    """Write config.json and model.safetensors to `output`. The dev set is not used.

    Raises AudioPaLMError in more than one process.
    """
    require_one_process(output)
    made_from = {"config": settings_of(config), "seed": seed, "data": hash_data(data)}
    with locked(output, "training"):
        if begin(output, "model.safetensors", made_from):
            _train_log_mel(data, config, output, seed)


def _train_log_mel(data: str | Path, config: LogMelTraining, output: Path, seed: int) -> None:
    model = LogMelUnits(config.model).to(best_device())
    fit_codebook(model, open_speech(data), config.kmeans, seed)
    save_units(model, output)


def train_huggingface(data: str | Path, config: HuggingFaceTraining, output: Path, seed: int,
                      dev: str | Path | None = None) -> None:
    """Write config.json and model.safetensors to `output`, with the encoder up to the layer. The dev set is not used.

    Raises AudioPaLMError in more than one process, and if no encoder is given or it cannot be read.
    """
    if not config.encoder:
        raise AudioPaLMError("encoder: no speech encoder is named; give a folder or a hub id")
    require_one_process(output)
    directory = find_pretrained(config.encoder)
    made_from = {"config": settings_of(config), "seed": seed, "data": hash_data(data),
                 "encoder": hash_model(directory)}
    with locked(output, "training"):
        if begin(output, "model.safetensors", made_from):
            _train_huggingface(data, config, directory, output, seed)


def _train_huggingface(data: str | Path, config: HuggingFaceTraining, directory: Path, output: Path,
                       seed: int) -> None:
    model = read_huggingface(directory, config.layer, config.padded, config.size).to(best_device())
    fit_codebook(model, open_speech(data), config.kmeans, seed)
    save_units(model, output)


def require_one_process(output: Path) -> None:
    """Raise AudioPaLMError if several processes were started."""
    if world_size() > 1:
        raise AudioPaLMError(f"{output}: k-means alone runs in one process; start it with --num_nodes 1 and --ngpu 0 "
                             "or 1")


@inference_mode
def fit_codebook(model: SpeechEncoder, speech: SpeechList, config: KMeansConfig, seed: int) -> None:
    """Set the codebook to the k-means centroids of features of recordings drawn at random.

    Memory holds at most `config.frames` rows of features.
    """
    model.eval()
    started = time.monotonic()
    order = np.random.default_rng(seed).permutation(len(speech))
    wanted = min(config.frames, sum(map(count_units, speech.samples.tolist())))
    points = np.empty((wanted, model.codebook.shape[1]), dtype=np.float32)
    filled = heard = 0
    for index in order:
        if filled == wanted:
            break
        recording = speech[int(index)]
        for part in model.features(torch.from_numpy(read_audio(recording.path)).to(model.codebook.device)):
            part = part[:wanted - filled]
            points[filled:filled + len(part)] = part.cpu().numpy()
            filled += len(part)
        heard += recording.samples
    encoded = time.monotonic()
    model.codebook.copy_(torch.from_numpy(kmeans(points[:filled], len(model.codebook), seed, config.iterations)))
    logging.info("codebook of %d codes from %d frames, %.2f h: encoding %.0f s, k-means %.0f s", len(model.codebook),
                 filled, heard / SAMPLE_RATE / 3600, encoded - started, time.monotonic() - encoded)
