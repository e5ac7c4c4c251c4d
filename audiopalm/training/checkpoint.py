"""Snapshots, from which a stopped training goes on as if it had never stopped.

Random numbers need no state of their own: each step seeds them from the run's seed and its number (`seed_step`).
"""

import hashlib
import json
import logging
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.training.parallel import share_like, whole


def seed_step(seed: int, step: int) -> np.random.Generator:
    """Seed torch and random for one step; return the numpy generator of that step."""
    number = seed * 1_000_003 + step
    torch.manual_seed(number)
    random.seed(number)
    return np.random.default_rng(number)


class Snapshots:
    """The last snapshot of a training in `directory` and the one before it, one safetensors file each.

    A file holds the weights and buffers of modules, the moments of optimizers, and in its header the state of the run
    (JSON) and a SHA-256 of all tensors. `settings` are what a run must share with the one it goes on from.
    """

    def __init__(self, directory: str | Path, settings: Mapping[str, Any]):
        self.directory, self.settings = Path(directory), json.loads(json.dumps(dict(settings)))
        self.last = self.directory / "snapshot.safetensors"
        self.previous = self.directory / "snapshot.previous.safetensors"

    def save(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer],
             state: Mapping[str, Any]) -> None:
        """The snapshot that was the last becomes the previous one, once the new one is whole.

        Of several processes all must call this, and the first writes.
        """
        tensors = {}
        for name, module in modules.items():
            tensors |= {f"{name}/{key}": whole(value).contiguous() for key, value in module.state_dict().items()}
        for name, optimizer in optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": whole(value).contiguous() for key, value in moments.items()}
        if int(os.environ.get("RANK", 0)) > 0:
            return
        header = {"state": json.dumps({**self.settings, **state}), "sha256": _digest(tensors)}
        with atomic_path(self.last) as temporary:
            save_file(tensors, str(temporary), metadata=header)
            if self.last.exists():
                self.last.replace(self.previous)

    def load(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> dict | None:
        """Restore the last snapshot and return its `state`; None where there is none.

        A damaged one is named loudly and the previous one taken. Raises AudioPaLMError when both are damaged, and when
        the settings differ from this run's.
        """
        damaged = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state, tensors = _read(path)
            except (SafetensorError, OSError, ValueError) as error:
                damaged.append(path)
                logging.warning("DAMAGED SNAPSHOT: %s cannot be used: %s", path, error)
                continue
            self._check(state, path)
            _restore(tensors, modules, optimizers)
            logging.info("going on from step %d of %s", state["step"], path)
            return state
        if damaged:
            raise AudioPaLMError(f"{damaged[-1]} is damaged and there is no other snapshot; "
                                 f"remove {self.directory} to train anew")
        return None

    def _check(self, state: Mapping[str, Any], path: Path) -> None:
        for key, value in self.settings.items():
            if state[key] != value:
                raise AudioPaLMError(f"{path} belongs to a run with {key} {state[key]}, this one has {value}; "
                                     f"remove {self.directory} to train anew")

    def remove(self) -> None:
        """What was trained is whole: no run will go on from here."""
        for path in (self.last, self.previous):
            path.unlink(missing_ok=True)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """State and tensors; raises SafetensorError or ValueError when bytes are missing or other ones."""
    with safe_open(str(path), framework="pt") as file:
        header = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    if _digest(tensors) != header["sha256"]:
        raise ValueError("its checksum is another one")
    return json.loads(header["state"]), tensors


def _restore(tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module],
             optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, rest = key.partition("/")
        parts.setdefault(name, {})[rest] = value
    for name, module in modules.items():
        module.load_state_dict({key: share_like(parts[name][key], value) for key, value in module.state_dict().items()})
    for name, optimizer in optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for key, value in parts.get(name, {}).items():
            index, _, moment = key.partition("/")
            parameter = parameters[int(index)]
            shared = share_like(value, parameter) if value.shape == parameter.shape else value
            moments.setdefault(int(index), {})[moment] = shared
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
