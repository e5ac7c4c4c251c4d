"""Intervals over seeds and sentences against scipy and against simulations, and the power of a design."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from audiopalm.ablations.design import Spread
from audiopalm.ablations.differences import Difference, Sample, difference, smallest_visible


def of(values, **more):
    return Sample(dict(enumerate(values)), **more)


@pytest.mark.parametrize("first, second", [([16, 17, 15.5], [18, 19.5, 18.2]), ([1, 2, 9], [4, 4.1])])
def test_without_sentences_the_interval_is_that_of_welch(first, second):
    found = difference(of(first), of(second))
    expected = ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(sum(second) / len(second) - sum(first) / len(first))


def test_the_interval_decides_the_verdict():
    intervals = ((1, 5), (-1, 7), (-7, -1), (None, None))
    assert [Difference(3, 5, *interval).verdict(1) for interval in intervals] == [
        "holds", "undecided", "does not hold", "undecided"]
    assert [Difference(3, 5, *interval).verdict(0) for interval in intervals] == [
        "higher", "undecided", "lower", "undecided"]
    assert Difference(-3, 5, -5, -1).verdict(-1) == "holds"
    assert difference(of([1.0]), of([2.0, 3.0])).low is None  # one seed decides nothing


def test_draws_of_the_same_sentences_are_paired():
    """What both systems find hard does not widen the interval; what one of them finds hard does."""
    random = np.random.default_rng(0)
    common, own = random.normal(0, 3, 200), random.normal(0, 3, 200)
    values = {0: 10.0, 1: 11.0, 2: 12.0}

    def widths(noise):
        first = Sample(values, {seed: value + common for seed, value in values.items()})
        second = Sample(values, {seed: value + common + noise for seed, value in values.items()})
        found = difference(first, second)
        return found.high - found.low

    seeds_alone = difference(Sample(values), Sample(values))
    assert widths(0) == pytest.approx(seeds_alone.high - seeds_alone.low)
    assert widths(own) > 2 * widths(0)


def test_a_design_finds_its_smallest_visible_difference_four_times_in_five():
    spread, seeds = Spread(seeds=1.7, sentences=1.5), 5
    wanted = smallest_visible(spread, seeds)
    random = np.random.default_rng(1)
    found = 0
    for _ in range(400):
        shift = random.normal(0, spread.sentences)  # how the sentences of the set favour the second system
        first, second = random.normal(0, spread.seeds, seeds), random.normal(wanted + shift, spread.seeds, seeds)
        draws = random.normal(0, spread.sentences, 200)
        same = {seed: np.full(200, first[seed]) for seed in range(seeds)}
        drawn = {seed: second[seed] + draws for seed in range(seeds)}
        measured = difference(Sample(dict(enumerate(first)), same), Sample(dict(enumerate(second)), drawn))
        found += measured.verdict(1) == "holds"
    assert 0.72 < found / 400 < 0.88
    assert smallest_visible(spread, 20) < wanted
