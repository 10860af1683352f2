"""Intervals over seeds and units: coverage on simulated data, limits that are known, and the formula by brute force."""

import math

import numpy
import pytest
from scipy import stats

from nutshell.bits.figures import intervals, statistics

POINTS, WEIGHTS = numpy.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # of a standard normal's values


def right_answers(random, seeds: int, units: int, spread: float) -> list:
    """Of classifiers: right with probability 1 / (1 + exp(-(1 + spread * seed + 2 * example)))."""
    logits = 1 + spread * random.standard_normal((seeds, 1)) + 2 * random.standard_normal(units)
    return [(row,) for row in (random.random((seeds, units)) < 1 / (1 + numpy.exp(-logits))).astype(float)]


def accuracy(spread: float) -> float:
    """What `right_answers` have on average over all seeds and examples."""
    chance = 1 / (1 + numpy.exp(-(1 + spread * POINTS[:, None] + 2 * POINTS)))
    return float(WEIGHTS @ chance @ WEIGHTS)


def guesses(random, seeds: int, units: int, spread: float) -> list:
    """Of classifiers that separate two classes more or less well: (predicted, labels)."""
    labels = (random.random(units) < 0.4).astype(float)
    margins = (1 + spread * random.standard_normal((seeds, 1))) * (2 * labels - 1)
    margins = margins + 0.8 * random.standard_normal(units) + 0.6 * random.standard_normal((seeds, units))
    return [(row, labels) for row in (margins > 0).astype(float)]


def f1(spread: float) -> float:
    hit = stats.norm.cdf(1 + spread * POINTS)
    return float(WEIGHTS @ (0.8 * hit / (0.4 + 0.4 * hit + 0.6 * (1 - hit))))


def code_lengths(random, seeds: int, units: int, spread: float) -> list:
    """Of language models: (nats, bytes) of stretches; a few cost very much."""
    size = random.integers(50, 150, units).astype(float)
    logs = 0.2 * random.standard_normal((seeds, units)) + 0.6 * random.standard_normal(units)
    factors = 1 + spread * random.standard_normal((seeds, 1))
    return [(size * row, size) for row in factors * numpy.exp(logs)]


def nats_per_byte(_spread: float) -> float:
    return math.exp((0.2**2 + 0.6**2) / 2)


MODELS = {
    "accuracy": (right_answers, accuracy, statistics.mean),
    "f1": (guesses, f1, statistics.f1),
    "nats_per_byte": (code_lengths, nats_per_byte, statistics.ratio),
}


def coverage(metric: str, seeds: int, units: int, spread: float, trials: int) -> float:
    """How often the interval of simulated seeds holds the mean over all seeds and all units."""
    draw, truth, statistic = MODELS[metric]
    held = 0
    for trial in range(trials):
        runs = draw(numpy.random.default_rng([trial, seeds, units]), seeds, units, spread)
        low, high = intervals.over_seeds_and_units(runs, statistic, 199)
        held += low <= truth(spread) <= high
    return held / trials


def coverage_of_a_difference(sides: tuple[int, int], units: int, spread: float, trials: int) -> float:
    """The same of two models' accuracies on the same examples, the second's seeds half as different."""
    held = 0
    for trial in range(trials):
        random = numpy.random.default_rng([trial, *sides])
        examples = 2 * random.standard_normal(units)
        groups = []
        for seeds, bias, width in zip(sides, (1.0, 0.5), (spread, spread / 2), strict=True):
            logits = bias + width * random.standard_normal((seeds, 1)) + examples
            right = random.random((seeds, units)) < 1 / (1 + numpy.exp(-logits))
            groups.append([(row,) for row in right.astype(float)])
        low, high = intervals.difference_over_seeds_and_units(*groups, statistics.mean, 199)
        chances = [
            WEIGHTS @ (1 / (1 + numpy.exp(-(bias + width * POINTS[:, None] + 2 * POINTS)))) @ WEIGHTS
            for bias, width in ((1.0, spread), (0.5, spread / 2))
        ]
        held += low <= chances[0] - chances[1] <= high
    return held / trials


