"""Configuration: YAML read by safe_load into dataclasses; unknown keys are refused with the nearest known one."""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from audiopalm.core.errors import AudioPaLMError, nearest

T = TypeVar("T")


def ranged(default: Any, low: float | None = None, high: float | None = None, above: float | None = None) -> Any:
    """A dataclass field whose number must be at least `low`, at most `high` and greater than `above`.

    >>> steps: int = ranged(1000, low=1)

    A field of type `X | None` may also be None. `from_dict` checks the range and names the key.
    """
    limits = {"low": low, "high": high, "above": above}
    return dataclasses.field(default=default, metadata={name: value for name, value in limits.items()
                                                        if value is not None})


def check_range(value: Any, metadata: typing.Mapping[str, Any], where: str) -> None:
    """Raise AudioPaLMError unless a number is finite and within the limits that `ranged` has put into `metadata`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not math.isfinite(value):
        raise AudioPaLMError(f"{where}: {value} is not a finite number")
    low, high, above = (metadata.get(name) for name in ("low", "high", "above"))
    if low is not None and value < low:
        raise AudioPaLMError(f"{where}: {value} is too small; it must be at least {low}")
    if above is not None and value <= above:
        raise AudioPaLMError(f"{where}: {value} is too small; it must be greater than {above}")
    if high is not None and value > high:
        raise AudioPaLMError(f"{where}: {value} is too large; it must be at most {high}")


def load_config(cls: type[T], path: str | Path | None = None, overrides: list[str] = ()) -> T:
    """Build dataclass `cls` from a YAML file and `key=value` overrides (nested keys with dots, values are YAML).

    >>> load_config(ModelConfig, "conf/lm.yaml", ["dim=128", "training.steps=10"])

    Raises AudioPaLMError for a missing file, an unknown key or a value of the wrong type.
    """
    return from_dict(cls, read_values(path, overrides), str(path or "command line"))


def read_values(path: str | Path | None = None, overrides: list[str] = ()) -> dict[str, Any]:
    """The YAML file with the overrides in it, not yet checked."""
    values: dict = {}
    if path is not None:
        if not Path(path).is_file():
            raise AudioPaLMError(f"configuration {path} does not exist")
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise AudioPaLMError(f"override {override!r} is not key=value")
        node = values
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = yaml.safe_load(text)
    return values


def load_kind(path: str | Path | None, kinds: list[str]) -> str:
    """The key `kind` of a YAML file, which says what dataclass the file is of; the first of `kinds` without one."""
    values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path and Path(path).is_file() else None
    kind = values.get("kind", kinds[0]) if isinstance(values, dict) else kinds[0]
    if kind not in kinds:
        raise AudioPaLMError(f"{path}: unknown kind {kind!r}; {nearest(str(kind), kinds)}")
    return kind


def from_dict(cls: type[T], values: dict[str, Any], where: str) -> T:
    """A dataclass from a dictionary, nested dataclasses included; `where` names the source in error messages."""
    if not isinstance(values, dict):
        raise AudioPaLMError(f"{where}: expected keys of {cls.__name__}, found {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            raise AudioPaLMError(f"{where}: unknown key {key!r}; {nearest(key, fields)}")
        arguments[key] = _convert(hints[key], value, f"{where}: {key}")
        check_range(arguments[key], fields[key].metadata, f"{where}: {key}")
    try:
        return cls(**arguments)
    except TypeError as error:
        raise AudioPaLMError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if isinstance(hint, types.UnionType):  # only `X | None` is used
        return None if value is None else _convert(typing.get_args(hint)[0], value, where)
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as a string
        except ValueError:
            pass
    plain = typing.get_origin(hint) or hint
    if plain is list and isinstance(value, list) and typing.get_args(hint):
        return [_convert(typing.get_args(hint)[0], item, f"{where}[{number}]") for number, item in enumerate(value)]
    if plain in (int, str, bool, float, list, dict, tuple):
        if plain is tuple and isinstance(value, list):
            return tuple(value)
        if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
            raise AudioPaLMError(f"{where}: expected {plain.__name__}, found {value!r}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain dictionaries, ready for JSON or YAML."""
    return dataclasses.asdict(config)
