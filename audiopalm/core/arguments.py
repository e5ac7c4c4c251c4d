"""Arguments that several commands share."""

import argparse
import math
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from audiopalm.core.errors import AudioPaLMError

if TYPE_CHECKING:  # this module exists for type checkers only
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
MAX_SEED = 2 ** 31 - 1


def options_of(cls: type[Options], arguments: argparse.Namespace) -> Options:
    """The dataclass `cls`, whose fields are options of a command, from the arguments of these names."""
    return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})


def paired(arguments: argparse.Namespace, first: str, second: str) -> dict[Path, Path]:
    """{folder of the option `first`: folder of `second`}, in order. Raises AudioPaLMError if their numbers differ."""
    keys, values = getattr(arguments, first), getattr(arguments, second)
    if len(keys) != len(values):
        raise AudioPaLMError(f"--{first} names {len(keys)} folders, --{second} names {len(values)}; give one for each, "
                             "in the same order")
    return dict(zip(keys, values, strict=True))


def parse_with_overrides(parser: argparse.ArgumentParser, example: str) -> argparse.Namespace:
    """Parse the command line of a command that also takes `key=value` overrides of its configuration.

    The overrides may stand before, between and after the options. `example` is an override that the help shows.
    """
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help=f"settings that replace those of the configuration, for example {example}")
    return parser.parse_intermixed_args()


def fraction(text: str) -> float:
    """The number in `text`, from 0 to 1. Raises AudioPaLMError for anything else, such as a percentage."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise AudioPaLMError(f"expected a fraction from 0 to 1, found {text!r}")
    return value


def add_seed(parser: argparse.ArgumentParser, help: str | None = None) -> None:
    """Add `--seed`, 0 by default. Parsing raises AudioPaLMError for a number outside 0 to MAX_SEED."""
    parser.add_argument("--seed", type=parse_seed, default=0, help=help)


def parse_seed(text: str) -> int:
    """The seed in `text`. Raises AudioPaLMError for anything but a whole number from 0 to MAX_SEED."""
    try:
        seed = int(text)
    except ValueError:
        raise AudioPaLMError(f"--seed must be a whole number, found {text!r}") from None
    check_seed(seed)
    return seed


def check_seed(seed: int) -> None:
    """Raise AudioPaLMError for a seed that torch, numpy or the checkpoints cannot take."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise AudioPaLMError(f"the seed must be 0 to {MAX_SEED}, found {seed!r}")
