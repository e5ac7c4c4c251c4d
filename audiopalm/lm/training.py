"""Training of the language model: text-only pretraining (stage 7) and joint finetuning (stage 8) are one loop."""

import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.core.progress import progress
from audiopalm.data.examples import ExampleSet
from audiopalm.lm.mixture import Mixture, MixtureEntry, Share, trained_tasks
from audiopalm.lm.model import ArchitectureConfig, Decoder, ModelConfig
from audiopalm.lm.packing import PackedBatch
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import extend_vocabulary, load_model, save_model
from audiopalm.training.checkpoint import Snapshots, seed_step
from audiopalm.training.log import StepLog
from audiopalm.training.optimizer import (
    OptimizerConfig,
    Optimizers,
    clip_gradients,
    learning_rate,
    make_optimizers,
    set_rate,
    update,
)
from audiopalm.training.parallel import start as start_processes
from audiopalm.training.parallel import total, whole
from audiopalm.training.precision import choose_precision, matrix_seconds
from audiopalm.vocabulary.joint import Vocabulary
from audiopalm.vocabulary.text import TextTokenizer


@dataclass
class TrainingConfig:
    """`rows` x `row_length` tokens a micro-batch in each process, `accumulate` micro-batches a step."""

    steps: int = 1000
    rows: int = 8
    row_length: int = 512
    accumulate: int = 1
    recompute: bool = False  # a third more work, and memory for the tokens of one block in place of all
    workers: int = 0  # processes that prepare batches ahead; the batches are the same ones
    precision: str = "32-true"  # or bf16-mixed, or auto: what is faster
    strategy: str = "ddp"  # of several processes: ddp, or fsdp for models that one device cannot hold
    log_every: int = 20
    validate_every: int = 200
    validation_sequences: int = 64  # for each task
    save_every: int = 200
    patience: int = 0  # validations without a better mean of the tasks' losses after which training ends; 0: never
    wandb_project: str = ""  # of Weights & Biases, where the numbers of log.jsonl shall go too


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
    """Train into `output`: config.json, model.safetensors, log.jsonl; goes on from a snapshot if there is one."""
    training = config.training
    settings = {"config": to_dict(config), "seed": seed, "vocabulary_hash": vocabulary.layout_hash}
    if (output / "model.safetensors").exists():
        logging.info("%s is finished; delete it to train anew", output)
        return
    precision = choose_precision(training.precision, output)
    fabric = start_processes(training.strategy, precision)
    if not fabric.is_global_zero:
        logging.disable(logging.WARNING)
    torch.manual_seed(seed)
    model = build_model(config, vocabulary, init_lm)
    model.recompute = training.recompute
    wrapped = fabric.setup_module(model)
    made = make_optimizers(config.optimizer, model)  # of the parameters as they are shared out
    optimizers = {name: fabric.setup_optimizers(optimizer) for name, optimizer in made.items()}
    builder = SequenceBuilder(vocabulary, tokenizer)
    mixture = Mixture(config.mixture, examples, builder, training.row_length, training.rows, seed)
    validation = Mixture(config.mixture, dev, builder, training.row_length, training.rows, seed).validation(
        training.validation_sequences)

    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "training.json", settings)
    snapshots = Snapshots(output, settings)
    state = snapshots.load({"model": model}, optimizers) or {"step": 0, "tokens": 0, "seconds": 0.0, "chunk": [0, 0]}
    log = StepLog(output / "log.jsonl", state["step"], fabric.is_global_zero, training.wandb_project)
    tokens = training.rows * training.row_length * training.accumulate
    logging.info("%.1f M parameters, %d tokens a step: %d processes x %d micro-batches x %d rows x %d; %d steps, "
                 "precision %s, %d threads, %s", sum(p.numel() for p in model.parameters()) / 1e6,
                 tokens * fabric.world_size, fabric.world_size, training.accumulate, training.rows,
                 training.row_length, training.steps, precision, torch.get_num_threads(), fabric.device)

    rate, work = learning_rate(config.optimizer, training.steps), Work(model, fabric.device, precision)
    # Processes take turns with the micro-batches, so that two of them see what one with two micro-batches would see.
    skip = state["step"] * training.accumulate * fabric.world_size
    share = Share(mixture, skip, tuple(state["chunk"]), fabric.global_rank, fabric.world_size)
    batches = iter(DataLoader(share, batch_size=None, num_workers=training.workers))
    start, window = time.monotonic() - state["seconds"], {"loss": 0.0, "outputs": 0, "tokens": 0}
    window_start = time.monotonic()
    steps = range(state["step"], training.steps)
    for step in progress(steps, len(steps), f"training {output}") if fabric.is_global_zero else steps:
        seed_step(seed + fabric.global_rank, step)
        set_rate(optimizers, rate(step))
        loss, outputs, tokens, used = _step(fabric, wrapped, optimizers, batches, training.accumulate,
                                             config.optimizer.clip)
        if not math.isfinite(loss):
            path = output / f"nan_batch.{fabric.global_rank}.json"
            write_json(path, {"step": step, "utterances": [name for batch in used for name in batch.utterances]})
            raise AudioPaLMError(f"loss is not a number at step {step}; the utterances of that step are in {path}; "
                                 "lower optimizer.learning_rate")
        window = {"loss": window["loss"] + loss, "outputs": window["outputs"] + outputs,
                  "tokens": window["tokens"] + tokens}
        state |= {"step": step + 1, "tokens": state["tokens"] + tokens, "seconds": time.monotonic() - start,
                  "chunk": used[-1].chunk}
        last = step + 1 == training.steps
        validate_now = (step + 1) % training.validate_every == 0 or last
        if (step + 1) % training.log_every == 0 or validate_now:
            seconds = time.monotonic() - window_start
            speed, share = window["tokens"] / seconds, work.share(window["tokens"], window["outputs"], seconds)
            row = {"step": step + 1, "loss": window["loss"] / window["outputs"], "rate": rate(step),
                   "tokens": state["tokens"], "tokens_per_second": round(speed), "seconds": round(state["seconds"], 1),
                   "matmul_share": round(share, 3)}
            if validate_now:
                row["dev"] = validate(fabric, wrapped, validation)
                logging.info("step %d dev loss: %s", step + 1,
                             ", ".join(f"{name} {value:.3f}" for name, value in row["dev"].items()))
            log.write(**row)
            logging.info("step %d/%d loss %.3f, %d tokens/s, %.0f %% of the matrix products there could be", step + 1,
                         training.steps, row["loss"], speed, 100 * share)
            window, window_start = {"loss": 0.0, "outputs": 0, "tokens": 0}, time.monotonic()
        if validate_now and _waited_enough(state, row["dev"], training.patience):
            break
        if (step + 1) % training.save_every == 0 and not last:
            snapshots.save({"model": model}, optimizers, state)
    weights = {name: whole(value) for name, value in model.state_dict().items()}
    if fabric.is_global_zero:
        save_model(output, model.config, weights, vocabulary.layout_hash, seed,
                   trained_tasks(mixture.cells, examples))
        snapshots.remove()
    logging.info("wrote %s: %d tokens in %.0f s", output, state["tokens"], state["seconds"])


