"""results.json: the rows of a run, or of several runs in one sorted list. No other module writes this file."""

import dataclasses
import types
import typing
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_json, write_json


@dataclass(frozen=True)
class ResultRow:
    """One figure: what was measured, its value with a 95 % interval over `n` utterances, and the inputs behind it."""

    recipe: str
    set: str
    task: str
    part: str | None  # of the task's answer; None for figures that do not measure an answer, such as those of units
    source: str | None
    target: str | None
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    system: str  # `model`, a ceiling (`true_audio`, `true_tokens`), or a comparison (`other`, `other_prompt`)
    seed: int
    signature: str
    normaliser: str | None
    judge: str | None
    tag: str
    decoding: dict[str, Any] | None  # settings of stage 10; like the next three None if the model made no part of it
    model: str | None  # SHA-256 of the language model, 16 digits
    vocabulary: str | None  # layout hash of the vocabulary, 16 digits
    decode: str | None  # fingerprint of the scored decode (`audiopalm/stages/decode_record.py`)
    ids: str | None  # hash of the utterance ids and of their normalised references
    code: str  # versions of the package, of Python and of torch

    @property
    def languages(self) -> str:
        """`es-en`, `es`, or an empty string."""
        return "-".join(code for code in (self.source, self.target) if code)


MODEL_DIGITS = 16  # of a SHA-256 in `model` and `vocabulary`
ORDER = ("recipe", "set", "task", "part", "source", "target", "metric", "judge", "system", "seed")
# {field: the types that its value may have}
KEYS = {name: tuple(typing.get_origin(kind) or kind for kind in
                    (typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)))
        for name, hint in typing.get_type_hints(ResultRow).items()}


def row_from_dict(values: Any, where: str) -> ResultRow:
    """A row from a JSON value. Raises AudioPaLMError that names `where` for unknown, missing or wrongly typed keys."""
    if not isinstance(values, dict):
        raise AudioPaLMError(f"{where}: expected the keys of a result row, found {str(values)[:40]!r}")
    for key in values:
        if key not in KEYS:
            raise AudioPaLMError(f"{where}: unknown key {key!r}; {nearest(key, KEYS)}")
    for key, kinds in KEYS.items():
        if key not in values:
            raise AudioPaLMError(f"{where}: the key {key!r} is missing; run stage 12 (score) again")
        value = values[key]
        fits = isinstance(value, (*kinds, int) if float in kinds else kinds) and not isinstance(value, bool)
        if not fits:
            wanted = " or ".join("null" if kind is types.NoneType else kind.__name__ for kind in kinds)
            raise AudioPaLMError(f"{where}: {key} is {str(value)[:40]!r}, expected {wanted}")
    return ResultRow(**values)


def rows_from_list(values: Any, where: str) -> list[ResultRow]:
    """Rows from a JSON list. Raises AudioPaLMError as `row_from_dict` does, with the row's number, counted from 1."""
    if not isinstance(values, list):
        raise AudioPaLMError(f"{where} is not a list of result rows; remove it and run stage 12 (score) again")
    return [row_from_dict(row, f"{where}: row {number}") for number, row in enumerate(values, start=1)]


def row_to_dict(row: ResultRow) -> dict[str, Any]:
    """The fields of a row as a JSON object."""
    return dataclasses.asdict(row)


def read_rows(path: str | Path) -> list[ResultRow]:
    """Rows of results.json. Raises AudioPaLMError for a missing file and for the first row that is not valid."""
    return rows_from_list(read_json(path, "stage 12 (score)"), str(path))


def write_rows(path: str | Path, rows: Iterable[ResultRow]) -> list[ResultRow]:
    """Write results.json, sorted, so that it does not depend on the order of `rows`; returns the sorted rows."""
    ordered = sorted(rows, key=lambda row: tuple(str(getattr(row, key) or "") for key in ORDER))
    write_json(path, [row_to_dict(row) for row in ordered])
    return ordered


def merge(path: str | Path, new: list[ResultRow]) -> list[ResultRow]:
    """Put the rows `new` into results.json; they replace all rows of their recipe, set and seed.

    Returns all rows, sorted. Raises AudioPaLMError as `read_rows` does.
    """
    replaced = {(row.recipe, row.set, row.seed) for row in new}
    old = read_rows(path) if Path(path).exists() else []
    return write_rows(path, [row for row in old if (row.recipe, row.set, row.seed) not in replaced] + new)


def select(rows: Iterable[ResultRow], **wanted: Any) -> list[ResultRow]:
    """Rows whose fields have the values `wanted`. A function among them is called with the field and says if it fits.
    """
    def fits(row: ResultRow) -> bool:
        return all(test(getattr(row, key)) if callable(test) else getattr(row, key) == test
                   for key, test in wanted.items())

    return [row for row in rows if fits(row)]


def one_judge(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows of one judge and the rows without a judge.

    The judge is the one that has heard most; of equals Moonshine, or else the first by name.
    """
    rows = list(rows)
    heard = Counter[str]()
    for row in rows:
        heard[row.judge or ""] += row.n
    judges = sorted(set(heard) - {""}, key=lambda judge: (-heard[judge], not judge.startswith("moonshine"), judge))
    return [row for row in rows if row.judge in (None, *judges[:1])]


def by_seed(rows: Iterable[ResultRow]) -> dict[int, float]:
    """{seed: mean of the values over language pairs}."""
    values: dict[int, list[float]] = {}
    for row in rows:
        values.setdefault(row.seed, []).append(row.value)
    return {seed: fmean(of_seed) for seed, of_seed in sorted(values.items())}
