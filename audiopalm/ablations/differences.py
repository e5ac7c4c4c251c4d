"""The difference of two systems over seeds and sentences: its interval, its verdict, and what a design can see.

The interval has two sources of chance. Seeds: Welch's t on the figures of the seeds. Sentences: a paired bootstrap, in
which the same sentences are drawn for both systems and all seeds. The variances add up, because the seeds of a system
are all scored on the same sentences; the degrees of freedom are Satterthwaite's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev, variance

import numpy as np
from scipy.stats import t as student

from audiopalm.ablations.design import Spread

CONFIDENCE = 0.95
POWER = 0.8
SENTENCES_FREEDOM = 400  # degrees of freedom of the bootstrap: a test set has some hundreds of sentences


@dataclass(frozen=True)
class Sample:
    """The figures of a system: {seed: value}, and {seed: the same figure on each draw of the sentences, `[draws]`}.

    deviation: the standard deviation over sentences, where no draws are known.
    """

    values: Mapping[int, float]
    draws: Mapping[int, np.ndarray] = field(default_factory=dict)
    deviation: float = 0.0

    @property
    def mean(self) -> float:
        return fmean(self.values.values())

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds; None for one seed."""
        return stdev(self.values.values()) if len(self.values) > 1 else None

    def interval(self) -> tuple[float, float] | None:
        """The interval of the mean over seeds and sentences; None for one seed."""
        if len(self.values) < 2:
            return None
        draws = self.mean_draws()
        sentences = self.deviation ** 2 if draws is None else float(draws.var())
        half = _half([(variance(self.values.values()) / len(self.values), len(self.values) - 1),
                      (sentences, SENTENCES_FREEDOM)])
        return self.mean - half, self.mean + half

    def mean_draws(self) -> np.ndarray | None:
        """The mean over seeds on each draw `[draws]`; None unless the draws of all seeds are known."""
        if not self.draws or self.draws.keys() != self.values.keys():
            return None
        return np.mean(list(self.draws.values()), axis=0)


@dataclass(frozen=True)
class Difference:
    """The second sample's mean minus the first sample's mean, with its interval.

    seeds: the number of values of the smaller sample. low, high, visible: None if that is one. visible: the smallest
    difference that would have been found with a probability of 80 %, given the chance that was measured.
    """

    value: float
    seeds: int
    low: float | None = None
    high: float | None = None
    visible: float | None = None

    def verdict(self, wanted_sign: int) -> str:
        """`holds`, `does not hold` or `undecided`, given the sign of the paper's difference.

        Without a claim of the paper (0): `higher`, `lower` or `undecided`.
        """
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        if wanted_sign == 0:
            return "higher" if self.low > 0 else "lower"
        return "holds" if (self.low > 0) == (wanted_sign > 0) else "does not hold"


def difference(first: Sample, second: Sample) -> Difference:
    """The difference of two systems."""
    value = second.mean - first.mean
    sizes = len(first.values), len(second.values)
    if min(sizes) < 2:
        return Difference(value, min(sizes))
    draws = first.mean_draws(), second.mean_draws()
    if draws[0] is not None and draws[1] is not None and draws[0].shape == draws[1].shape:
        sentences = float((draws[1] - draws[0]).var())
    else:  # unpaired
        sentences = sum(sample.deviation ** 2 if drawn is None else float(drawn.var())
                        for sample, drawn in zip((first, second), draws, strict=True))
    parts = [(variance(sample.values.values()) / len(sample.values), len(sample.values) - 1)
             for sample in (first, second)]
    parts.append((sentences, SENTENCES_FREEDOM))
    half = _half(parts)
    return Difference(value, min(sizes), value - half, value + half, _visible(parts))


def smallest_visible(spread: Spread, seeds: int) -> float:
    """The smallest difference that a design with so many seeds finds with a probability of 80 %, before it is run."""
    return _visible([(spread.seeds ** 2 / seeds, seeds - 1)] * 2 + [(spread.sentences ** 2, SENTENCES_FREEDOM)])


def _freedom(parts: Sequence[tuple[float, int]]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances, given (variance, degrees of freedom) of each."""
    total = sum(part for part, _ in parts)
    return total ** 2 / sum(part ** 2 / freedom for part, freedom in parts)


def _half(parts: Sequence[tuple[float, int]]) -> float:
    """Half the width of the interval."""
    total = sum(part for part, _ in parts)
    return float(student.ppf((1 + CONFIDENCE) / 2, _freedom(parts))) * total ** 0.5 if total else 0.0


def _visible(parts: Sequence[tuple[float, int]]) -> float:
    total = sum(part for part, _ in parts)
    if not total:
        return 0.0
    quantiles = student.ppf([(1 + CONFIDENCE) / 2, POWER], _freedom(parts))
    return float(quantiles.sum()) * total ** 0.5
