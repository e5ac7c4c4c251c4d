"""The training engine: one loop over training steps, which every training of the package uses.

A component describes its training as a `Training`: modules, batches, losses of a batch, an evaluation. The engine does
the rest: processes and precision, accumulation, clipping, the learning-rate schedule, progress, log.jsonl and
TensorBoard, validation, early stopping, checkpoints and exact resume.
"""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.core.lock import locked
from audiopalm.core.progress import progress
from audiopalm.core.tensors import Stored
from audiopalm.training.checkpoint import Checkpoints, seed_micro_batch
from audiopalm.training.config import TrainingConfig
from audiopalm.training.log import StepLog, Window
from audiopalm.training.optimizer import UpdateGroup
from audiopalm.training.parallel import (
    average_gradients,
    broadcast_module,
    distribute,
    one_line,
    scale_gradients,
    start,
    total,
)
from audiopalm.training.precision import choose_precision
from audiopalm.training.preemption import leave, preemption
from audiopalm.training.record import begin, digest

Number: TypeAlias = float | Tensor  # a tensor stays on its device until a row of the log is written
Weights = dict[str, dict[str, Stored]]  # {module: {name: weight}}; each weight is read when it is needed


@dataclass
class Loss:
    """One loss of a micro-batch: the sum over `count` items (tokens, frames), each of which weighs the same in a step.

    group: the parameters that the loss updates. values: {name in the log: (sum, number of items)}, logged as means; a
    sum may be a tensor. counts: {name: number}, added up for `Training.measure`.
    """

    total: Tensor
    count: Number = 1
    group: str = "model"
    values: Mapping[str, tuple[Number, Number]] = field(default_factory=dict)
    counts: Mapping[str, Number] = field(default_factory=dict)