@pytest.mark.parametrize("spread", [0.0, 0.6])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage(seeds, spread):
    """Two seeds cover more: their t value, 12.7, is for seeds that differ much more than their examples do."""
    assert 0.93 <= coverage("accuracy", seeds, 80, spread, 400) <= (1.0 if seeds == 2 else 0.99)


def test_coverage_of_a_difference():
    assert 0.93 <= coverage_of_a_difference((3, 2), 80, 0.6, 200) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.06, 0.2])
@pytest.mark.parametrize("units", [80, 600])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("metric", MODELS)
def test_coverage_of_many(metric, seeds, units, spread):
    """Heavy tails on few stretches cost every bootstrap some: 92 %."""
    least = 0.91 if metric == "nats_per_byte" and units == 80 else 0.93
    assert least <= coverage(metric, seeds, units, spread, 400)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("units", [80, 600])
@pytest.mark.parametrize("sides", [(2, 2), (3, 3), (5, 5), (5, 2)])
def test_coverage_of_many_differences(sides, units, spread):
    assert coverage_of_a_difference(sides, units, spread, 400) >= 0.93


def mean_over_seeds(runs) -> tuple:
    return (sum(column for (column,) in runs) / len(runs),)


def test_over_units_draws_as_scipy_does():
    columns = guesses(numpy.random.default_rng(3), 1, 333, 0.0)[0]
    theirs = stats.bootstrap(columns, statistics.f1, paired=True, vectorized=True, method="percentile", rng=0)
    assert intervals.over_units(columns, statistics.f1) == tuple(theirs.confidence_interval)


def test_equal_seeds_leave_the_sampling_of_examples():
    """Of seeds that are equally often right, on the same examples or on others."""
    one = numpy.arange(80) % 2.0
    for other in (one, numpy.sort(one)):
        low, high = intervals.over_seeds_and_units([(one,), (other,)], statistics.mean)
        assert (low, high) == intervals.over_units(mean_over_seeds([(one,), (other,)]), statistics.mean)
        assert low < 0.5 - 0.05 and high > 0.5 + 0.05


def test_seeds_that_contradict_each_other_leave_the_sampling_of_examples():
    """One always answers 0, the other always 1: their mean is 0.5 on every example, that of new seeds is not."""
    labels = numpy.arange(80) % 2.0
    runs = [(1 - labels,), (labels,)]
    half = stats.norm.ppf(0.975) * math.sqrt(0.25 / 80)
    ours = intervals.over_seeds_and_units(runs, statistics.mean)
    assert ours == pytest.approx((0.5 - half, 0.5 + half), abs=0.005)
    apart = intervals.difference_over_seeds_and_units(runs, [(numpy.ones(80),)] * 2, statistics.mean)
    assert apart == pytest.approx((-0.5 - half, -0.5 + half), abs=0.005)


@pytest.mark.parametrize("metric", MODELS)
def test_one_run_or_the_same_several_times_is_over_units(metric):
    draw, _, statistic = MODELS[metric]
    run = draw(numpy.random.default_rng(5), 1, 100, 0.0)[0]
    alone = intervals.over_units(run, statistic)
    assert intervals.over_seeds_and_units([run], statistic) == alone
    assert intervals.over_seeds_and_units([run] * 2, statistic) == alone
    assert intervals.over_seeds_and_units([run] * 3, statistic) == pytest.approx(alone, rel=1e-12)


