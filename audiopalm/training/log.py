"""The log of a training: `log.jsonl`, and the same numbers for TensorBoard and Weights & Biases."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_text


class StepLog:
    """`log.jsonl`, one JSON object per logged step, and `tensorboard/` beside it.

    Opened at `step`, both drop the rows that a killed run wrote after that step. Only one of several processes
    `writes`. With `wandb_project` Weights & Biases gets the numbers too (WANDB_MODE=offline: in files beside the log),
    and a resumed training goes on in its run. Raises AudioPaLMError where that package is missing.
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
            name = str(folder.resolve())
            self.wandb = wandb.init(project=wandb_project, name=str(folder), dir=str(folder), resume="allow",
                                    id=hashlib.sha256(name.encode()).hexdigest()[:16])

    def write(self, step: int, **values: Any) -> None:
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
    """Sums since the last row of the log; `state` goes into checkpoints, so that a resumed run logs the same row."""

    def __init__(self, state: dict[str, Any] | None):
        state = state or {"sums": {}, "counts": {}, "seconds": 0.0}
        self.sums: dict[str, list[float]] = {name: list(pair) for name, pair in state["sums"].items()}
        self.counts: dict[str, float] = dict(state["counts"])
        self.seconds: float = state["seconds"]

    def add(self, losses: Iterable[Any], summed: float, count: float) -> None:
        """The losses of one group in one step; `summed` and `count` are those of all processes."""
        losses = list(losses)
        named = [("loss", (summed, count))] if losses[0].group == "model" else []
        named += [pair for loss in losses for pair in loss.values.items()]
        for name, (value, number) in named:
            old = self.sums.setdefault(name, [0.0, 0.0])
            self.sums[name] = [old[0] + float(value), old[1] + float(number)]
        for loss in losses:
            for name, number in loss.counts.items():
                self.counts[name] = self.counts.get(name, 0) + number

    def row(self) -> dict[str, float]:
        """Means, by name."""
        return {name: round(value / max(number, 1e-9), 6) for name, (value, number) in self.sums.items()}

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums, "counts": self.counts, "seconds": self.seconds}
