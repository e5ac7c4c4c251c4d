"""An example: the fields of one utterance (texts and units) in one language pair."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Example:
    """One utterance in one language pair.

    fields: {name of audiopalm/tasks.py: value}; texts are str, audio fields are units, int32 `[T]`.
    """

    utterance: str
    source: str
    target: str | None
    fields: dict[str, str | np.ndarray]
