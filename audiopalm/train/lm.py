"""Training of the language model: text-only pretraining (stage 7) and joint finetuning (stage 8) are one loop."""

import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric

from audiopalm.bin.common import progress
from audiopalm.config import to_dict
from audiopalm.data.examples import ExampleSet
from audiopalm.data.files import write_json
from audiopalm.errors import AudioPaLMError
from audiopalm.lm.files import extend_vocabulary, load_model, save_model
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.packing import PackedBatch
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tokenizers.text import TextTokenizer
from audiopalm.tokenizers.vocabulary import Vocabulary
from audiopalm.train.mixture import Mixture, MixtureEntry
from audiopalm.train.optimizer import (
    OptimizerConfig,
    Optimizers,
    clip_gradients,
    learning_rate,
    make_optimizers,
    set_rate,
    update,
)
from audiopalm.train.precision import choose_precision
from audiopalm.train.snapshot import StepLog, load_snapshot, save_snapshot, seed_step


@dataclass
class TrainingConfig:
    """`rows` x `row_length` tokens a micro-batch on each device, `accumulate` micro-batches a step."""

    steps: int = 1000
    rows: int = 8
    row_length: int = 512
    accumulate: int = 1
    precision: str = "32-true"  # or bf16-mixed, or auto: what is faster
    log_every: int = 20
    validate_every: int = 200
    validation_sequences: int = 64  # for each task
    save_every: int = 200


@dataclass
class ArchitectureConfig:
    """The shape of a model trained from nothing; a model given by --init_lm brings its own."""

    dim: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    hidden_dim: int = 768
    parallel_block: bool = False
    scale_embedding: bool = False


@dataclass
class LMConfig:
    mixture: list[MixtureEntry]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    model: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    dropout: float = 0.0
    audio_rows: str = "zero"  # how new rows start: zero (the paper), normal or mean


def build_model(config: LMConfig, vocabulary: Vocabulary, init_lm: str | Path | None) -> Decoder:
    """A text LM from nothing, or the text LM of `init_lm` with the audio rows behind its vocabulary."""
    if init_lm is None:
        return Decoder(ModelConfig(vocabulary.text_size, **to_dict(config.model), dropout=config.dropout))
    text_lm = load_model(init_lm, vocabulary, "stage 7 (textlm)")
    text_lm.config.dropout = config.dropout
    return extend_vocabulary(text_lm, vocabulary.audio_size, config.audio_rows)


