"""Training of an acoustic model: the base of SoundStorm and AudioLM. Each kind adds its losses and its evaluation."""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from audiopalm.acoustic.base import CONFIG, DEFAULT, MADE_BY, MODEL
from audiopalm.acoustic.corpus import Batch, Corpus
from audiopalm.acoustic.prompt import UNITS_RATE
from audiopalm.acoustic.token_meta import TokenSizes, check_token_meta, read_token_meta
from audiopalm.codec.registry import load_codec
from audiopalm.core.config import from_dict, ranged, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, read_object, write_json
from audiopalm.core.weights import load_module, write_weights
from audiopalm.training.batches import load_ahead
from audiopalm.training.checkpoint import batch_seed
from audiopalm.training.loop import Loss, Run, Training, Weights, run_training
from audiopalm.training.optimizer import UpdateGroup, update_group
from audiopalm.training.record import hash_data, hash_model, hash_tokens, settings_of

LevelSums = dict[int, tuple[Tensor, int]]  # {level: (summed cross-entropy, positions)}
LevelScores = tuple[list[float], list[float]]  # loss and accuracy of each level


@dataclass
class VoiceBatchConfig:
    """A micro-batch: `voices` prompts, and for each of them `targets` sequences of the same speaker."""

    voices: int = ranged(8, low=1)
    targets: int = ranged(1, low=1)
    prompt_seconds: float = ranged(3.0, above=0)
    target_seconds: float = ranged(3.0, above=0)
    # {language: weight of its speech when batches are drawn; other languages have weight 1}
    language_weights: dict[str, float] = ranged({}, above=0)
    dev_rows: int = ranged(24, low=1)  # sequences of the dev set


@dataclass(frozen=True)
class AcousticData:
    """The folders of a training.

    data_dir, tokens: the training set and its tokens (stage 5). dev_data_dir, dev_tokens: those of the dev set, both or
    neither. codec: the codec (stage 4), for initial embeddings. init_model: an acoustic model (stage 9) that is trained
    further.
    """

    data_dir: str
    tokens: str
    dev_data_dir: str | None = None
    dev_tokens: str | None = None
    codec: str | None = None
    init_model: Path | None = None

    def made_from(self) -> dict[str, Any]:
        """Hashes of all inputs that change the result."""
        return {"train": {"data": hash_data(self.data_dir), "tokens": hash_tokens(self.tokens)},
                "dev": {"data": hash_data(self.dev_data_dir), "tokens": hash_tokens(self.dev_tokens)},
                "codec": hash_model(self.codec),
                **({"init_model": hash_model(self.init_model)} if self.init_model else {})}


def train(training: type["AcousticTraining"], config: Any, data: AcousticData, output: Path, seed: int) -> None:
    """Train, and write config.json, model.safetensors and log.jsonl to `output`. Resumes from a checkpoint there.

    The embeddings are initialised from the codec's codebooks if `data.codec` is given and has them. With
    `data.init_model`, the sizes and all weights are those of that model. `config.generation` may change afterwards: a
    finished model gets the new settings. Raises AudioPaLMError for tokens of different units or codecs, and for sizes
    that do not fit them.
    """
    meta = read_token_meta(data.tokens)
    if data.dev_tokens:
        check_token_meta(meta, read_token_meta(data.dev_tokens), data.tokens, data.dev_tokens)
    if data.init_model:
        config.model = read_sizes(data.init_model, config, meta, data.tokens)
    fill_sizes(config.model, meta, data.tokens)
    settings = {**to_dict(config), "seed": seed, **meta}
    learned = {key: value for key, value in settings_of(config).items() if key != "generation"}
    run = Run(output, MODEL, seed, config.training, {"config": learned, "seed": seed, **data.made_from()})
    if not run_training(run, lambda fabric: training(config, data, settings, output, fabric)):
        if read_json(output / CONFIG).get("generation") != settings["generation"]:
            write_json(output / CONFIG, settings)


def read_sizes(directory: Path, config: Any, meta: Mapping[str, Any], tokens: object) -> Any:
    """`config.model` of the acoustic model in `directory`, which is trained further.

    Raises AudioPaLMError if it is of another kind than `config`, or was trained with other units or another codec.
    """
    path = directory / CONFIG
    stored = read_object(path, MADE_BY, {"model": dict, "units_sha256": str, "codes_sha256": str})
    if (kind := stored.get("kind", DEFAULT)) != config.kind:
        raise AudioPaLMError(f"{directory} is an acoustic model of the kind {kind}, the configuration is for "
                             f"{config.kind}; give the configuration of that kind, --acoustic_config")
    for name in ("units_sha256", "codes_sha256"):
        if stored[name] != meta.get(name):
            raise AudioPaLMError(f"{directory} has {name} {stored[name]}, {tokens} has {meta.get(name)}; run stages 3 "
                                 "to 5 with the same --init_pack")
    return from_dict(type(config.model), stored["model"], f"{path}: model")


