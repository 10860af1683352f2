"""95 % intervals: over the units that were measured, by the bootstrap; over seeds, by Student's t."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy
from scipy import stats

RESAMPLES = 9999


def over_units(
    data: tuple[numpy.ndarray, ...], statistic: Callable, resamples: int | None = None
) -> tuple[float, float]:
    """The interval of a statistic of paired arrays: the percentile bootstrap, a fixed seed.

    Args:
        data: Arrays (units,), drawn together.
        statistic: Of such arrays along `axis`.
        resamples: How many; None: RESAMPLES.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    interval = stats.bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples or RESAMPLES,
        method="percentile",
        batch=max(1, 2_000_000 // len(data[0])),
        rng=0,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation (n - 1); None of a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """The interval of the mean of two or more seeds' values: Student's t."""
    mean, deviation = mean_and_deviation(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return mean - half, mean + half


def between_seeds(ones: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """The interval of the difference of two means, each over two or more seeds of its own; None if the seeds of each
    agree to the last digit, which says nothing of how far others would.

    Source: Welch 1947, "The generalization of 'Student's' problem when several different population variances are
    involved".
    """
    if len(set(ones)) == len(set(others)) == 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of seeds that nearly agree
        interval = stats.ttest_ind(ones, others, equal_var=False).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def mean(values: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The mean along an axis."""
    return values.mean(axis)


def ratio(numerators: numpy.ndarray, denominators: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Sum over sum along an axis."""
    return numerators.sum(axis) / denominators.sum(axis)


def f1(predicted: numpy.ndarray, labels: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """2 true positives / (2 true positives + false positives + false negatives), of 0 and 1 along an axis; 0 where
    there is no positive."""
    both = (predicted * labels).sum(axis)
    either = predicted.sum(axis) + labels.sum(axis)
    return numpy.divide(2 * both, either, out=numpy.zeros_like(both), where=either > 0)
