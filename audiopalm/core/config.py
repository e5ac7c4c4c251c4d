"""Configuration: YAML and `key=value` overrides into dataclasses, whose fields state their ranges and choices."""

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from audiopalm.core.errors import AudioPaLMError, nearest, shown
from audiopalm.core.yaml_files import parse_yaml, read_yaml

if TYPE_CHECKING:  # this module exists for type checkers only
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
LARGEST_INT = 2 ** 63 - 1  # the largest integer that a tensor can hold
MAX_SIZE = 2 ** 17  # the largest dimension or codebook that a configuration may ask for


def ranged(default: Any = dataclasses.MISSING, low: float | None = None, high: float | None = None,
           above: float | None = None) -> Any:
    """A dataclass field whose number must be at least `low`, at most `high` and greater than `above`.

    >>> steps: int = ranged(1000, low=1)

    A field of type `X | None` may also be None; every element of a list or tuple and every value of a dictionary must
    lie in the range. `from_dict` checks it and names the key.
    """
    return _field(default, {"low": low, "high": high, "above": above})


def chosen(default: Any, choices: Iterable[str]) -> Any:
    """A dataclass field that must be one of `choices`; so must every element of a list.

    >>> schedule: str = chosen("cosine", ("cosine", "linear", "constant"))
    """
    return _field(default, {"choices": tuple(choices)})