class Training(ABC):
    """The modules, batches and losses of one training. The engine moves the modules to the device of the process."""

    modules: dict[str, nn.Module]  # {name in checkpoints: module}
    # {module: names of its weights that training does not change}. `fill` sets them each time; they are not in
    # checkpoints.
    frozen: Mapping[str, frozenset[str]] = MappingProxyType({})
    comparable_from: int = 0  # the first step whose dev loss counts in the choice of the best checkpoint
    single_process: str = ""  # the reason why several processes cannot train this; empty where they can
    # Whether FSDP2 may shard the modules, by their `blocks`. Their parameters then change in updates only, and a
    # checkpoint is written while the next step computes its gradients.
    shardable: bool = False

    def fill(self) -> None:
        """Give modules that were built on the meta device their first values; called after the modules are sharded."""
        return None

    @abstractmethod
    def update_groups(self) -> dict[str, UpdateGroup]:
        """{group of a `Loss`: its parameters and optimizers}; called after the modules are sharded."""

    @abstractmethod
    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[Any]:
        """The micro-batches with these numbers; `state` is the value of `state()` in the checkpoint, or empty."""

    @abstractmethod
    def step(self, batch: Any, step: int) -> Iterator[Loss]:
        """The losses of a micro-batch, one after another; the engine updates a loss's group before it asks for the
        next."""

    @abstractmethod
    def finish(self, weights: Weights) -> None:
        """Write the model; `Run.product`, the file that marks the training as finished, is written last.

        Only the first process calls it. The modules have the same weights, but may be sharded.
        """

    def begin_step(self, step: int) -> bool:
        """Prepare for a step, for example by k-means. Return True where this has changed the modules."""
        return False

    def evaluate(self) -> dict[str, float]:
        """{name: loss on the dev set}, with dropout off; empty without a dev set."""
        return {}

    def utterances(self, batch: Any) -> list[str]:
        """The ids of the utterances in a batch, for the report of a loss that is not a number."""
        return []

    def measure(self, counts: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Further values for the log, such as tokens per second, from the counts of all processes in `seconds`."""
        return {}

    def state(self) -> dict[str, Any]:
        """The state of the training besides weights and the number of steps, as values of JSON; for checkpoints."""
        return {}


@dataclass(frozen=True)
class Run:
    """The output and the settings of a training.

    made_from: everything that changes the result, see audiopalm/training/record.py. product: the file in `output` that
    marks the training as finished.
    """

    output: Path
    product: str
    seed: int
    config: TrainingConfig
    made_from: Mapping[str, Any]


@dataclass
class Best:
    """The lowest dev loss, and the number of steps that were done when it was measured."""

    loss: float
    step: int


@dataclass
class RunState:
    """The state of a run that checkpoints hold besides weights and moments.

    waited: validations since the best one. window: the losses since the last row of the log. training: the value of
    `Training.state`.
    """

    step: int = 0  # steps that are done
    seconds: float = 0.0
    ended: bool = False
    best: Best | None = None
    waited: int = 0
    window: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RunState":
        """The state from the values in a checkpoint, which are those of `asdict`."""
        return cls(**{**values, "best": Best(**values["best"]) if values["best"] else None})


def run_training(run: Run, make: Callable[[Fabric], Training]) -> bool:
    """Train into `run.output`, or continue from its checkpoint; False if that training was finished before.

    `make` builds the training; it is called with torch seeded, and only if the training is not finished. Raises
    AudioPaLMError when the output was begun with other settings or inputs, when the processes cannot share the
    micro-batches of a step evenly, and for a loss that is not a number.
    """
    with one_line():
        if not begin(run.output, run.product, run.made_from):
            return False
        precision = choose_precision(run.config.precision, run.output)
        fabric = start(precision)
        if not fabric.is_global_zero:
            logging.disable(logging.WARNING)
        with (locked(run.output, "training") if fabric.is_global_zero else nullcontext(),
              preemption(fabric) as asked_to_end):
            torch.manual_seed(run.seed)
            training = make(fabric)
            _check_processes(run, training, fabric.world_size)
            _Loop(run, training, fabric, precision, asked_to_end).run()
    return True


def _check_processes(run: Run, training: Training, processes: int) -> None:
    """Raise AudioPaLMError where this number of processes cannot run the training."""
    if processes == 1:
        return
    number = run.config.micro_batches
    if training.single_process:
        raise AudioPaLMError(f"{run.output}: {training.single_process}; start it with --num_nodes 1 and "
                             "--ngpu 0 or 1")
    if number % processes:
        raise AudioPaLMError(f"{run.output}: training.micro_batches is {number}, which {processes} processes cannot "
                             f"share evenly; start a number of processes that divides {number}, or train anew with "
                             "another number")
    if run.config.strategy == "fsdp" and not training.shardable:
        raise AudioPaLMError(f"{run.output}: training.strategy fsdp is for language models; give ddp")


class _Loop:
    """One call of `run_training`."""

    def __init__(self, run: Run, training: Training, fabric: Fabric, precision: str, asked_to_end: Callable[[], bool]):
        self.asked_to_end = asked_to_end
        self.settings, self.training, self.fabric, self.config = run, training, fabric, run.config
        for module in training.modules.values():
            distribute(fabric, self.config.strategy, module)
        training.fill()
        self.groups = training.update_groups()
        self.optimizers = {name if len(self.groups) == 1 else f"{key}_{name}": optimizer
                           for key, group in self.groups.items() for name, optimizer in group.optimizers.items()}
        self.checkpoints = Checkpoints(run.output, digest(run.made_from), fabric, training.frozen)
        stored = self.checkpoints.load(training.modules, self.optimizers)
        self.state = RunState() if stored is None else RunState.of(stored)
        self.log = StepLog(run.output / "log.jsonl", self.state.step, fabric.is_global_zero, self.config.wandb_project)
        self.window = Window(self.state.window)
        parameters = sum(parameter.numel() for module in training.modules.values() for parameter in module.parameters())
        logging.info("%s: %.1f M parameters, %d steps of %d micro-batches in %d processes, precision %s, %d threads, "
                     "%s", run.output, parameters / 1e6, self.config.steps, self.config.micro_batches,
                     fabric.world_size, precision, torch.get_num_threads(), fabric.device)

    def run(self) -> None:
        try:
            self._train()
            self._finish()
        finally:
            self.checkpoints.close()

    def _train(self) -> None:
        first, per_step = self.state.step, self.config.micro_batches
        started = time.monotonic() - self.state.seconds
        numbers = range(first * per_step + self.fabric.global_rank, self.config.steps * per_step,
                        self.fabric.world_size)
        batches = self.training.batches(numbers, self.state.training)
        steps = range(first, first if self.state.ended else self.config.steps)
        shown = progress(steps, len(steps), f"training {self.settings.output}") if self.fabric.is_global_zero else steps
        self._set_mode(train=True)
        for step in shown:
            last = step + 1 == self.config.steps
            validating = (step + 1) % self.config.validate_every == 0 or last
            logging_now = (step + 1) % self.config.log_every == 0 or last
            saving = (step + 1) % self.config.save_every == 0 or last
            self._begin_step(step)
            window_started = time.monotonic()
            self._step(step, batches)
            leaving = self.asked_to_end()
            if validating or logging_now or saving or leaving:
                self._collect()
            self.window.seconds += time.monotonic() - window_started
            self.state.step, self.state.seconds = step + 1, time.monotonic() - started
            self.state.training = self.training.state()
            dev = self._validate(step) if validating else {}
            self.state.ended = last or (bool(dev) and self._is_patience_over())
            if logging_now or dev:
                self.checkpoints.settle()
                self._write_log(step, dev)
            self.state.window = self.window.state()
            if saving or leaving or self.state.ended:
                self.checkpoints.save(self.training.modules, self.optimizers, asdict(self.state))
            if self.state.ended:
                break
            if leaving:
                self.checkpoints.settle()
                leave(self.fabric, self.settings.output, step + 1)

    def _begin_step(self, step: int) -> None:
        if not self.training.shardable:
            self.checkpoints.wait_until_read()
        try:
            changed = self.training.begin_step(step)
        except RuntimeError:
            self._collect()  # k-means fails where weights are no longer finite; this then names the step
            raise
        if changed:
            for module in self.training.modules.values():
                broadcast_module(self.fabric, module)

    def _step(self, step: int, batches: Iterator[Any]) -> None:
        """One optimizer step of every group. All items of a loss weigh the same, in all micro-batches of all processes.
        Nothing is read back from the device."""
        own = self.config.micro_batches // self.fabric.world_size
        first = step * self.config.micro_batches + self.fabric.global_rank
        used = [next(batches) for _ in range(own)]
        names = [name for batch in used for name in self.training.utterances(batch)]
        sources = [self.training.step(batch, step) for batch in used]
        seeds: list[int | None] = [first + index * self.fabric.world_size for index in range(own)]
        while losses := self._backward(sources, seeds):
            seeds = [None] * own  # a later loss of the same batch continues the sequence of random numbers
            group = self.groups[losses[0].group]
            average_gradients(self.fabric, group.parameters())
            # The gradients are means over the processes, of sums over items.
            scale_gradients(group.parameters(), self.fabric.world_size / self._count(losses))
            self.checkpoints.wait_until_read()
            group.update(step)
            self.window.add(step, [replace(loss, total=loss.total.detach()) for loss in losses], names)

    def _count(self, losses: list[Loss]) -> Number:
        """The number of items in the losses of all processes, at least 1; a tensor stays on its device."""
        count = sum((loss.count for loss in losses), start=0.0)
        if self.fabric.world_size > 1 or isinstance(count, Tensor):
            return total(self.fabric, torch.zeros((), device=self.fabric.device) + count).clamp(min=1)
        return max(count, 1.0)

    def _backward(self, sources: list[Iterator[Loss]], seeds: list[int | None]) -> list[Loss]:
        """Take the next loss of each micro-batch and add up its gradients; an empty list after the last loss."""
        losses: list[Loss] = []
        for source, seed in zip(sources, seeds, strict=True):
            if seed is not None:
                seed_micro_batch(self.settings.seed, seed)
            with self.fabric.autocast():
                loss = next(source, None)
            if loss is None:
                continue
            if not losses:
                for optimizer in self.groups[loss.group].optimizers.values():
                    optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            losses.append(loss)
        return losses

    def _collect(self) -> None:
        """Read the losses since the last call from the device; AudioPaLMError for a loss that is not a number."""
        if (step := self.window.collect(self.fabric)) is not None:
            write_json(self.settings.output / f"nan_batch.{self.fabric.global_rank}.json",
                       {"step": step, "utterances": self.window.names.get(step, [])})
            rank = "0" if self.fabric.world_size == 1 else "*"  # every process writes a file
            raise AudioPaLMError(f"loss is not a number at step {step}; the utterances of that step are in "
                                 f"{self.settings.output}/nan_batch.{rank}.json; lower optimizer.learning_rate")

    def _validate(self, step: int) -> dict[str, float]:
        """Dev losses with their mean as `loss`; where it is the lowest, the weights are saved as the best.

        Every process computes the losses, and those of the first process count. Raises AudioPaLMError for a loss that
        is not a number.
        """
        self._set_mode(train=False)
        with torch.no_grad(), self.fabric.autocast():
            dev = self.training.evaluate()
        self._set_mode(train=True)
        if not dev:
            return {}
        dev = {name: round(value, 6) for name, value in dev.items()}
        dev.setdefault("loss", sum(dev.values()) / len(dev))
        dev = self.fabric.broadcast(dev)
        if math.isnan(dev["loss"]):
            raise AudioPaLMError(f"the dev loss is not a number after step {step + 1}: {dev}")
        logging.info("step %d dev: %s", step + 1, ", ".join(f"{name} {value:.3f}" for name, value in dev.items()))
        if step >= self.training.comparable_from:
            better = self.state.best is None or dev["loss"] < self.state.best.loss
            self.state.waited = 0 if better else self.state.waited + 1
            if better:
                self.state.best = Best(dev["loss"], step + 1)
                if self.config.keep == "best" and step + 1 < self.config.steps:
                    self.checkpoints.save_best(self.training.modules, asdict(self.state))
        return dev

    def _is_patience_over(self) -> bool:
        if self.state.best is None or not self.config.patience or self.state.waited < self.config.patience:
            return False
        logging.info("the dev loss has not been below %.3f for %d validations: training ends here",
                     self.state.best.loss, self.state.waited)
        return True

    def _write_log(self, step: int, dev: dict[str, float]) -> None:
        rates = {group.schedule(step) for group in self.groups.values()}
        row: dict[str, Any] = self.window.row() | {"rate": max(rates)}
        row |= self.training.measure(self.window.counts, self.window.seconds)
        row["seconds"] = round(self.state.seconds, 1)
        if dev:
            row["dev"] = dev
        self.log.write(step=step + 1, **row)
        logging.info("step %d/%d %s", step + 1, self.config.steps,
                     ", ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, int | float)))
        self.window = Window(None)

    def _finish(self) -> None:
        """Load the checkpoint that becomes the model, and write the model."""
        self.checkpoints.settle()
        best, last = self.state.best, self.state.step
        earlier = best if best is not None and best.step < last and self.config.keep == "best" else None
        if earlier is not None:
            self.checkpoints.load_best(self.training.modules)
            logging.info("keeping the checkpoint of step %d, whose dev loss of %.3f is the lowest", earlier.step,
                         earlier.loss)
        else:
            logging.info("keeping the last checkpoint, of step %d%s", last,
                         ", whose dev loss is the lowest" if best is not None and best.step == last else "")
        self._set_mode(train=False)
        weights = self.checkpoints.weights(earlier is not None)
        if self.fabric.is_global_zero:
            self.training.finish(weights)
        self.fabric.barrier()
        self.checkpoints.remove()
        logging.info("wrote %s after %.0f s", self.settings.output, self.state.seconds)

    def _set_mode(self, train: bool) -> None:
        for module in self.training.modules.values():
            module.train(train)
