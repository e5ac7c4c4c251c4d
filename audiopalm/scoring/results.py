"""results.json: rows of several runs in one sorted list."""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json

Row = dict[str, Any]
ORDER = ("recipe", "set", "task", "part", "source", "target", "metric", "judge", "system", "seed")


def read_rows(path: str | Path) -> list[Row]:
    """Rows of results.json; raises AudioPaLMError when it is missing or not a list of rows."""
    rows = read_json(path, "stage 12 (score)")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "metric" in row for row in rows):
        raise AudioPaLMError(f"{path} is not a list of result rows; remove it and run stage 12 (score) again")
    return rows


def merge(path: str | Path, new: list[Row]) -> list[Row]:
    """Write the rows `new` into results.json: they replace all rows of their recipe, set and seed; others stay."""
    replaced = {(row["recipe"], row["set"], row["seed"]) for row in new}
    old = read_rows(path) if Path(path).exists() else []
    kept = [row for row in old if (row["recipe"], row["set"], row["seed"]) not in replaced]
    rows = sorted(kept + new, key=lambda row: tuple(str(row.get(key) or "") for key in ORDER))
    write_json(path, rows)
    return rows


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Rows whose fields equal `wanted`; a value may be a function that tests the field."""
    def fits(row: Row) -> bool:
        return all(test(row.get(key)) if isinstance(test, Callable) else row.get(key) == test
                   for key, test in wanted.items())

    return [row for row in rows if fits(row)]


def one_judge(rows: Iterable[Row]) -> list[Row]:
    """Without the rows of all judges but one: Moonshine, or the first."""
    judges = sorted({row["judge"] for row in rows if row["judge"]},
                    key=lambda judge: (not judge.startswith("moonshine"), judge))
    return [row for row in rows if row["judge"] in (None, *judges[:1])]


def by_seed(rows: Iterable[Row]) -> dict[int, float]:
    """{seed: mean of the values over language pairs}."""
    values: dict[int, list[float]] = {}
    for row in rows:
        values.setdefault(row["seed"], []).append(row["value"])
    return {seed: fmean(found) for seed, found in sorted(values.items())}
