"""What a training says about its steps: `log.jsonl`, and the same numbers for TensorBoard and Weights & Biases."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_text


class StepLog:
    """`log.jsonl`, one JSON object per logged step, and `tensorboard/` beside it.

    Opened at `step`, both forget what a killed run wrote past it. Of several processes only one `writes`. With
    `wandb_project` Weights & Biases has the numbers too (WANDB_MODE=offline: in files beside the log); the run of a
    folder goes on under its name. Raises AudioPaLMError where that package is missing.
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
