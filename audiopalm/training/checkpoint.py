"""Checkpoints, from which a stopped training goes on as if it had never stopped.

Random numbers need no state of their own: each micro-batch seeds them from the run's seed and its number
(`seed_micro_batch`).
"""

import hashlib
import json
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.weights import write_weights
from audiopalm.training.parallel import shard_like, whole

SEED_STRIDE = 1_000_003  # between the seeds of two runs
Modules = Mapping[str, nn.Module]
OptimizersByName = Mapping[str, torch.optim.Optimizer]


def batch_seed(seed: int, number: int) -> int:
    """The seed of micro-batch `number`, counted over all steps and processes, of the run with `seed`."""
    return seed * SEED_STRIDE + number


def seed_micro_batch(seed: int, number: int) -> None:
    """Seed torch and `random` for one micro-batch."""
    torch.manual_seed(batch_seed(seed, number))
    random.seed(batch_seed(seed, number))


class Checkpoints:
    """The last checkpoint of a training in `directory`, the one before it, and the weights with the best dev loss.

    A file holds the weights and buffers of modules, the moments of optimizers, and in its header the state of the run
    (JSON), a SHA-256 of all tensors, and `made_from`, a hash of what the training is made from. With several processes
    all of them call the methods, and the first (`rank` 0) writes.
    """

    def __init__(self, directory: str | Path, made_from: str, rank: int = 0):
        self.directory, self.made_from, self.rank = Path(directory), made_from, rank
        self.last = self.directory / "checkpoint.safetensors"
        self.previous = self.directory / "checkpoint.previous.safetensors"
        self.best = self.directory / "checkpoint.best.safetensors"

    def save(self, modules: Modules, optimizers: OptimizersByName, state: Mapping[str, Any]) -> None:
        """The checkpoint that was the last becomes the previous one, once the new one is whole."""
        tensors = _module_tensors(modules)
        for name, optimizer in optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": whole(value).contiguous() for key, value in moments.items()}
        self._write(self.last, tensors, state, self.previous)

    def save_best(self, modules: Modules, state: Mapping[str, Any]) -> None:
        self._write(self.best, _module_tensors(modules), state, None)

    def _write(self, path: Path, tensors: dict[str, Tensor], state: Mapping[str, Any], previous: Path | None) -> None:
        if self.rank > 0:
            return
        header = {"state": json.dumps(dict(state)), "sha256": _digest(tensors), "made_from": self.made_from}
        write_weights(path, tensors, header, previous)

    def load(self, modules: Modules, optimizers: OptimizersByName) -> dict | None:
        """Restore the last checkpoint and return its state; None where there is none.

        A damaged one is named in a warning and the previous one is taken. Raises AudioPaLMError when both are damaged,
        and for a checkpoint of a training that was made from something else.
        """
        damaged = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state, tensors = self._read(path)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                damaged.append(path)
                logging.warning("DAMAGED CHECKPOINT: %s cannot be used: %s", path, error)
                continue
            self._restore(path, tensors, modules, optimizers)
            logging.info("going on from step %d of %s", state["step"], path)
            return state
        if damaged:
            raise AudioPaLMError(f"{damaged[-1]} is damaged and there is no other checkpoint; "
                                 f"remove {self.directory} to train anew")
        return None

    def load_best(self, modules: Modules) -> None:
        """Put the weights with the best dev loss into `modules`. Raises AudioPaLMError when they are damaged."""
        try:
            _, tensors = self._read(self.best)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise AudioPaLMError(f"{self.best} is damaged ({error}); remove {self.directory} to train anew") from None
        self._restore(self.best, tensors, modules, {})

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """State and tensors; raises SafetensorError, KeyError or ValueError for missing or changed bytes."""
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        if _digest(tensors) != header["sha256"]:
            raise ValueError("its checksum is another one")
        if header["made_from"] != self.made_from:
            raise AudioPaLMError(f"{path} belongs to a training with other settings or inputs; remove {self.directory} "
                                 "to train anew")
        state = json.loads(header["state"])
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("its header has no state of a training")
        return state, tensors

    def _restore(self, path: Path, tensors: Mapping[str, Tensor], modules: Modules,
                 optimizers: OptimizersByName) -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, rest = key.partition("/")
            parts.setdefault(name, {})[rest] = value
        try:
            for name, module in modules.items():
                module.load_state_dict({key: shard_like(parts[name][key], value)
                                        for key, value in module.state_dict().items()})
            for name, optimizer in optimizers.items():
                _restore_moments(parts.get(name, {}), optimizer)
        except (KeyError, RuntimeError, IndexError) as error:
            line = " ".join(str(error).split())
            raise AudioPaLMError(f"{path} does not hold the weights of this model: {line}; remove {self.directory} to "
                                 "train anew") from None

    def remove(self) -> None:
        """The finished model is written: no run will go on from here."""
        if self.rank == 0:
            for path in (self.last, self.previous, self.best):
                path.unlink(missing_ok=True)


def _module_tensors(modules: Modules) -> dict[str, Tensor]:
    return {f"{name}/{key}": whole(value).contiguous() for name, module in modules.items()
            for key, value in module.state_dict().items()}


def _restore_moments(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, moment = key.partition("/")
        parameter = parameters[int(index)]
        sharded = shard_like(value, parameter) if value.shape == parameter.shape else value
        moments.setdefault(int(index), {})[moment] = sharded
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
