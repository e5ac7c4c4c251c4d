"""Training of SoundStorm: the loss of one level per example, exact resume, accuracy per level on a development set.

Every random choice of step s comes from (seed, s), so a run that was killed goes on bit for bit from its checkpoint.
"""

import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from audiopalm.acoustic.data import Batch, Corpus, check_token_meta, read_token_meta
from audiopalm.acoustic.generation import CONFIG, MODEL, GenerationConfig
from audiopalm.acoustic.masking import hide
from audiopalm.acoustic.soundstorm import ModelConfig, SoundStorm, Voice
from audiopalm.codec.base import load_codec
from audiopalm.config import to_dict
from audiopalm.data.files import atomic_path, read_json, write_json
from audiopalm.errors import AudioPaLMError
from audiopalm.train.optimizer import OptimizerConfig, Optimizers, make_optimizers, set_rate, update
from audiopalm.train.precision import choose_precision
from audiopalm.train.snapshot import StepLog, load_snapshot, save_snapshot, seed_step

CHECKPOINT = "checkpoint.safetensors"
UNITS_RATE = 25  # Hz


@dataclass
class TrainingConfig:
    """Lengths in seconds; `learning_rate` is the peak, reached after `warmup` steps, then half a cosine to zero."""

    steps: int = 1000
    voices: int = 8  # prompts in a batch
    targets: int = 3  # sequences for each of them
    prompt_seconds: float = 3.0
    target_seconds: float = 3.0
    level_bias: float = 0.8  # each level is drawn this much less often than the one below; the paper: 1
    # how many times as often as others' the speech of a language is drawn
    language_weights: dict[str, float] = field(default_factory=dict)
    whole_share: float = 0.0  # share of examples whose level is wholly masked, as in decoding by one pass; the paper: 0
    cut_share: float = 0.2  # share of examples whose known part reaches into the target; the paper: 1
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
class AcousticConfig:
    """conf/acoustic.yaml."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


def masked_loss(model: SoundStorm, batch: Batch) -> tuple[Tensor, dict[int, tuple[float, int]]]:
    """Mean cross-entropy over the masked positions of each example's level; and {level: (summed loss, positions)}."""
    codec, mask, level = torch.from_numpy(batch.codec), torch.from_numpy(batch.mask), torch.from_numpy(batch.level)
    states = model(torch.from_numpy(batch.units), torch.from_numpy(batch.shown), _voice(model, batch))
    sums = {}
    for one in sorted(set(batch.level.tolist())):
        chosen = mask & (level == one)[:, None]
        truth = codec[chosen]
        logits = model.logits(states[chosen], truth, one).float()
        loss = functional.cross_entropy(logits, truth[:, one], reduction="sum")
        sums[one] = (loss, len(truth))
    total = sum(loss for loss, _ in sums.values()) / int(mask.sum())
    return total, {one: (float(loss.detach()), count) for one, (loss, count) in sums.items()}


def _voice(model: SoundStorm, batch: Batch) -> Voice:
    prompts = model.encode_prompt(torch.from_numpy(batch.prompt_units), torch.from_numpy(batch.prompt_codec))
    return prompts.select(torch.from_numpy(batch.voice))


@torch.no_grad()
def evaluate(model: SoundStorm, corpus: Corpus, config: TrainingConfig) -> dict[str, list[float]]:
    """Loss and accuracy of each level when it is wholly masked, the levels below are true; always the same examples."""
    batch = corpus.draw(np.random.default_rng(0), config.dev_batch, 1, _units(config.prompt_seconds),
                        _units(config.target_seconds), bias=1.0, cut_share=0.0, whole_share=1.0)
    everything = np.ones(batch.codec.shape[:2], dtype=bool)
    cuts = np.zeros(len(everything), dtype=np.int64)
    losses, accuracies = [], []
    model.eval()
    voice = _voice(model, batch)
    for level in range(corpus.levels):
        shown = hide(batch.codec, everything, np.full(len(cuts), level), cuts, corpus.codec_size)
        states = model(torch.from_numpy(batch.units), torch.from_numpy(shown), voice)
        codec = torch.from_numpy(batch.codec).flatten(0, 1)
        logits, truth = model.logits(states.flatten(0, 1), codec, level).float(), codec[:, level]
        losses.append(round(float(functional.cross_entropy(logits, truth)), 4))
        accuracies.append(round(float((logits.argmax(-1) == truth).float().mean()), 4))
    model.train()
    return {"dev_loss": losses, "dev_accuracy": accuracies}


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(config: AcousticConfig, data_dir: str, tokens: str, output: str, seed: int,
          dev_data_dir: str | None = None, dev_tokens: str | None = None, codec: str | None = None) -> None:
    """Train into `output`: config.json, model.safetensors, log.jsonl; goes on from its checkpoint if there is one.

    The embeddings start from the codebooks of the folder `codec` where it is given and its kind has them.
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
    bf16 = choose_precision(config.training.precision) == "bf16-mixed"
    torch.manual_seed(seed)
    model = SoundStorm(config.model).train()
    codebooks = load_codec(codec).codebooks() if codec else None
    if codebooks is not None:
        codebooks = codebooks[:config.model.levels]
        model.start_from(codebooks, corpus.unit_latents(codebooks))
    training = config.training
    optimizers = make_optimizers(OptimizerConfig(training.optimizer, training.learning_rate,
                                                 weight_decay=training.weight_decay), model)
    state = {"step": 0, "seconds": 0.0, "sums": {}}
    if (Path(output) / CHECKPOINT).is_file():
        state = load_snapshot(Path(output) / CHECKPOINT, {"model": model}, optimizers,
                              **_kept(settings))
        logging.info("going on from step %d of %s", state["step"], Path(output) / CHECKPOINT)
    _run(model, optimizers, corpus, dev, config.training, bf16, Path(output), settings, state)


def fill_sizes(model: ModelConfig, meta: dict, where: object) -> None:
    """Put the sizes of the tokens into the model's configuration; refuse other ones, and more levels, given there."""
    for name, key in (("units_size", "units_size"), ("codec_size", "codec_size")):
        if getattr(model, name) not in (0, meta[key]):
            raise AudioPaLMError(f"model.{name} is {getattr(model, name)} in the configuration, {meta[key]} in {where}")
        setattr(model, name, meta[key])
    if not 0 <= model.levels <= meta["codec_levels"]:
        raise AudioPaLMError(f"model.levels is {model.levels} in the configuration, {where} has {meta['codec_levels']}")
    model.levels = model.levels or meta["codec_levels"]


