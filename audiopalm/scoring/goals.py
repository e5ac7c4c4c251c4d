"""The goals of a recipe, conf/goals.yaml: limits for figures, absolute or relative to those of true recordings."""

from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError, nearest

LIMITS = ("at_most", "at_least", "at_most_above_true_audio", "at_least_share_of_true_audio")


@dataclass
class Goal:
    """One figure (a name of `audiopalm/scoring/headline.py`) and exactly one limit.

    `at_most_above_true_audio` is a difference from the same figure of true recordings, `at_least_share_of_true_audio` a
    fraction of it. Raises AudioPaLMError unless exactly one limit is given.
    """

    figure: str
    at_most: float | None = None
    at_least: float | None = None
    at_most_above_true_audio: float | None = None
    at_least_share_of_true_audio: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in LIMITS if getattr(self, name) is not None]
        if len(given) != 1:
            raise AudioPaLMError(f"goal {self.figure!r}: give one of {', '.join(LIMITS)}, found {len(given)}")
        self._limit, self._value = given[0], getattr(self, given[0])

    def __str__(self) -> str:
        """`at most 0.15 above true audio`"""
        value = f"{self._value:.2f}" if self._value < 1 else f"{self._value:g}"
        return {"at_most": f"at most {value}", "at_least": f"at least {value}",
                "at_most_above_true_audio": f"at most {value} above true audio",
                "at_least_share_of_true_audio": f"at least {100 * self._value:g} % of true audio"}[self._limit]

    def is_met(self, value: float, true_audio: float | None) -> bool:
        """Whether `value` reaches the goal. A goal relative to true recordings is not met if these were not scored."""
        if self._limit == "at_most":
            return value <= self._value
        if self._limit == "at_least":
            return value >= self._value
        if true_audio is None:
            return False
        if self._limit == "at_most_above_true_audio":
            return value <= true_audio + self._value
        return value >= self._value * true_audio


@dataclass
class Goals:
    """The contents of conf/goals.yaml. `recipe` is the field `recipe` of the rows that the goals apply to."""

    recipe: str
    goals: list[Goal]

    def find(self, recipe: str, figure: str) -> Goal | None:
        """The goal for a figure of a recipe; None if there is none."""
        if recipe != self.recipe:
            return None
        return next((goal for goal in self.goals if goal.figure == figure), None)


NO_GOALS = Goals("", [])


def load_goals(path: str | Path | None, figures: list[str]) -> Goals:
    """The goals of a file; NO_GOALS for None. Raises AudioPaLMError for a figure that is not among `figures`."""
    if path is None:
        return NO_GOALS
    loaded = load_config(Goals, path)
    for goal in loaded.goals:
        if goal.figure not in figures:
            raise AudioPaLMError(f"{path}: unknown figure {goal.figure!r}; {nearest(goal.figure, figures)}")
    return loaded