def train(config: LMConfig, vocabulary: Vocabulary, tokenizer: TextTokenizer, examples: ExampleSet, dev: ExampleSet,
          output: Path, seed: int, init_lm: str | Path | None = None) -> None:
    """Train into `output`: config.json, model.safetensors, log.jsonl; goes on from `snapshot.safetensors` if there."""
    training, snapshot = config.training, output / "snapshot.safetensors"
    settings = {"config": to_dict(config), "seed": seed, "vocabulary_hash": vocabulary.layout_hash}
    if (output / "model.safetensors").exists():
        logging.info("%s is finished; delete it to train anew", output)
        return
    precision = choose_precision(training.precision)
    fabric = Fabric(accelerator="auto", devices=1, precision=precision)
    torch.manual_seed(seed)
    model = build_model(config, vocabulary, init_lm)
    optimizers = make_optimizers(config.optimizer, model)
    wrapped, *ready = fabric.setup(model, *optimizers.values())
    optimizers = dict(zip(optimizers, ready, strict=True))
    builder = SequenceBuilder(vocabulary, tokenizer)
    mixture = Mixture(config.mixture, examples, builder, training.row_length, training.rows, seed)
    validation = Mixture(config.mixture, dev, builder, training.row_length, training.rows, seed).validation(
        training.validation_sequences)

    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "training.json", settings)
    state = {"step": 0, "tokens": 0, "seconds": 0.0, **settings}
    if snapshot.exists():
        state = load_snapshot(snapshot, {"model": model}, optimizers, **settings)
        logging.info("going on from step %d of %s", state["step"], snapshot)
    log = StepLog(output / "log.jsonl", state["step"])
    parameters = sum(p.numel() for p in model.parameters())
    logging.info("%.1f M parameters, %d tokens a step (%d rows x %d x %d), %d steps, precision %s, %d threads, %s",
                 parameters / 1e6, training.rows * training.row_length * training.accumulate, training.rows,
                 training.row_length, training.accumulate, training.steps, precision,
                 torch.get_num_threads(), fabric.device)

    rate = learning_rate(config.optimizer, training.steps)
    batches = mixture.batches(skip=state["step"] * training.accumulate)
    start, window = time.monotonic() - state["seconds"], {"loss": 0.0, "outputs": 0, "tokens": 0}
    window_start = time.monotonic()
    steps = range(state["step"], training.steps)
    for step in progress(steps, len(steps), f"training {output}"):
        seed_step(seed, step)
        set_rate(optimizers, rate(step))
        loss, outputs, tokens, names = _step(fabric, wrapped, optimizers, batches, training.accumulate,
                                             config.optimizer.clip)
        if not math.isfinite(loss):
            write_json(output / "nan_batch.json", {"step": step, "utterances": names})
            raise AudioPaLMError(f"loss is not a number at step {step}; its utterances are in {output}/nan_batch.json; "
                                 "lower optimizer.learning_rate")
        window = {"loss": window["loss"] + loss, "outputs": window["outputs"] + outputs,
                  "tokens": window["tokens"] + tokens}
        state |= {"step": step + 1, "tokens": state["tokens"] + tokens, "seconds": time.monotonic() - start}
        last = step + 1 == training.steps
        validate_now = (step + 1) % training.validate_every == 0 or last
        if (step + 1) % training.log_every == 0 or validate_now:
            speed = window["tokens"] / (time.monotonic() - window_start)
            row = {"step": step + 1, "loss": window["loss"] / window["outputs"], "rate": rate(step),
                   "tokens": state["tokens"], "tokens_per_second": round(speed), "seconds": round(state["seconds"], 1)}
            if validate_now:
                row["dev"] = validate(wrapped, validation)
                logging.info("step %d dev loss: %s", step + 1,
                             ", ".join(f"{name} {value:.3f}" for name, value in row["dev"].items()))
            log.write(**row)
            logging.info("step %d/%d loss %.3f, %d tokens/s", step + 1, training.steps, row["loss"], speed)
            window, window_start = {"loss": 0.0, "outputs": 0, "tokens": 0}, time.monotonic()
        if (step + 1) % training.save_every == 0 and not last:
            save_snapshot(snapshot, {"model": model}, optimizers, state)
    save_model(output, model, vocabulary.layout_hash, seed)
    snapshot.unlink(missing_ok=True)
    logging.info("wrote %s: %d tokens in %.0f s", output, state["tokens"], state["seconds"])


def _step(fabric: Fabric, model: torch.nn.Module, optimizers: Optimizers, batches, accumulate: int,
          clip: float) -> tuple[float, int, int, list[str]]:
    """One optimizer step; every output token of all micro-batches weighs the same. Returns summed loss and counts."""
    total, outputs, tokens, names = 0.0, 0, 0, []
    for _ in range(accumulate):
        batch: PackedBatch = next(batches)
        loss, count = model(*(fabric.to_device(t) for t in (batch.ids, batch.segments, batch.positions, batch.targets)))
        fabric.backward(loss)
        total, outputs, tokens = total + float(loss.detach()), outputs + int(count), tokens + batch.tokens
        names += batch.utterances
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= outputs
    clip_gradients(model, clip)
    update(optimizers)
    return total, outputs, tokens, names


@torch.no_grad()
def validate(model: torch.nn.Module, batches: dict[str, list[PackedBatch]]) -> dict[str, float]:
    """Mean loss per output token, {task: nats}; dropout off."""
    model.eval()
    losses = {}
    for name, group in batches.items():
        sums = [model(batch.ids, batch.segments, batch.positions, batch.targets) for batch in group]
        losses[name] = float(sum(loss for loss, _ in sums)) / max(int(sum(count for _, count in sums)), 1)
    model.train()
    return losses
