"""The statistics that metrics are made of: functions of columns of units along an axis, so that resamples are quick.

One that is undefined, such as 0 / 0, is not a number.
"""

import math
from collections.abc import Callable, Sequence

import numpy

LARGEST_EXPONENT_NATS = 709.0  # whose exponential is still a float
TINY = numpy.finfo(float).tiny
CONFIDENCE_BINS = 15
STATISTICS: dict[str, Callable[..., numpy.ndarray]] = {}


def statistic(function: Callable[..., numpy.ndarray]) -> Callable[..., numpy.ndarray]:
    """Registers a function by its name, so that a file of units can name what computes its figures.

    Args:
        function: Of columns (..., units) and `axis`, along which the units are.
    """
    STATISTICS[function.__name__] = function
    return function


@statistic
def mean(values: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The mean."""
    return values.mean(axis)


@statistic
def ratio(numerators: numpy.ndarray, denominators: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Sum over sum; not a number where both are 0."""
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return numpy.true_divide(numerators.sum(axis), denominators.sum(axis))


@statistic
def agreement(predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The share of units whose predicted class is the true one."""
    return (predicted == label).mean(axis)


@statistic
def f1(predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """2 true positives / (2 true positives + false positives + false negatives) for class 1; not a number where
    class 1 is neither predicted nor true (scikit-learn returns 0 there, with a warning)."""
    true = ((predicted == 1) & (label == 1)).sum(axis)
    positives = (predicted == 1).sum(axis) + (label == 1).sum(axis)
    with numpy.errstate(invalid="ignore"):
        return numpy.true_divide(2 * true, positives)


@statistic
def macro_f1(predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The mean of F1 over the classes that are predicted or true."""
    true, guessed, actual = _class_counts(predicted, label, axis)
    occurrences = guessed + actual
    shares = 2 * true / numpy.maximum(1, occurrences)
    return shares.sum(-1) / (occurrences > 0).sum(-1)


@statistic
def matthews(predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Matthews' correlation of the predicted and the true class, of any number of classes:

        (n sum_k true_k - sum_k guessed_k actual_k) / sqrt((n^2 - sum_k guessed_k^2) (n^2 - sum_k actual_k^2))

    Not a number where one class alone is predicted, or true (scikit-learn returns 0 there).

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", equation 8.
    """
    true, guessed, actual = _class_counts(predicted, label, axis)
    number = actual.sum(-1)
    spreads = [number**2 - (counts**2).sum(-1) for counts in (guessed, actual)]
    covariance = number * true.sum(-1) - (guessed * actual).sum(-1)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return (covariance / (numpy.sqrt(spreads[0]) * numpy.sqrt(spreads[1]))).clip(-1, 1)  # 1 may be rounded up


@statistic
def calibration_error(
    confidence: numpy.ndarray, predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1
) -> numpy.ndarray:
    """The expected calibration error: |share of right answers - mean confidence| in each of 15 equal bins of
    confidence, the mean over bins weighted by their units.

    It is 0 only in the limit: chance alone makes it positive, the more so in small samples, and in each resample once
    more. A percentile interval is therefore too high: it never holds the 0 of a perfectly calibrated model, and held a
    true error of 0.08 in 59 % of simulations with 200 examples and in 88 % with 2,000. It says how far the figure
    itself would move with other examples.

    Args:
        confidence: Of the predicted class, 0 to 1.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, with its 15 bins (low, high].
    """
    confidence, predicted, label = (numpy.moveaxis(column, axis, -1) for column in (confidence, predicted, label))
    bins = (numpy.ceil(confidence * CONFIDENCE_BINS) - 1).astype(int).clip(0)
    differences = _sums(bins, CONFIDENCE_BINS, (predicted == label) - confidence)
    return numpy.abs(differences).sum(-1) / label.shape[-1]


@statistic
def auc(nats: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The area under the curve of two classes: the share of pairs of one unit of each class in which that of class 1
    has the higher probability of class 1, a tie counting half. Not a number where there is one class only.

    It says how well a model ranks, wherever its threshold is.

    Args:
        nats: -ln p(true class), from which the log-odds of class 1 follow.
        label: 0 or 1.

    Source: Hanley & McNeil 1982, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC)
    Curve".
    """
    nats, label = numpy.moveaxis(nats, axis, -1), numpy.moveaxis(label, axis, -1).astype(int)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        log_odds = -nats - numpy.log(-numpy.expm1(-nats))  # of the true class
        # Whole numbers sort quickest, and make p of one class and 1 - p of the other one, whatever their last digit.
        keys = 2 * (numpy.where(label == 1, log_odds, -log_odds).clip(-1e9, 1e9) * 1e9).round().astype(numpy.int64)
        ones = label.sum(-1)
        pairs = ones * (label.shape[-1] - ones)
        ordered = 0
        for first in (0, 1):  # of equal ones the zeros come first, then the ones
            of_one = (numpy.sort(keys + (label ^ first)) & 1) ^ first
            ordered = ordered + (of_one * (1 - of_one).cumsum(-1)).sum(-1)
        return numpy.true_divide(ordered, 2 * pairs)


@statistic
def pearson(predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Pearson's correlation; not a number where either is constant."""
    # Not by the deviations from the mean: that of equal numbers may be rounded.
    spread = (numpy.ptp(predicted, axis) > 0) & (numpy.ptp(label, axis) > 0)
    centered = [column - column.mean(axis, keepdims=True) for column in (predicted, label)]
    one, other = (column / numpy.sqrt((column**2).sum(axis, keepdims=True)).clip(TINY) for column in centered)
    return numpy.where(spread, (one * other).sum(axis).clip(-1, 1), numpy.nan)


@statistic
def spearman(predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Pearson's correlation of the ranks, equal values at their mean rank; not a number where either is constant."""
    from scipy.stats import rankdata

    return pearson(*(rankdata(column, axis=axis) for column in (predicted, label)), axis=axis)


@statistic
def squared_error(predicted: numpy.ndarray, label: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The mean of (predicted - label)^2."""
    return ((predicted - label) ** 2).mean(axis)


@statistic
def mean_bits(nats: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The mean of nats, in bits."""
    return nats.mean(axis) / math.log(2)


@statistic
def total_bits(nats: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The sum of nats, in bits."""
    return nats.sum(axis) / math.log(2)


@statistic
def bits_ratio(nats: numpy.ndarray, sizes: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Summed nats, in bits, over summed sizes."""
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return numpy.true_divide(nats.sum(axis) / math.log(2), sizes.sum(axis))


@statistic
def exponential_ratio(nats: numpy.ndarray, counts: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """exp(summed nats / summed counts)."""
    return numpy.exp(numpy.minimum(ratio(nats, counts, axis), LARGEST_EXPONENT_NATS))


@statistic
def distinct_1(texts: Sequence[Sequence[int]], axis: int = -1) -> float:
    """The share of all tokens that are distinct, over all texts; not a number if there are none.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", section 5.
    """
    return _distinct(texts, 1)


@statistic
def distinct_2(texts: Sequence[Sequence[int]], axis: int = -1) -> float:
    """The share of all pairs of neighbouring tokens that are distinct, like `distinct_1`."""
    return _distinct(texts, 2)


@statistic
def repetition_4(texts: Sequence[Sequence[int]], axis: int = -1) -> float:
    """The share of a text's 4-grams of tokens that came before in it, the mean over texts that have any.

    Source: Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training", section 6 (seq-rep-4).
    """
    shares = [1 - len(set(grams)) / len(grams) for text in texts if (grams := _grams(text, 4))]
    return math.fsum(shares) / len(shares) if shares else math.nan


def _distinct(texts: Sequence[Sequence[int]], length: int) -> float:
    grams = [gram for text in texts for gram in _grams(text, length)]
    return len(set(grams)) / len(grams) if grams else math.nan


def _grams(text: Sequence[int], length: int) -> list[tuple[int, ...]]:
    return [*zip(*(text[start:] for start in range(length)), strict=False)]


def _class_counts(predicted: numpy.ndarray, label: numpy.ndarray, axis: int) -> list[numpy.ndarray]:
    """How often each class is predicted rightly, is predicted, and is true: three arrays (..., classes) of floats."""
    predicted, label = (numpy.moveaxis(column, axis, -1).astype(int) for column in (predicted, label))
    classes = 1 + max(int(predicted.max()), int(label.max()))
    if classes**2 <= label.shape[-1]:  # a table of all pairs is no larger than the columns, and one count is quicker
        table = _sums(label * classes + predicted, classes**2).reshape(*label.shape[:-1], classes, classes)
        return [table.diagonal(axis1=-2, axis2=-1), table.sum(-2), table.sum(-1)]
    right = numpy.where(predicted == label, label, classes)
    return [_sums(right, classes + 1)[..., :-1], _sums(predicted, classes), _sums(label, classes)]


def _sums(groups: numpy.ndarray, count: int, weights: numpy.ndarray | None = None) -> numpy.ndarray:
    """The sum of the weights in each group, along the last axis: (..., count) floats; without weights, how many.

    Args:
        groups: (..., units) of 0 to count - 1; is written to.
    """
    rows = groups.reshape(-1, groups.shape[-1])
    rows += count * numpy.arange(len(rows))[:, None]
    sums = numpy.bincount(rows.ravel(), None if weights is None else weights.ravel(), count * len(rows))
    return sums.astype(float).reshape(*groups.shape[:-1], count)
