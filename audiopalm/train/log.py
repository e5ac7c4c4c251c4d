"""What a training says about its steps: `log.jsonl`, and the same numbers for TensorBoard."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from audiopalm.data.files import write_text


class StepLog:
    """`log.jsonl`, one JSON object per logged step, and `tensorboard/` beside it.

    Opened at `step`, both forget what a killed run wrote past it. Of several processes only one `writes`.
    """

    def __init__(self, path: str | Path, step: int, writes: bool = True):
        self.path, self.writes = Path(path), writes
        if not writes:
            return
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() and step else []
        kept = [line + "\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_text(self.path, "".join(kept))
        self.board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, **values: Any) -> None:
        if not self.writes:
            return
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in scalars(values):
            self.board.add_scalar(name, value, step)
        self.board.flush()


def scalars(values: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """`{"loss": 1, "dev": {"asr": 2}, "levels": [3, None]}` -> `loss` 1, `dev/asr` 2, `levels/0` 3."""
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from scalars(value, f"{name}/{key}" if name else str(key))
    elif isinstance(values, int | float):
        yield name, float(values)
