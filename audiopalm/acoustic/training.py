"""Training of an acoustic model: exact resume, loss and accuracy of each level on a development set.

Every random choice of step s comes from (seed, s), so a run that was killed goes on bit for bit from its snapshot.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audiopalm.acoustic.base import CONFIG, MODEL, Acoustic
from audiopalm.acoustic.corpus import Corpus, check_token_meta, read_token_meta
from audiopalm.acoustic.prompt import UNITS_RATE
from audiopalm.codec.registry import load_codec
from audiopalm.core.config import to_dict
from audiopalm.core.device import best_device, device_of
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, read_json, write_json
from audiopalm.training.checkpoint import Snapshots, seed_step
from audiopalm.training.log import StepLog
from audiopalm.training.optimizer import OptimizerConfig, Optimizers, make_optimizers, set_rate, update
from audiopalm.training.precision import choose_precision

Losses = dict[int, tuple[float, int]]  # {level: (summed cross-entropy, positions)}


@dataclass
class TrainingConfig:
    """Lengths in seconds; `learning_rate` is the peak, reached after `warmup` steps, then half a cosine to zero."""

    steps: int = 1000
    voices: int = 8  # prompts in a batch
    prompt_seconds: float = 3.0
    target_seconds: float = 3.0
    # how many times as often as others' the speech of a language is drawn
    language_weights: dict[str, float] = field(default_factory=dict)
    optimizer: str = "adamw"  # or muon
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: str = "32-true"  # or bf16-mixed, or auto: what is faster
    log_every: int = 50
    save_every: int = 250
    dev_every: int = 250
    dev_batch: int = 24


@dataclass
class Kind:
    """All that is particular to one kind of acoustic model.

    model: made of `config.model`; `start_from(codebooks, latents)` gives it embeddings to start from.
    config: dataclass of conf/acoustic.yaml, with `kind`, `model`, `training` and `generation`.
    loss: model, corpus, training settings and random numbers to the loss of a new batch and what it is made of.
    evaluate: model, corpus and training settings to loss and accuracy of each level.
    """

    model: type[nn.Module]
    acoustic: type[Acoustic]
    config: type
    loss: Callable[[Any, Corpus, Any, np.random.Generator], tuple[Tensor, Losses]]
    evaluate: Callable[[Any, Corpus, Any], tuple[list[float], list[float]]]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(kind: Kind, config: Any, data_dir: str, tokens: str, output: str, seed: int,
          dev_data_dir: str | None = None, dev_tokens: str | None = None, codec: str | None = None) -> None:
    """Train into `output`: config.json, model.safetensors, log.jsonl; goes on from a snapshot if there is one.

    The embeddings start from the codebooks of the folder `codec` where it is given and that kind of codec has them.
    Raises AudioPaLMError when `output` holds a model of other tokens, another configuration or another seed.
    """
    meta = read_token_meta(tokens)
    fill_sizes(config.model, meta, tokens)
    settings = {**to_dict(config), "seed": seed, **meta}
    if _finished(Path(output), settings):
        logging.info("%s is trained already: nothing to do", output)
        return
    if dev_tokens:
        check_token_meta(meta, read_token_meta(dev_tokens), tokens, dev_tokens)
    corpus = Corpus(data_dir, tokens, config.model.levels, config.training.language_weights)
    dev = Corpus(dev_data_dir, dev_tokens, config.model.levels) if dev_tokens else None
    logging.info("read %s: %d utterances, %.1f hours, %d speakers, %d levels of %d codes", tokens, len(corpus),
                 corpus.frames / 50 / 3600, len(corpus.of_speaker), corpus.levels, corpus.codec_size)
    bf16 = choose_precision(config.training.precision, output) == "bf16-mixed"
    torch.manual_seed(seed)
    codebooks = load_codec(codec).codebooks() if codec else None
    model = kind.model(config.model).train()
    if codebooks is not None:
        codebooks = codebooks[:config.model.levels]
        model.start_from(codebooks, corpus.unit_latents(codebooks))
    model.to(best_device())
    training = config.training
    optimizers = make_optimizers(OptimizerConfig(training.optimizer, training.learning_rate,
                                                 weight_decay=training.weight_decay), model)
    snapshots = Snapshots(output, _kept(settings))
    state = snapshots.load({"model": model}, optimizers) or {"step": 0, "seconds": 0.0, "sums": {}}
    _run(kind, model, optimizers, corpus, dev, config.training, bf16, Path(output), settings, state, snapshots)


def fill_sizes(model: Any, meta: dict, where: object) -> None:
    """Put the sizes of the tokens into the model's configuration; refuse other ones, and more levels, given there."""
    for name, key in (("units_size", "units_size"), ("codec_size", "codec_size")):
        if getattr(model, name) not in (0, meta[key]):
            raise AudioPaLMError(f"model.{name} is {getattr(model, name)} in the configuration, {meta[key]} in {where}")
        setattr(model, name, meta[key])
    if not 0 <= model.levels <= meta["codec_levels"]:
        raise AudioPaLMError(f"model.levels is {model.levels} in the configuration, {where} has {meta['codec_levels']}")
    model.levels = model.levels or meta["codec_levels"]