def _run(model: SoundStorm, optimizers: Optimizers, corpus: Corpus, dev: Corpus | None,
         config: TrainingConfig, bf16: bool, output: Path, settings: dict, state: dict) -> None:
    began = time.monotonic() - state["seconds"]
    log = StepLog(output / "log.jsonl", state["step"])
    seed = settings["seed"]
    sums: dict[int, list[float]] = {int(level): values for level, values in state["sums"].items()}
    logging.info("%.1f million parameters, %d steps from %d on", sum(map(torch.numel, model.parameters())) / 1e6,
                 config.steps, state["step"])
    for step in range(state["step"], config.steps):
        batch = corpus.draw(seed_step(seed, step), config.voices, config.targets, _units(config.prompt_seconds),
                            _units(config.target_seconds), config.level_bias, config.cut_share, config.whole_share)
        set_rate(optimizers, learning_rate(step, config))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, parts = masked_loss(model, batch)
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
            _log(log, model, dev, config, done, sums, time.monotonic() - began)
            sums = {}
        if done % config.save_every == 0 and not last:
            state = {**settings, "step": done, "seconds": time.monotonic() - began, "sums": sums}
            save_snapshot(output / CHECKPOINT, {"model": model}, optimizers, state)
    _save_model(output, settings, model)
    logging.info("wrote %s after %.0f s", output / MODEL, time.monotonic() - began)


def _log(log: StepLog, model: SoundStorm, dev: Corpus | None, config: TrainingConfig, step: int,
         sums: dict[int, list[float]], seconds: float) -> None:
    line = {"step": step, "loss": round(sum(value for value, _ in sums.values()) / sum(n for _, n in sums.values()), 4),
            "loss_levels": [round(sums[level][0] / sums[level][1], 4) if level in sums else None
                            for level in range(model.config.levels)],
            "learning_rate": learning_rate(step, config)}
    if dev and (step % config.dev_every == 0 or step == config.steps):
        line |= evaluate(model, dev, config)
    line["seconds"] = round(seconds, 1)
    logging.info("step %d/%d loss %.3f %.0f s, %.0f s left%s", step, config.steps, line["loss"], seconds,
                 seconds / step * (config.steps - step),
                 f", dev accuracy {line['dev_accuracy']}" if "dev_accuracy" in line else "")
    log.write(**line)


def _units(seconds: float) -> int:
    return round(seconds * UNITS_RATE)


def _finished(output: Path, settings: dict) -> bool:
    """Whether `output` holds a finished model of the same settings."""
    if not (output / MODEL).is_file():
        return False
    found = read_json(output / CONFIG)
    for key, value in _kept(settings).items():
        if found[key] != value:
            raise AudioPaLMError(f"{output} was trained with {key} {found[key]}, this run has {value}; "
                                 f"remove {output} to train anew")
    if found != settings:  # only how to generate has changed
        write_json(output / CONFIG, settings)
    return True


def _kept(settings: dict) -> dict:
    """The settings that a run must share with the one it goes on from: all but how to generate."""
    return {key: value for key, value in settings.items() if key != "generation"}


def _save_model(output: Path, settings: dict, model: SoundStorm) -> None:
    """The finished model; config.json first, since the presence of the weights says that training is done."""
    write_json(output / CONFIG, settings)
    with atomic_path(output / MODEL) as temporary:
        save_file(model.state_dict(), str(temporary))
    (output / CHECKPOINT).unlink(missing_ok=True)
