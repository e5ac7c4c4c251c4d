"""The log of a training: `log.jsonl`, and the same numbers for TensorBoard and Weights & Biases."""

import json
import math
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_text
from audiopalm.training.parallel import gather


class StepLog:
    """`log.jsonl`, one JSON object per logged step, and `tensorboard/` beside it.

    Opened at `step`, both drop the rows that a killed run wrote after that step. Of several processes, only one
    `writes`. With `wandb_project`, Weights & Biases gets the numbers too (WANDB_MODE=offline: in files beside the log),
    and a resumed training continues its run there. Raises AudioPaLMError where the package wandb is missing.
    """

    def __init__(self, path: str | Path, step: int, writes: bool = True, wandb_project: str = ""):
        self.path, self.writes = Path(path), writes
        if not writes:
            return
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() and step else []
        kept = [line + "\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_text(self.path, "".join(kept))
        folder = self.path.parent
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self.wandb = None
        if wandb_project:
            try:
                import wandb
            except ImportError:
                raise AudioPaLMError("training.wandb_project needs Weights & Biases: pip install wandb, or leave it "
                                     "out") from None
            # The id lies in the folder, so that a training made anew there is a run of its own.
            identity = folder / "wandb_id.txt"
            if not identity.exists():
                write_text(identity, secrets.token_hex(8))
            self.wandb = wandb.init(project=wandb_project, name=str(folder), dir=str(folder), resume="allow",
                                    id=identity.read_text(encoding="utf-8"))

    def write(self, step: int, **values: Any) -> None:
        """Append a row; values may be numbers, None, and lists and dictionaries of these."""
        if not self.writes:
            return
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        numbers = dict(scalars(values))
        for name, value in numbers.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()
        if self.wandb:
            self.wandb.log(numbers, step=step)


def scalars(values: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """`{"loss": 1, "dev": {"asr": 2}, "levels": [3, None]}` -> `loss` 1, `dev/asr` 2, `levels/0` 3."""
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from scalars(value, f"{name}/{key}" if name else str(key))
    elif isinstance(values, int | float):
        yield name, float(values)


class Window:
    """Sums of the losses since the last row of the log. Checkpoints hold `state`, so that a resumed run logs the same
    row.

    `add` reads nothing back from the device: numbers stay tensors until `collect`.
    """

    def __init__(self, state: dict[str, Any] | None):
        state = state or {"sums": {}, "counts": {}, "seconds": 0.0}
        self.sums: dict[str, list[float]] = {name: list(pair) for name, pair in state["sums"].items()}
        self.counts: dict[str, float] = dict(state["counts"])
        self.seconds: float = state["seconds"]
        self.names: dict[int, list[str]] = {}
        self._losses: list[tuple[int, Any]] = []

    def add(self, step: int, losses: Iterable[Any], names: Iterable[str]) -> None:
        """Add the losses of one group in one step of this process; `names` are the utterances of its batches."""
        self._losses += [(step, loss) for loss in losses]
        self.names[step] = list(names)

    def collect(self, fabric: Fabric) -> int | None:
        """Add up the losses of all processes. Return the first step with a loss that is not a number, else None."""
        totals = _numbers([loss.total for _, loss in self._losses])
        bad = min((step for (step, _), total in zip(self._losses, totals, strict=True) if not math.isfinite(total)),
                  default=None)
        gathered = gather(fabric, [self._sums(), self._counts(), bad])
        for sums, counts, _ in gathered:
            for name, (value, number) in sums.items():
                old = self.sums.setdefault(name, [0.0, 0.0])
                self.sums[name] = [old[0] + value, old[1] + number]
            for name, number in counts.items():
                self.counts[name] = self.counts.get(name, 0) + number
        self._losses = []
        if bad_steps := [step for _, _, step in gathered if step is not None]:
            return min(bad_steps)
        self.names = {}
        return None

    def _sums(self) -> dict[str, list[float]]:
        """{name: [sum, number]} of this process since the last `collect`."""
        pairs = [("loss", (loss.total, loss.count)) for _, loss in self._losses if loss.group == "model"]
        pairs += [pair for _, loss in self._losses for pair in loss.values.items()]
        values = _numbers([value for _, (value, _) in pairs])
        sums: dict[str, list[float]] = {}
        for (name, _), value, number in zip(pairs, values, _numbers([number for _, (_, number) in pairs]), strict=True):
            old = sums.setdefault(name, [0.0, 0.0])
            sums[name] = [old[0] + value, old[1] + number]
        return sums

    def _counts(self) -> dict[str, float]:
        """{name: number} of this process since the last `collect`."""
        pairs = [pair for _, loss in self._losses for pair in loss.counts.items()]
        counts: dict[str, float] = {}
        for (name, _), number in zip(pairs, _numbers([number for _, number in pairs]), strict=True):
            counts[name] = counts.get(name, 0) + number
        return counts

    def row(self) -> dict[str, float]:
        """{name: mean}."""
        return {name: round(value / max(number, 1e-9), 6) for name, (value, number) in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """The sums, as values of JSON."""
        return {"sums": self.sums, "counts": self.counts, "seconds": self.seconds}


def _numbers(values: list[Any]) -> list[float]:
    """Numbers and tensors as numbers. The tensors of one type are read from their device together."""
    numbers = [value if not isinstance(value, Tensor) else 0.0 for value in values]
    tensors: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for index, value in enumerate(values):
        if isinstance(value, Tensor):
            tensors.setdefault((value.dtype, value.device), []).append(index)
    for indices in tensors.values():
        read = torch.stack([values[index].detach().reshape(()) for index in indices]).tolist()
        for index, value in zip(indices, read, strict=True):
            numbers[index] = float(value)
    return numbers