def _run(kind: Kind, model: nn.Module, optimizers: Optimizers, corpus: Corpus, dev: Corpus | None,
         config: TrainingConfig, bf16: bool, output: Path, settings: dict, state: dict, snapshots: Snapshots) -> None:
    began = time.monotonic() - state["seconds"]
    log = StepLog(output / "log.jsonl", state["step"])
    seed = settings["seed"]
    sums: dict[int, list[float]] = {int(level): values for level, values in state["sums"].items()}
    logging.info("%.1f million parameters, %d steps from %d on", sum(map(torch.numel, model.parameters())) / 1e6,
                 config.steps, state["step"])
    for step in range(state["step"], config.steps):
        set_rate(optimizers, learning_rate(step, config))
        with torch.autocast(device_of(model).type, torch.bfloat16, enabled=bf16):
            loss, parts = kind.loss(model, corpus, config, seed_step(seed, step))
        if not math.isfinite(loss.item()):
            raise AudioPaLMError(f"the loss is {loss.item()} at step {step}; lower training.learning_rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        update(optimizers)
        for level, (value, count) in parts.items():
            old = sums.setdefault(level, [0.0, 0])
            sums[level] = [old[0] + value, old[1] + count]
        done, last = step + 1, step + 1 == config.steps
        if done % config.log_every == 0 or last:
            _log(kind, log, model, dev, config, done, sums, time.monotonic() - began)
            sums = {}
        if done % config.save_every == 0 and not last:
            snapshots.save({"model": model}, optimizers,
                           {"step": done, "seconds": time.monotonic() - began, "sums": sums})
    _save_model(output, settings, model)
    snapshots.remove()
    logging.info("wrote %s after %.0f s", output / MODEL, time.monotonic() - began)


def _log(kind: Kind, log: StepLog, model: nn.Module, dev: Corpus | None, config: TrainingConfig, step: int,
         sums: dict[int, list[float]], seconds: float) -> None:
    line = {"step": step, "loss": round(sum(value for value, _ in sums.values()) / sum(n for _, n in sums.values()), 4),
            "loss_levels": [round(sums[level][0] / sums[level][1], 4) if level in sums else None
                            for level in range(model.config.levels)],
            "learning_rate": learning_rate(step, config)}
    if dev and (step % config.dev_every == 0 or step == config.steps):
        line |= _evaluate(kind, model, dev, config)
    line["seconds"] = round(seconds, 1)
    logging.info("step %d/%d loss %.3f %.0f s, %.0f s left%s", step, config.steps, line["loss"], seconds,
                 seconds / step * (config.steps - step),
                 f", dev accuracy {line['dev_accuracy']}" if "dev_accuracy" in line else "")
    log.write(**line)


@torch.no_grad()
def _evaluate(kind: Kind, model: nn.Module, dev: Corpus, config: TrainingConfig) -> dict[str, list[float]]:
    model.eval()
    losses, accuracies = kind.evaluate(model, dev, config)
    model.train()
    return {"dev_loss": [round(value, 4) for value in losses],
            "dev_accuracy": [round(value, 4) for value in accuracies]}


def units_of(seconds: float) -> int:
    return round(seconds * UNITS_RATE)


def _finished(output: Path, settings: dict) -> bool:
    """Whether `output` holds a finished model of the same settings."""
    if not (output / MODEL).is_file():
        return False
    found = read_json(output / CONFIG)
    for key, value in _kept(settings).items():
        if found.get(key) != value:
            raise AudioPaLMError(f"{output} was trained with {key} {found.get(key)}, this run has {value}; "
                                 f"remove {output} to train anew")
    if found != settings:  # only how to generate has changed
        write_json(output / CONFIG, settings)
    return True


def _kept(settings: dict) -> dict:
    """The settings that a run must share with the one it goes on from: all but how to generate."""
    return {key: value for key, value in settings.items() if key != "generation"}


def _save_model(output: Path, settings: dict, model: nn.Module) -> None:
    """The finished model; config.json first, since the presence of the weights says that training is done."""
    write_json(output / CONFIG, settings)
    with atomic_path(output / MODEL) as temporary:
        save_file(model.state_dict(), str(temporary))
