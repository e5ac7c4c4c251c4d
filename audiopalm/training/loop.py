"""The training engine: the one loop over training steps, used by every training of the package.

A component describes its training as a `Training`: modules, batches, losses of a batch, an evaluation. The engine does
the rest: processes and precision, accumulation, clipping, the learning-rate schedule, progress, log.jsonl and
TensorBoard, validation, early stopping, checkpoints and exact resume.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

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

Number = float | Tensor  # a tensor stays on its device until a row of the log is written
Weights = dict[str, dict[str, Stored]]  # {module: its state}, read from a checkpoint one by one


@dataclass
class Loss:
    """One loss of a micro-batch, a sum over `count` things of which each weighs the same in a step.

    group: which parameters it updates. values: {name in the log: (sum, number of things)}, shown as means; a sum may
    be a tensor. counts: {name: number}, summed up for `Training.measure`.
    """

    total: Tensor
    count: Number = 1
    group: str = "model"
    values: Mapping[str, tuple[Number, Number]] = field(default_factory=dict)
    counts: Mapping[str, Number] = field(default_factory=dict)


class Training(ABC):
    """What one training is made of; its modules are on the device of the process."""

    modules: dict[str, nn.Module]  # what checkpoints hold
    # {module: names of its weights that no step changes}: they come from `fill` each time, checkpoints do not hold them
    frozen: Mapping[str, frozenset[str]] = MappingProxyType({})
    comparable_from: int = 0  # first step whose dev losses are of the model as it will be used
    single_process: str = ""  # why several processes cannot train this; empty where they can
    # Whether FSDP2 may shard the modules, by their `blocks`. Their parameters then change in updates only, and a
    # checkpoint is written while the next step computes its gradients.
    shardable: bool = False

    def fill(self) -> None:
        """Give modules that were built on the meta device their first values; called when the modules are sharded."""
        return None

    @abstractmethod
    def update_groups(self) -> dict[str, UpdateGroup]:
        """{group of a `Loss`: its parameters and optimizers}; called when the modules are sharded."""

    @abstractmethod
    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[Any]:
        """The micro-batches with these numbers; `state` is what the `state` of an earlier process returned."""

    @abstractmethod
    def step(self, batch: Any, step: int) -> Iterator[Loss]:
        """The losses of a micro-batch, one after another; the engine updates a loss's group before it asks for more."""

    @abstractmethod
    def finish(self, weights: Weights) -> None:
        """Write the model; the file whose presence says that the training is finished comes last.

        Only the first process calls it. The modules have the same weights, but may be sharded.
        """

    def begin_step(self, step: int) -> bool:
        """Prepare for a step, by k-means for example; True where this has changed the modules."""
        return False

    def evaluate(self) -> dict[str, float]:
        """{name: loss on the dev set}, with dropout off; empty without a dev set."""
        return {}

    def utterances(self, batch: Any) -> list[str]:
        """What the batch is made of, for the message about a loss that is not a number."""
        return []

    def measure(self, counts: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Further figures for the log, from the counts of all processes' losses in `seconds`."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must know besides weights and the number of steps."""
        return {}


@dataclass(frozen=True)
class Run:
    """Where a training goes and what it is made from. `made_from` holds everything that changes the result, see
    audiopalm/training/record.py; `product` is the file in `output` whose presence says that the training is finished.
    """

    output: Path
    product: str
    seed: int
    config: TrainingConfig
    made_from: Mapping[str, Any]


def run_training(run: Run, make: Callable[[Fabric], Training]) -> bool:
    """Train into `run.output`, or go on from its checkpoint; False if that training was finished before.

    `make` builds the training; it is called with torch seeded, and only if there is something to do. Raises
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
    """Raise AudioPaLMError where so many processes cannot train together."""
    if processes == 1:
        return
    number = run.config.micro_batches
    if training.single_process:
        raise AudioPaLMError(f"{run.output}: {training.single_process}; start it with --num_nodes 1 and "
                             "--ngpu 0 or 1")
    if number % processes:
        raise AudioPaLMError(f"{run.output}: training.micro_batches is {number}, which {processes} processes cannot "
                             f"share evenly; start as many processes as divide {number}, or train anew with another "
                             "number")
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
        self.state = self.checkpoints.load(training.modules, self.optimizers) or {
            "step": 0, "seconds": 0.0, "ended": False, "best": None, "waited": 0, "window": None, "training": {}}
        self.log = StepLog(run.output / "log.jsonl", self.state["step"], fabric.is_global_zero,
                           self.config.wandb_project)
        self.window = Window(self.state["window"])
        parameters = sum(one.numel() for module in training.modules.values() for one in module.parameters())
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
        first, per_step = self.state["step"], self.config.micro_batches
        started = time.monotonic() - self.state["seconds"]
        numbers = range(first * per_step + self.fabric.global_rank, self.config.steps * per_step,
                        self.fabric.world_size)
        batches = self.training.batches(numbers, self.state["training"])
        steps = range(first, first if self.state["ended"] else self.config.steps)
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
            self.state |= {"step": step + 1, "seconds": time.monotonic() - started, "training": self.training.state()}
            dev = self._validate(step) if validating else {}
            self.state["ended"] = last or (bool(dev) and self._is_patience_over())
            if logging_now or dev:
                self.checkpoints.settle()
                self._write_log(step, dev)
            self.state["window"] = self.window.state()
            if saving or leaving or self.state["ended"]:
                self.checkpoints.save(self.training.modules, self.optimizers, self.state)
            if self.state["ended"]:
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
            self._collect()  # k-means fails when the weights are no numbers any more: this names the step
            raise
        if changed:
            for module in self.training.modules.values():
                broadcast_module(self.fabric, module)

    def _step(self, step: int, batches: Iterator[Any]) -> None:
        """One optimizer step of every group; everything that a loss counts weighs the same, in all micro-batches of
        all processes. Nothing is read back from the device."""
        own = self.config.micro_batches // self.fabric.world_size
        first = step * self.config.micro_batches + self.fabric.global_rank
        used = [next(batches) for _ in range(own)]
        names = [name for batch in used for name in self.training.utterances(batch)]
        losses = [self.training.step(batch, step) for batch in used]
        seeds: list[int | None] = [first + index * self.fabric.world_size for index in range(own)]
        while True:
            found = self._backward(losses, seeds)
            seeds = [None] * own  # a later loss of the same batch goes on with the same random numbers
            if not found:
                return
            group = self.groups[found[0].group]
            average_gradients(self.fabric, group.parameters())
            counts = sum(loss.count for loss in found)
            if self.fabric.world_size > 1 or isinstance(counts, Tensor):
                counts = total(self.fabric, torch.zeros((), device=self.fabric.device) + counts).clamp(min=1)
            else:
                counts = max(counts, 1)
            scale_gradients(group.parameters(), self.fabric.world_size / counts)  # they are means of the processes
            self.checkpoints.wait_until_read()
            group.update(step)
            self.window.add(step, [replace(loss, total=loss.total.detach()) for loss in found], names)

    def _backward(self, losses: list[Iterator[Loss]], seeds: list[int | None]) -> list[Loss]:
        """The next loss of each micro-batch, its gradients added up; empty when there is none."""
        found: list[Loss] = []
        for source, seed in zip(losses, seeds, strict=True):
            if seed is not None:
                seed_micro_batch(self.settings.seed, seed)
            with self.fabric.autocast():
                loss = next(source, None)
            if loss is None:
                continue
            if not found:
                for optimizer in self.groups[loss.group].optimizers.values():
                    optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            found.append(loss)
        return found

    def _collect(self) -> None:
        """Read the losses since the last time from the device. Raises AudioPaLMError where one is not a number."""
        if (step := self.window.collect(self.fabric)) is not None:
            write_json(self.settings.output / f"nan_batch.{self.fabric.global_rank}.json",
                       {"step": step, "utterances": self.window.names.get(step, [])})
            of = "0" if self.fabric.world_size == 1 else "*"  # a file of each process
            raise AudioPaLMError(f"loss is not a number at step {step}; the utterances of that step are in "
                                 f"{self.settings.output}/nan_batch.{of}.json; lower optimizer.learning_rate")

    @torch.no_grad()
    def _validate(self, step: int) -> dict[str, float]:
        """Dev losses with their mean as `loss`; keeps the best weights. Every process computes them, the first one's
        count."""
        self._set_mode(train=False)
        with self.fabric.autocast():
            dev = self.training.evaluate()
        self._set_mode(train=True)
        if not dev:
            return {}
        dev = {name: round(value, 6) for name, value in dev.items()}
        dev.setdefault("loss", sum(dev.values()) / len(dev))
        dev = self.fabric.broadcast(dev)
        logging.info("step %d dev: %s", step + 1, ", ".join(f"{name} {value:.3f}" for name, value in dev.items()))
        if step >= self.training.comparable_from:
            best = self.state["best"]
            better = best is None or dev["loss"] < best["loss"]
            self.state["waited"] = 0 if better else self.state["waited"] + 1
            if better:
                self.state["best"] = {"loss": dev["loss"], "step": step + 1}
                if self.config.keep == "best" and step + 1 < self.config.steps:
                    self.checkpoints.save_best(self.training.modules, self.state)
        return dev

    def _is_patience_over(self) -> bool:
        if not self.config.patience or self.state["waited"] < self.config.patience:
            return False
        logging.info("the dev loss has not been below %.3f for %d validations: training ends here",
                     self.state["best"]["loss"], self.state["waited"])
        return True

    def _write_log(self, step: int, dev: dict[str, float]) -> None:
        rates = {group.schedule(step) for group in self.groups.values()}
        row = self.window.row() | {"rate": max(rates)}
        row |= self.training.measure(self.window.counts, self.window.seconds)
        row["seconds"] = round(self.state["seconds"], 1)
        if dev:
            row["dev"] = dev
        self.log.write(step=step + 1, **row)
        logging.info("step %d/%d %s", step + 1, self.config.steps,
                     ", ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, int | float)))
        self.window = Window(None)

    def _finish(self) -> None:
        """Choose the best checkpoint and have the model written."""
        self.checkpoints.settle()
        best, last = self.state["best"], self.state["step"]
        use_best = self.config.keep == "best" and best is not None and best["step"] < last
        if use_best:
            self.checkpoints.load_best(self.training.modules)
            logging.info("keeping the checkpoint of step %d, whose dev loss of %.3f is the lowest", best["step"],
                         best["loss"])
        else:
            logging.info("keeping the last checkpoint, of step %d%s", last,
                         ", whose dev loss is the lowest" if best and best["step"] == last else "")
        self._set_mode(train=False)
        weights = self.checkpoints.weights(use_best)
        if self.fabric.is_global_zero:
            self.training.finish(weights)
        self.fabric.barrier()
        self.checkpoints.remove()
        logging.info("wrote %s after %.0f s", self.settings.output, self.state["seconds"])

    def _set_mode(self, train: bool) -> None:
        for module in self.training.modules.values():
            module.train(train)
