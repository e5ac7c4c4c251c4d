"""The exception that commands show to the user as a single line, and parts of such lines."""

import difflib
from collections.abc import Iterable
from typing import Any


class AudioPaLMError(Exception):
    """Bad input, or a file without the content that it must have. The message says what is wrong, where, what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: `did you mean 'x'? known: a, b, x`."""
    names = sorted(known)
    matches = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {matches[0]!r}? " if matches else ""
    return f"{hint}known: {', '.join(names)}"


def shown(value: Any, longest: int = 60) -> str:
    """A value for an error message: one line, cut to at most `longest` characters."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest - 3]}..."
