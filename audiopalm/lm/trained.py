"""The tasks and languages that a language model was trained on, as its folder states them.

Stage 8 writes the list as the key `trained` of config.json; an export for transformers has it in trained.json.
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
    """Each of `tasks` once, sorted: the value of the key `trained`."""
    return [asdict(one) for one in sorted(set(tasks), key=lambda one: (one.task, one.source, one.target or ""))]


def trained_from_json(values: Any, where: str) -> list[TrainedTask]:
    """The inverse of `trained_to_json`; raises AudioPaLMError for what is not such a list."""
    try:
        found = [TrainedTask(**one) for one in values]
        if not all(isinstance(one.task, str) and isinstance(one.source, str) and isinstance(one.target, str | None)
                   for one in found):
            raise TypeError
    except TypeError:
        raise AudioPaLMError(f"{where}: {KEY!r} is not a list of task, source and target; run stage 8 (finetune) "
                             "again") from None
    return found


def read_trained(directory: str | Path) -> list[TrainedTask]:
    """What the model in `directory`, a folder of stage 8 or an export of it, was trained on.

    Raises AudioPaLMError where the folder does not say it.
    """
    path = Path(directory) / EXPORT_FILE
    if not path.exists():
        path = Path(directory) / "config.json"
    values = read_json(path, "stage 8 (finetune)")
    if KEY not in values:
        raise AudioPaLMError(f"{path} does not say which tasks and languages the model was trained on; run stage 8 "
                             "(finetune) again, and export again what was exported")
    return trained_from_json(values[KEY], str(path))


def write_trained(directory: str | Path, tasks: Iterable[TrainedTask]) -> None:
    """trained.json of an export."""
    write_json(Path(directory) / EXPORT_FILE, {KEY: trained_to_json(tasks)})
