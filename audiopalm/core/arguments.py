"""Arguments that several commands share."""

import argparse

from audiopalm.core.errors import AudioPaLMError

MAX_SEED = 2 ** 31 - 1


def parse_with_overrides(parser: argparse.ArgumentParser, example: str) -> argparse.Namespace:
    """Parse the command line of a command that also takes `key=value` overrides of its configuration.

    The overrides may stand before, between and after the options. `example` is an override that the help shows.
    """
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help=f"settings that replace those of the configuration, for example {example}")
    return parser.parse_intermixed_args()


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
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise AudioPaLMError(f"the seed must be 0 to {MAX_SEED}, found {seed!r}")
