"""How well the confidence was fitted: the `report` of confidence.json, on the test set and on inputs from outside."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Group:
    """A bin of answers: their mean confidence, the fraction that is right, and their number."""

    confidence: float
    right: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """The confidence in the answers to a task.

    error: the expected calibration error. auc: the area under the ROC curve of right against wrong answers; None if all
    are right or all are wrong. right: the fraction of right answers. count: their number. groups: bins of equal width.
    """

    error: float
    auc: float | None
    right: float
    count: int
    groups: list[Group]


@dataclass(frozen=True)
class OutsideKind:
    """Inputs of one kind from outside, such as noise: the area under the ROC curve between the test set and them, the
    fraction that is taken for inside, and their number.
    """

    auc: float
    inside: float
    count: int


@dataclass(frozen=True)
class InsideTest:
    """Inputs of the test set, and inputs from outside by kind.

    auc: the area under the ROC curve between them. inside, outside: the fractions of the test set and of the outside
    inputs that are taken for inside. count: the inputs of the test set.
    """

    auc: float
    inside: float
    count: int
    outside: float
    kinds: dict[str, OutsideKind] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationReport:
    """outside: {field of an input: its test}. fitted: the same for the inputs that the regressions were fitted on.

    right: {name of an elementary task: its reliability}. judge: what heard the words of TTS; empty: the model itself.
    """

    outside: dict[str, InsideTest] = field(default_factory=dict)
    fitted: dict[str, InsideTest] = field(default_factory=dict)
    right: dict[str, Reliability] = field(default_factory=dict)
    judge: str = ""
