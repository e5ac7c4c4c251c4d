"""Checkpoints: a stopped training continues from them exactly, with any number of processes.

Random numbers need no state of their own: each micro-batch seeds them from the run's seed and its number
(`seed_micro_batch`).
"""

import copy
import logging
import random
import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from torch import Tensor, nn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.tensors import Stored
from audiopalm.training.parallel import fill, gather, like_parameter
from audiopalm.training.snapshot import Shard, check_shards, read_header, snapshot_tensors, write_header

SEED_STRIDE = 1_000_003  # between the seeds of two runs
DAMAGED = (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, AudioPaLMError)
Modules = Mapping[str, nn.Module]
OptimizersByName = Mapping[str, torch.optim.Optimizer]
Frozen = Mapping[str, Container[str]]  # {module: names of its weights that training does not change}


def batch_seed(seed: int, number: int) -> int:
    """The seed of micro-batch `number`, counted over all steps and processes, of the run with `seed`."""
    return seed * SEED_STRIDE + number


def seed_micro_batch(seed: int, number: int) -> None:
    """Seed torch and `random` for one micro-batch."""
    torch.manual_seed(batch_seed(seed, number))
    random.seed(batch_seed(seed, number))


class Checkpoints:
    """The last checkpoint of a training in `directory`, the previous one, and the weights with the best dev loss.

    Each is a folder, a snapshot (audiopalm/training/snapshot.py). It holds the weights and buffers of the modules, the
    moments of the optimizers, the state of the run, and `made_from`, a hash of the training's inputs and settings. All
    processes call all methods. The files are written while the training continues: call `wait_until_read` before the
    weights change, and `settle` later, which gives the folder its name. Frozen weights are neither written nor read:
    the training gets them from its inputs each time.
    """

    def __init__(self, directory: str | Path, made_from: str, fabric: Fabric, frozen: Frozen = MappingProxyType({})):
        self.directory, self.made_from, self.fabric, self.frozen = Path(directory), made_from, fabric, frozen
        self.last = self.directory / "checkpoint"
        self.previous = self.directory / "checkpoint.previous"
        self.best = self.directory / "checkpoint.best"
        self._pending: tuple[Path, dict[str, Any], Shard] | None = None

    def save(self, modules: Modules, optimizers: OptimizersByName, state: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint. When it is settled, the last checkpoint becomes the previous one."""
        tensors = _module_tensors(modules, self.frozen)
        for name, optimizer in optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
        self._begin(self.last, tensors, state)

    def save_best(self, modules: Modules, state: Mapping[str, Any]) -> None:
        """Begin to write the weights with the best dev loss."""
        self._begin(self.best, _module_tensors(modules, self.frozen), state)

    def _begin(self, path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self.settle()
        shard = Shard(_partial(path), tensors, self.fabric.global_rank, self.fabric.world_size)
        copied = copy.deepcopy(dict(state))  # the state changes before the header is written
        shard.start()
        self._pending = path, copied, shard

    def wait_until_read(self) -> None:
        """Return when the tensors of the snapshot that was begun have been read, and may change."""
        if self._pending:
            self._pending[2].read.wait()

    def settle(self) -> None:
        """Wait for the snapshot that was begun, and give it its name.

        Raises AudioPaLMError in all processes where one of them could not write. Older checkpoints are then unchanged.
        """
        if self._pending is None:
            return
        path, state, shard = self._pending
        shard.join()
        shards = gather(self.fabric, [shard.path.name, shard.sha256, shard.error])
        if errors := [error for _, _, error in shards if error]:
            self._pending = None
            if self.fabric.is_global_zero:
                shutil.rmtree(_partial(path), ignore_errors=True)
            raise AudioPaLMError(f"{path} cannot be written: {errors[0]}; older checkpoints are unchanged. Make room, "
                                 "then run the same command again")
        # `close` calls this again where Ctrl-C has interrupted it; the folder may then have its name already.
        if self.fabric.is_global_zero and _partial(path).exists():
            write_header(_partial(path), {"made_from": self.made_from, "state": state,
                                          "shards": {name: sha256 for name, sha256, _ in shards}})
            self._rename(path)
        self._pending = None
        self.fabric.barrier()

    def close(self) -> None:
        """At the end of a training, finished or not: leave nothing half-written.

        A process that trains alone settles the snapshot. Several processes remove it, because one of them may be gone.
        """
        if self.fabric.world_size == 1:
            self.settle()
        elif self._pending:
            path, _, shard = self._pending
            shard.join()
            shutil.rmtree(_partial(path), ignore_errors=True)  # the other processes do the same

    def _rename(self, path: Path) -> None:
        """Give a whole snapshot its name. At every moment `load` finds a whole checkpoint."""
        older = self.previous if path == self.last else _replaced(path)
        if path.exists():
            shutil.rmtree(older, ignore_errors=True)
            path.rename(older)
        _partial(path).rename(path)
        shutil.rmtree(_replaced(path), ignore_errors=True)

    def _tidy(self) -> None:
        """Remove the unfinished folders of a process that was killed while it saved."""
        for path in (self.last, self.best):
            shutil.rmtree(_partial(path), ignore_errors=True)
            if _replaced(path).exists() and not path.exists():
                _replaced(path).rename(path)
            shutil.rmtree(_replaced(path), ignore_errors=True)

    def load(self, modules: Modules, optimizers: OptimizersByName) -> dict[str, Any] | None:
        """Restore the last checkpoint and return its state; None where there is no checkpoint.

        Where the last checkpoint is damaged, a warning names it and the previous one is restored. Raises AudioPaLMError
        when no checkpoint is whole, and for a checkpoint of a training with other settings or inputs.
        """
        if self.fabric.is_global_zero:
            self._tidy()
        self.fabric.barrier()
        damaged = []
        for path in (self.last, self.previous):
            try:
                header = self._read(path)
            except ValueError as error:
                damaged.append(path)
                logging.warning("DAMAGED CHECKPOINT: %s cannot be used: %s", path, error)
                continue
            if header is None:
                continue
            self._restore(path, header, modules, optimizers)
            state: dict[str, Any] = header["state"]
            logging.info("going on from step %d of %s", state["step"], path)
            return state
        if damaged:
            raise AudioPaLMError(f"{damaged[-1]} is damaged and there is no other checkpoint; "
                                 f"remove {self.directory} to train anew")
        return None

    def load_best(self, modules: Modules) -> None:
        """Load the weights with the best dev loss into `modules`. Raises AudioPaLMError when they are damaged."""
        self._restore(self.best, self._read_whole(self.best), modules, {})

    def weights(self, best: bool) -> dict[str, dict[str, Stored]]:
        """{module: {name: weight}} of the best or the last checkpoint; each weight is read when it is needed.

        Raises AudioPaLMError for a checkpoint that is missing or damaged.
        """
        path = self.best if best else self.last
        return _by_module(snapshot_tensors(path, self._read_whole(path)["shards"]))

    def _read_whole(self, path: Path) -> dict[str, Any]:
        try:
            header = self._read(path)
        except ValueError as error:
            raise AudioPaLMError(f"{path} is damaged ({error}); remove {self.directory} to train anew") from None
        if header is None:
            raise AudioPaLMError(f"{path} does not exist any more; run the same command again")
        return header

    def _read(self, path: Path) -> dict[str, Any] | None:
        """The header of a snapshot whose shards are whole; None where there is no snapshot.

        The processes share the work of the check. Raises ValueError in all processes for missing or changed bytes, and
        AudioPaLMError for a snapshot of a training with other settings or inputs.
        """
        header: dict[str, Any] = {}
        problem = ""
        exists = path.exists()
        try:
            header = read_header(path) if exists else {}
            if exists and not isinstance(header["state"]["step"], int):
                raise ValueError("it has no state of a training")
            own = sorted(header["shards"].items() if exists else ())[self.fabric.global_rank::self.fabric.world_size]
            check_shards(path, dict(own))
        except DAMAGED as error:
            problem = " ".join(str(error).split()) or type(error).__name__
        answers = gather(self.fabric, [exists, problem])
        if not any(seen for seen, _ in answers):
            return None
        if problems := [reason for seen, reason in answers if reason or not seen]:
            raise ValueError(problems[0] or "not all processes see it; the folder must be shared by all machines")
        if header["made_from"] != self.made_from:
            raise AudioPaLMError(f"{path} belongs to a training with other settings or inputs; remove {self.directory} "
                                 "to train anew")
        return header

    def _restore(self, path: Path, header: Mapping[str, Any], modules: Modules, optimizers: OptimizersByName) -> None:
        try:
            parts = _by_module(snapshot_tensors(path, header["shards"]))
            for name, module in modules.items():
                _check_shapes(parts.get(name, {}), module, self.frozen.get(name, ()))
                fill(module, parts[name], self.frozen.get(name, ()))
            for name, optimizer in optimizers.items():
                _restore_moments(parts.get(name, {}), optimizer)
        except (KeyError, RuntimeError, IndexError, ValueError, SafetensorError, OSError) as error:
            line = " ".join(str(error).split())
            raise AudioPaLMError(f"{path} does not hold the weights of this model: {line}; remove {self.directory} to "
                                 "train anew") from None

    def remove(self) -> None:
        """Remove all checkpoints, when the finished model is written."""
        if self.fabric.is_global_zero:
            for path in (self.last, self.previous, self.best):
                shutil.rmtree(path, ignore_errors=True)


def _partial(path: Path) -> Path:
    """The folder that a snapshot is written to. The lock of the directory keeps other commands away from it."""
    return path.with_name(f".{path.name}.partial")


def _replaced(path: Path) -> Path:
    """The folder of an old snapshot until the new snapshot has its name."""
    return path.with_name(f".{path.name}.replaced")


def _module_tensors(modules: Modules, frozen: Frozen) -> dict[str, Tensor]:
    """{`module/name`: tensor} of the weights and buffers that are not frozen.

    Buffers are copied, because they may change in a forward pass. Parameters change in updates only.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        parameters = {key for key, _ in module.named_parameters(remove_duplicate=False)}
        tensors |= {f"{name}/{key}": value if key in parameters else value.clone()
                    for key, value in module.state_dict().items() if key not in frozen.get(name, ())}
    return tensors


def _by_module(tensors: Mapping[str, Stored]) -> dict[str, dict[str, Stored]]:
    """{`module/name`: tensor} -> {module: {name: tensor}}."""
    parts: dict[str, dict[str, Stored]] = {}
    for key, value in tensors.items():
        name, _, rest = key.partition("/")
        parts.setdefault(name, {})[rest] = value
    return parts


def _check_shapes(tensors: Mapping[str, Stored], module: nn.Module, without: Container[str]) -> None:
    """Raise KeyError or ValueError where `tensors` lack a weight of `module`, or have it in another shape."""
    for key, value in module.state_dict().items():
        if key not in without and tensors[key].shape != tuple(value.shape):
            raise ValueError(f"{key} has shape {tensors[key].shape}, expected is {tuple(value.shape)}")


def _restore_moments(tensors: Mapping[str, Stored], optimizer: torch.optim.Optimizer) -> None:
    """Load {`number of the parameter/name of the moment`: tensor} into an optimizer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, moment = key.partition("/")
        moments.setdefault(int(index), {})[moment] = like_parameter(value, parameters[int(index)])
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
