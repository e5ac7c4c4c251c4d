"""Arguments that several commands share."""

import argparse


def parse_with_overrides(parser: argparse.ArgumentParser, example: str) -> argparse.Namespace:
    """Parse the command line of a command that also takes `key=value` overrides of its configuration.

    The overrides may stand before, between and behind the options; `example` is one of them, for the help.
    """
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help=f"settings in place of those of the configuration, for example {example}")
    return parser.parse_intermixed_args()
