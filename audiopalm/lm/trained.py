"""The tasks and languages that a language model was trained on, as its folder states them.

Stage 8 writes the list as the key `trained` of config.json. An export for transformers has the list in trained.json.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json

KEY, EXPORT_FILE = "trained", "trained.json"


@dataclass(frozen=True)
class TrainedTask:
    """A task in one language or pair: a cell of the mixture. `target` is None for a task that does not translate."""

    task: str
    source: str
    target: str | None


def trained_to_json(tasks: Iterable[TrainedTask]) -> list[dict[str, Any]]:
    """The value of the key `trained`: `tasks` without repetitions, sorted."""
    return [asdict(task) for task in sorted(set(tasks), key=lambda task: (task.task, task.source, task.target or ""))]


def trained_from_json(values: Any, where: str) -> list[TrainedTask]:
    """The inverse of `trained_to_json`. Raises AudioPaLMError if `values` is not such a list."""
    try:
        tasks = [TrainedTask(**value) for value in values]
        if not all(isinstance(task.task, str) and isinstance(task.source, str) and isinstance(task.target, str | None)
                   for task in tasks):
            raise TypeError
    except TypeError:
        raise AudioPaLMError(f"{where}: {KEY!r} is not a list of task, source and target; run stage 8 (finetune) "
                             "again") from None
    return tasks


def read_trained(directory: str | Path) -> list[TrainedTask]:
    """The tasks that the model in `directory`, a folder of stage 8 or its export, was trained on.

    Raises AudioPaLMError if the folder does not list them.
    """
    path = Path(directory) / EXPORT_FILE
    if not path.exists():
        path = Path(directory) / "config.json"
    values = read_json(path, "stage 8 (finetune)")
    if KEY not in values:
        raise AudioPaLMError(f"{path} does not say which tasks and languages the model was trained on; run stage 8 "
                             "(finetune) again, and repeat its exports")
    return trained_from_json(values[KEY], str(path))


def write_trained(directory: str | Path, tasks: Iterable[TrainedTask]) -> None:
    """Write trained.json of an export."""
    write_json(Path(directory) / EXPORT_FILE, {KEY: trained_to_json(tasks)})
