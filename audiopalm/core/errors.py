"""The one exception that commands show to the user as a single line."""

import difflib
from collections.abc import Iterable


class AudioPaLMError(Exception):
    """Bad input or a broken promise: says what is wrong, where, and what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: `did you mean 'x'? known: a, b, x`."""
    known = sorted(known)
    match = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}known: {', '.join(known)}"
