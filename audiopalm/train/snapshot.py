"""One file from which a stopped training goes on as if it had never stopped.

Random numbers need no state of their own: each step seeds them from the run's seed and its number (`seed_step`).
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from audiopalm.data.files import atomic_path, write_text
from audiopalm.errors import AudioPaLMError


def seed_step(seed: int, step: int) -> np.random.Generator:
    """Seed torch and random for one step; return the numpy generator of that step."""
    number = seed * 1_000_003 + step
    torch.manual_seed(number)
    random.seed(number)
    return np.random.default_rng(number)


def save_snapshot(path: str | Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer],
                  state: Mapping[str, Any]) -> None:
    """Write weights, buffers, optimizer moments and `state` (JSON) to one safetensors file."""
    tensors = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value.contiguous() for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value.contiguous() for key, value in moments.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata={"state": json.dumps(dict(state))})


def load_snapshot(path: str | Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer],
                  **expected: Any) -> dict[str, Any]:
    """Restore what `save_snapshot` wrote and return its `state`.

    Raises AudioPaLMError when `state` differs from what is `expected` (the configuration and the seed of this run).
    """
    with safe_open(str(path), framework="pt") as file:
        state = json.loads(file.metadata()["state"])
        for key, value in expected.items():
            if state[key] != json.loads(json.dumps(value)):
                raise AudioPaLMError(f"{path} belongs to a run with {key} {state[key]}, this one has {value}; "
                                     f"remove {Path(path).parent} to train anew")
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        for key in file.keys():
            name, _, rest = key.partition("/")
            tensors.setdefault(name, {})[rest] = file.get_tensor(key)
    for name, module in modules.items():
        module.load_state_dict(tensors[name])
    for name, optimizer in optimizers.items():
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.get(name, {}).items():
            index, _, moment = key.partition("/")
            moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return state


class StepLog:
    """`log.jsonl`: one JSON object per logged step. Opened at `step`, it forgets what a killed run wrote past it."""

    def __init__(self, path: str | Path, step: int):
        self.path = Path(path)
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() and step else []
        kept = [line + "\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_text(self.path, "".join(kept))

    def write(self, **values: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