def _step(fabric: Fabric, model: torch.nn.Module, optimizers: Optimizers, batches, accumulate: int,
          clip: float) -> tuple[float, int, int, list[PackedBatch]]:
    """One optimizer step; every output token of all micro-batches of all processes weighs the same.

    Returns summed loss and counts of all processes, and the batches of this one.
    """
    summed, outputs, tokens, used = 0.0, 0, 0, []
    for number in range(accumulate):
        batch: PackedBatch = next(batches)
        with fabric.no_backward_sync(model, enabled=number + 1 < accumulate):
            loss, count = model(*_tensors(fabric, batch))
            fabric.backward(loss)
        summed, outputs, tokens = summed + float(loss.detach()), outputs + int(count), tokens + batch.tokens
        used.append(batch)
    summed, outputs, tokens = total(fabric, summed, outputs, tokens)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad *= fabric.world_size / outputs  # processes have exchanged the mean of their gradients
    clip_gradients(model, clip)
    update(optimizers)
    return summed, int(outputs), int(tokens), used


def _tensors(fabric: Fabric, batch: PackedBatch) -> tuple[torch.Tensor, ...]:
    """What `Decoder.forward` takes, on the device."""
    return fabric.to_device((batch.ids, batch.segments, batch.positions, batch.targets))


def _waited_enough(state: dict, dev: dict[str, float], patience: int) -> bool:
    """Whether the mean loss of the tasks has not been better for `patience` validations; kept in `state`."""
    mean = sum(dev.values()) / len(dev)
    better = mean < state.get("best", math.inf)
    state |= {"best": min(mean, state.get("best", math.inf)), "waited": 0 if better else state.get("waited", 0) + 1}
    if patience and state["waited"] >= patience:
        logging.info("the mean dev loss %.3f has not been below %.3f for %d validations: training ends here", mean,
                     state["best"], patience)
        return True
    return False


class Work:
    """How much of what this device can do in matrix products a training does."""

    def __init__(self, model: Decoder, device: torch.device, precision: str):
        config = model.config
        self.embedding = config.vocabulary_size * config.dim
        self.rest = sum(p.numel() for p in model.parameters()) - self.embedding * (1 if config.tied else 2)
        self.dtype, self.device, self.peak = torch.bfloat16 if "bf16" in precision else torch.float32, device, 0.0

    def share(self, tokens: int, outputs: int, seconds: float) -> float:
        """Of `tokens` of which `outputs` had logits: 6 operations for each weight that a token meets; attention,
        padding and the optimizer are not counted. What the device can do is the best that was seen so far: others may
        use it too."""
        self.peak = max(self.peak, 2 * 1024 ** 3 / matrix_seconds(self.dtype, 1024, self.device))
        return 6 * (self.rest * tokens + self.embedding * outputs) / seconds / self.peak


@torch.no_grad()
def validate(fabric: Fabric, model: torch.nn.Module, batches: dict[str, list[PackedBatch]]) -> dict[str, float]:
    """Mean loss per output token, {task: nats}; dropout off."""
    model.eval()
    losses = {}
    for name, group in batches.items():
        sums = [model(*_tensors(fabric, batch)) for batch in group]
        losses[name] = float(sum(loss for loss, _ in sums)) / max(int(sum(count for _, count in sums)), 1)
    model.train()
    return losses