def _field(default: Any, limits: dict[str, Any]) -> Any:
    metadata = {name: value for name, value in limits.items() if value is not None}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_limits(value: Any, metadata: Mapping[str, Any], where: str) -> None:
    """Raise AudioPaLMError for a value outside the limits that `ranged` or `chosen` has put into its field's metadata.

    Numbers must be finite in every field. `where` names the value in the message.
    """
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_limits(item, metadata, f"{where}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_limits(item, metadata, f"{where}.{key}")
    elif isinstance(value, str):
        choices = metadata.get("choices")
        if choices is not None and value not in choices:
            raise AudioPaLMError(f"{where}: unknown value {shown(value)}; {nearest(value, choices)}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, metadata, where)


def _check_number(value: float, metadata: Mapping[str, Any], where: str) -> None:
    if not math.isfinite(value):
        raise AudioPaLMError(f"{where}: {value} is not a finite number")
    low, high, above = (metadata.get(name) for name in ("low", "high", "above"))
    if low is not None and value < low:
        raise AudioPaLMError(f"{where}: {value} is too small; it must be at least {low}")
    if above is not None and value <= above:
        raise AudioPaLMError(f"{where}: {value} is too small; it must be greater than {above}")
    if high is not None and value > high:
        raise AudioPaLMError(f"{where}: {value} is too large; it must be at most {high}")


def check_fields(config: "DataclassInstance", where: str) -> None:
    """Check the limits of all fields of a dataclass; AudioPaLMError as of `check_limits`.

    Dataclasses that are also made in Python, and not only by `from_dict`, call it in `__post_init__`.
    """
    for field in dataclasses.fields(config):
        check_limits(getattr(config, field.name), field.metadata, f"{where}: {field.name}")


def load_config(cls: type[T], path: str | Path | None = None, overrides: Iterable[str] = ()) -> T:
    """Build dataclass `cls` from a YAML file and `key=value` overrides (nested keys with dots, values are YAML).

    >>> load_config(ModelConfig, "conf/lm.yaml", ["dim=128", "training.steps=10"])

    Raises AudioPaLMError for a missing or unreadable file, an unknown key, and a value of the wrong type or range.
    """
    return from_dict(cls, read_values(path, overrides), _source(path, overrides))


def load_kind_config(path: str | Path | None, overrides: Iterable[str], kinds: Mapping[str, type], default: str) -> Any:
    """The configuration, of the dataclass that is chosen by the key `kind` in the file or among the overrides.

    >>> config = load_kind_config("conf/units.yaml", ["kind=log-mel"], {"usm-v2": A, "log-mel": B}, "usm-v2")
    >>> config.kind
    'log-mel'

    kinds: {kind: its dataclass, which has a field `kind`}. `default` is the kind where none is given. Raises
    AudioPaLMError as `load_config` does, and for an unknown kind.
    """
    values, where = read_values(path, overrides), _source(path, overrides)
    return from_dict(kinds[find_kind(values, kinds, default, where)], values, where)


def find_kind(values: dict[str, Any], kinds: Collection[str], default: str | None, where: object) -> str:
    """The `kind` of a dictionary of settings; where it has none, the default is put into it.

    Raises AudioPaLMError for a kind that is not among `kinds`; `where` names the source of the settings.
    """
    kind = values.setdefault("kind", default)
    if not isinstance(kind, str) or kind not in kinds:
        raise AudioPaLMError(f"{where}: unknown kind {shown(kind)}; {nearest(str(kind), kinds)}")
    return kind


def read_values(path: str | Path | None = None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The values of a YAML file, changed by the overrides. Types and ranges are not checked yet."""
    values = {} if path is None else read_yaml(path)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise AudioPaLMError(f"{path}, line 1: expected `key: value` lines, found {shown(values)}")
    return apply_overrides(values, overrides)


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Put the `key=value` overrides into `values`, and return it. Raises AudioPaLMError for a malformed override."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise AudioPaLMError(f"override {override!r} is not key=value")
        node = values
        *parents, last = key.split(".")
        for number, parent in enumerate(parents, start=1):
            if node.get(parent) is None:  # the key is absent, or has no value
                node[parent] = {}
            node = node[parent]
            if not isinstance(node, dict):
                raise AudioPaLMError(f"override {override!r}: {'.'.join(parents[:number])} is {shown(node)}, which has "
                                     "no keys")
        node[last] = parse_yaml(text, f"override {override!r}", lines=False)
    return values


def _source(path: str | Path | None, overrides: Iterable[str]) -> str:
    """Where values come from, for error messages."""
    if path is None:
        return "command line"
    return f"{path} with overrides" if overrides else str(path)


def from_dict(cls: type[T], values: dict[str, Any], where: str, base: T | None = None) -> T:
    """A dataclass from a dictionary, nested dataclasses included; `where` names the source in error messages.

    A key that is not given has the value of `base`, or the default of the class where there is no base. The base of a
    nested dataclass is the default of its field: a given key leaves the other keys of that dataclass unchanged.

    Raises AudioPaLMError for an unknown or a missing key, and for a value of the wrong type or range.
    """
    if not isinstance(values, dict):
        names = ", ".join(field.name for field in dataclasses.fields(cls))
        raise AudioPaLMError(f"{where}: expected keys ({names}), found {shown(values)}")
    hints = typing.get_type_hints(cls)  # an attribute RENAMED holds {old key: the key that replaces it}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            renamed = getattr(cls, "RENAMED", {}).get(key)
            hint = f"it is now {renamed}" if renamed else nearest(str(key), fields)
            raise AudioPaLMError(f"{where}: unknown key {shown(key)}; {hint}")
        arguments[key] = _convert(hints[key], value, f"{where}: {key}", _default(fields[key], base))
        check_limits(arguments[key], fields[key].metadata, f"{where}: {key}")
    if base is not None:
        arguments = {name: getattr(base, name) for name in fields} | arguments
    missing = [name for name, field in fields.items() if name not in arguments
               and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]
    if missing:
        raise AudioPaLMError(f"{where}: {', '.join(missing)} missing")
    try:
        return cls(**arguments)
    except AudioPaLMError as error:  # from __post_init__, which does not know the source of the values
        raise AudioPaLMError(f"{where}: {error}") from None


def _default(field: dataclasses.Field[Any], base: Any) -> Any:
    """The value of a field whose key is not given; None where the key is required."""
    if base is not None:
        return getattr(base, field.name)
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _convert(hint: Any, value: Any, where: str, base: Any = None) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            value = to_dict(value)
        # An empty section, such as `training:` alone, changes nothing.
        return from_dict(hint, {} if value is None else value, where, base)
    if isinstance(hint, types.UnionType):  # only `X | None` is used
        return None if value is None else _convert(typing.get_args(hint)[0], value, where)
    if value is None and hint is not Any:
        raise AudioPaLMError(f"{where}: no value is given")
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as a string
        except (ValueError, OverflowError):
            raise AudioPaLMError(f"{where}: expected a number, found {shown(value)}") from None
    plain, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if plain is tuple and isinstance(value, list):
        value = tuple(value)
    if plain in (int, str, bool, float, list, dict, tuple):
        if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
            raise AudioPaLMError(f"{where}: expected {plain.__name__}, found {shown(value)}")
        if plain is int and abs(value) > LARGEST_INT:
            raise AudioPaLMError(f"{where}: {shown(value)} is too large")
    if plain is tuple and Ellipsis not in arguments and len(value) != len(arguments):
        raise AudioPaLMError(f"{where}: expected {len(arguments)} values, found {shown(value)}")
    if plain in (list, tuple) and arguments:
        return plain(_convert(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if plain is dict and arguments:
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return value


def to_dict(config: "DataclassInstance") -> dict[str, Any]:
    """A dataclass as plain dictionaries, ready for JSON or YAML."""
    return dataclasses.asdict(config)