def fill_sizes(model: TokenSizes, meta: Mapping[str, Any], where: object) -> None:
    """Replace sizes of 0 in the model's configuration by the sizes of the tokens in the folder `where`.

    Raises AudioPaLMError for other sizes, and for more levels than the tokens have.
    """
    for name in ("units_size", "codec_size"):
        if getattr(model, name) not in (0, meta[name]):
            raise AudioPaLMError(f"model.{name} is {getattr(model, name)} in the configuration, {meta[name]} in "
                                 f"{where}")
        setattr(model, name, meta[name])
    if not 0 <= model.levels <= meta["codec_levels"]:
        raise AudioPaLMError(f"model.levels is {model.levels} in the configuration, {where} has {meta['codec_levels']}")
    model.levels = model.levels or meta["codec_levels"]


class AcousticTraining(Training):
    """Codec tokens of random speech of a speaker, given its units and a voice prompt."""

    model_class: type[nn.Module]  # built from `config.model`; `start_from(codebooks, latents)` sets its embeddings

    def __init__(self, config: Any, data: AcousticData, settings: Mapping[str, Any], output: Path, fabric: Fabric):
        self.config, self.settings, self.output, self.device = config, settings, output, fabric.device
        self.seed = settings["seed"]
        self.corpus = Corpus(data.data_dir, data.tokens, config.model.levels, config.batch.language_weights)
        self.dev: Corpus | None = None
        if data.dev_data_dir is not None and data.dev_tokens is not None:
            self.dev = Corpus(data.dev_data_dir, data.dev_tokens, config.model.levels)
        logging.info("opened %s: %d utterances, %.1f hours, %d speakers, %d levels of %d codes", data.tokens,
                     len(self.corpus), self.corpus.frames / 50 / 3600, len(self.corpus.speakers), self.corpus.levels,
                     self.corpus.codec_size)
        self.model = (load_module(lambda: self.model_class(config.model), data.init_model / MODEL, MADE_BY)
                      if data.init_model else self.model_class(config.model))
        codebooks = load_codec(data.codec).codebooks() if data.codec and not data.init_model else None
        if codebooks is not None:
            codebooks = codebooks[:config.model.levels]
            self.model.start_from(codebooks, self.corpus.unit_latents(codebooks))
        self.model.to(fabric.device)
        self.modules = {"model": self.model}

    @abstractmethod
    def losses(self, batch: Batch, random: np.random.Generator) -> tuple[Tensor, LevelSums]:
        """The loss of a batch, and the summed cross-entropy and number of positions of each level."""

    @abstractmethod
    def scores(self, batch: Batch) -> LevelScores:
        """Loss and accuracy of each level on a batch of the dev set."""

    def draw(self, corpus: Corpus, random: np.random.Generator, voices: int, targets: int) -> Batch:
        """A random batch of `voices` prompts with `targets` sequences each."""
        batch = self.config.batch
        return corpus.draw(random, voices, targets, units_of(batch.prompt_seconds), units_of(batch.target_seconds))

    def load(self, number: int) -> tuple[Batch, np.random.Generator]:
        """Micro-batch `number`, and the generator of the random numbers of its losses."""
        random = np.random.default_rng(batch_seed(self.seed, number))
        return self.draw(self.corpus, random, self.config.batch.voices, self.config.batch.targets), random

    def update_groups(self) -> dict[str, UpdateGroup]:
        return {"model": update_group(self.model, self.config.optimizer, self.config.training.steps)}

    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[tuple[Batch, np.random.Generator]]:
        return load_ahead(self.load, numbers, self.config.training.workers)

    def step(self, batch: tuple[Batch, np.random.Generator], step: int) -> Iterator[Loss]:
        loss, levels = self.losses(*batch)
        yield Loss(loss, values={f"level_{level}": sums for level, sums in levels.items()})

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of each level on the same dev sequences every time; `loss` is the mean over the levels."""
        if self.dev is None:
            return {}
        losses, accuracies = self.scores(self.draw(self.dev, np.random.default_rng(0), self.config.batch.dev_rows, 1))
        return ({f"level_{level}": loss for level, loss in enumerate(losses)}
                | {f"accuracy_{level}": accuracy for level, accuracy in enumerate(accuracies)}
                | {"loss": sum(losses) / len(losses)})

    def finish(self, weights: Weights) -> None:
        """Write config.json, then the weights in float16, whose presence marks a finished training."""
        write_json(self.output / CONFIG, self.settings)
        write_weights(self.output / MODEL, {name: value.whole().half() for name, value in weights["model"].items()})


def units_of(seconds: float) -> int:
    """The number of units (25 Hz) in `seconds`."""
    return round(seconds * UNITS_RATE)


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on `device`, without waiting for the copy."""
    return torch.from_numpy(values).to(device, non_blocking=True)