def test_units_that_do_not_differ_leave_the_seeds():
    ones, others = [0.81, 0.79, 0.86], [0.70, 0.75]
    runs, rest = ([(numpy.full(30, value),) for value in values] for values in (ones, others))
    assert intervals.over_seeds_and_units(runs, statistics.mean) == pytest.approx(intervals.over_seeds(ones))
    apart = intervals.difference_over_seeds_and_units(runs, rest, statistics.mean)
    welch = stats.ttest_ind(ones, others, equal_var=False).confidence_interval(0.95)
    assert apart == pytest.approx((welch.low, welch.high))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_never_narrower_than_over_units(seeds):
    for trial in range(20):
        runs = right_answers(numpy.random.default_rng(trial), seeds, 50, 0.2)
        low, high = intervals.over_seeds_and_units(runs, statistics.mean, 499)
        inner = intervals.over_units(mean_over_seeds(runs), statistics.mean, 499)
        assert low <= inner[0] + 1e-12 and inner[1] - 1e-12 <= high


def test_the_formula_by_brute_force():
    """U - C is the mean covariance of two seeds' values over the resamples."""
    runs = right_answers(numpy.random.default_rng(8), 3, 40, 0.8)
    table = numpy.array([column for (column,) in runs])
    draws = numpy.random.default_rng(0).integers(0, 40, (999, 40))
    values = numpy.array([[sum(row[unit] for unit in draw) / 40 for draw in draws] for row in table])
    covariances = numpy.cov(values, ddof=0)
    disagreement = (numpy.trace(covariances) - (covariances.sum() - numpy.trace(covariances)) / 2) / 9
    units = covariances.sum() / 9
    seeds, student = numpy.var(table.mean(1), ddof=1) / 3, stats.t.ppf(0.975, 2)
    center, ends = table.mean(), numpy.quantile(values.mean(0), [0.025, 0.975])
    expected = []
    for end in ends:
        part = ((end - center) / stats.norm.ppf(0.975)) ** 2 * (1 - disagreement / units)
        half = (student * seeds + stats.norm.ppf(0.975) * part) / math.sqrt(seeds + part)
        expected.append(center + math.copysign(half, end - center))
    assert intervals.over_seeds_and_units(runs, statistics.mean, 999) == pytest.approx(expected)


def test_the_disagreement_is_that_of_the_analysis_of_variance():
    """Of means, U - C is the mean covariance between seeds over the units, divided by the units."""
    runs = right_answers(numpy.random.default_rng(2), 4, 500, 0.5)
    covariances = numpy.cov(numpy.array([column for (column,) in runs]))
    units = (covariances.sum() - numpy.trace(covariances)) / 12 / 500
    seeds, student = numpy.var([column.mean() for (column,) in runs], ddof=1) / 4, stats.t.ppf(0.975, 3)
    width = 2 * (student * seeds + stats.norm.ppf(0.975) * units) / math.sqrt(seeds + units)
    low, high = intervals.over_seeds_and_units(runs, statistics.mean)
    assert high - low == pytest.approx(width, rel=0.02)


def test_the_order_of_seeds_and_sides_does_not_matter():
    runs = guesses(numpy.random.default_rng(4), 5, 90, 0.2)
    forward = intervals.over_seeds_and_units(runs, statistics.f1)
    assert intervals.over_seeds_and_units(runs[::-1], statistics.f1) == pytest.approx(forward, rel=1e-9)
    low, high = intervals.difference_over_seeds_and_units(runs[:3], runs[3:], statistics.f1)
    swapped = intervals.difference_over_seeds_and_units(runs[3:], runs[:3], statistics.f1)
    assert swapped == pytest.approx((-high, -low), rel=1e-9)


def test_a_difference_of_single_seeds_is_the_paired_bootstrap():
    one, other = right_answers(numpy.random.default_rng(6), 2, 120, 0.5)
    ours = intervals.difference_over_seeds_and_units([one], [other], statistics.mean)
    assert ours == pytest.approx(intervals.over_units((one[0] - other[0],), statistics.mean), rel=1e-9)


def test_many_units_are_resampled_less_often():
    assert [intervals.resamples_of(units) for units in (20, 5000, 10_000, 1_000_000)] == [9999, 9999, 5000, 1999]
