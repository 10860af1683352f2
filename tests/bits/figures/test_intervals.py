"""Intervals hold what they promise: coverage on simulated data, and references."""

import math
import statistics

import numpy
import pytest
from scipy import stats

from nutshell.bits.figures import intervals
from nutshell.bits.figures.statistics import f1, mean, ratio
from nutshell.report.comparison import mcnemar


def coverage(monkeypatch, draw, statistic, truth, trials: int) -> float:
    """How often the interval of simulated data holds the truth."""
    monkeypatch.setattr(intervals, "RESAMPLES", 499)
    held = 0
    for trial in range(trials):
        low, high = intervals.over_units(draw(numpy.random.default_rng(trial)), statistic)
        held += low <= truth <= high
    return held / trials


def test_coverage_of_an_accuracy(monkeypatch):
    def draw(random):
        return ((random.random(300) < 0.8).astype(float),)

    assert 0.93 <= coverage(monkeypatch, draw, mean, 0.8, 1000) <= 0.97


def test_coverage_of_a_paired_difference(monkeypatch):
    """Two classifiers, right together on 70 %, only the one on 15 %, only the other on 10 %."""

    def draw(random):
        kind = random.choice(4, 300, p=[0.7, 0.15, 0.1, 0.05])
        return ((kind == 1).astype(float) - (kind == 2).astype(float),)

    assert 0.93 <= coverage(monkeypatch, draw, mean, 0.05, 1000) <= 0.97


def test_coverage_of_bits_per_byte(monkeypatch):
    """Nats over bytes of stretches of unequal length."""

    def draw(random):
        size = random.integers(50, 150, 200).astype(float)
        return size * random.gamma(4.0, 0.25, 200), size

    assert 0.93 <= coverage(monkeypatch, draw, ratio, 1.0, 1000) <= 0.97


def test_the_bootstrap_is_scipy_s_and_always_the_same():
    values = numpy.random.default_rng(1).normal(size=80)
    ours = intervals.over_units((values,), mean)
    theirs = stats.bootstrap((values,), numpy.mean, n_resamples=9999, method="percentile", rng=5).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours == intervals.over_units((values,), mean)


def test_mean_and_deviation_over_seeds():
    values = [0.81, 0.79, 0.86]
    mean, deviation = intervals.mean_and_deviation(values)
    assert mean == pytest.approx(statistics.fmean(values)) and deviation == pytest.approx(statistics.stdev(values))
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
    assert intervals.over_seeds(values) == pytest.approx((low, high))
    assert intervals.mean_and_deviation([0.5]) == (0.5, None)


@pytest.mark.parametrize(("only_one", "only_other"), [(0, 0), (5, 0), (12, 3), (40, 41), (3, 12)])
def test_mcnemar_is_statsmodels_and_a_sum_of_coins(only_one, only_other):
    from statsmodels.stats.contingency_tables import mcnemar as reference

    one = numpy.array([True] * 30 + [True] * only_one + [False] * only_other + [False] * 7)
    other = numpy.array([True] * 30 + [False] * only_one + [True] * only_other + [False] * 7)
    test = mcnemar(one, other, (13, 21))
    assert (test.only_first_right, test.only_second_right) == (only_one, only_other)
    theirs = reference([[30, only_one], [only_other, 7]], exact=True).pvalue
    count = only_one + only_other
    tail = sum(math.comb(count, k) for k in range(min(only_one, only_other) + 1)) / 2**count
    assert test.p_value == pytest.approx(min(1.0, theirs)) == pytest.approx(min(1.0, 2 * tail))


def test_f1_along_an_axis():
    from sklearn.metrics import f1_score

    random = numpy.random.default_rng(0)
    predicted, labels = random.integers(0, 2, (2, 6, 40)).astype(float)
    ours = f1(predicted, labels)
    assert ours == pytest.approx([f1_score(one, other) for one, other in zip(labels, predicted, strict=True)])
    assert math.isnan(f1(numpy.zeros(4), numpy.zeros(4)))
