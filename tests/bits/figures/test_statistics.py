"""Each statistic against scikit-learn and scipy, along an axis, and on input that says little."""

import math
import warnings

import numpy
import pytest
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef, mean_squared_error

from nutshell.bits.figures import intervals, statistics
from nutshell.bits.figures.metrics import OF_NUMBERS, Metric, of_classes

RANDOM = numpy.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def classified(classes: int, rows: int = 6, units: int = 80) -> tuple[numpy.ndarray, numpy.ndarray]:
    """(predicted, label), right on half of the units and more."""
    label = RANDOM.integers(0, classes, (rows, units))
    return numpy.where(RANDOM.random((rows, units)) < 0.5, label, RANDOM.integers(0, classes, (rows, units))), label


REFERENCES = {
    statistics.f1: f1_score,
    statistics.macro_f1: lambda label, predicted: f1_score(label, predicted, average="macro"),
    statistics.matthews: matthews_corrcoef,
    statistics.pearson: lambda label, predicted: stats.pearsonr(label, predicted).statistic,
    statistics.spearman: lambda label, predicted: stats.spearmanr(label, predicted).statistic,
    statistics.squared_error: mean_squared_error,
}


def check(statistic, predicted, label) -> None:
    """Along the last axis, and along the first."""
    theirs = [REFERENCES[statistic](*row) for row in zip(label, predicted, strict=True)]
    assert statistic(predicted, label) == pytest.approx(theirs, abs=1e-12)
    assert statistic(predicted.T, label.T, axis=0) == pytest.approx(theirs, abs=1e-12)
    assert statistic(predicted[0], label[0]) == pytest.approx(theirs[0], abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 7, 40])  # of 80 units: more pairs than units with nine classes or more
@pytest.mark.parametrize("statistic", [statistics.macro_f1, statistics.matthews])
def test_classes(statistic, classes):
    predicted, label = classified(classes)
    before = predicted.copy(), label.copy()
    check(statistic, predicted, label)
    assert numpy.array_equal((predicted, label), before)
    check(statistic, predicted.astype(float), label.astype(float))


@pytest.mark.parametrize("statistic", [statistics.pearson, statistics.spearman, statistics.squared_error])
def test_numbers(statistic):
    label = RANDOM.normal(size=(6, 80))
    for predicted in (RANDOM.normal(size=(6, 80)), label + 1e-3 * RANDOM.normal(size=(6, 80)), -3 * label + 7):
        check(statistic, predicted, label)
        check(statistic, numpy.round(predicted), numpy.round(label))  # ties


def test_classes_that_do_not_occur_are_not_in_the_mean():
    predicted, label = numpy.array([0, 3, 3, 0]), numpy.array([0, 3, 0, 3])
    assert statistics.macro_f1(predicted, label) == f1_score(label, predicted, average="macro") == 0.5
    assert statistics.macro_f1(numpy.array([5]), numpy.array([0])) == 0


@pytest.mark.parametrize(
    ("statistic", "predicted", "label"),
    [
        (statistics.f1, [0, 0, 0], [0, 0, 0]),  # scikit-learn: 0, with a warning
        (statistics.f1, [0, 2, 2], [2, 2, 0]),
        (statistics.matthews, [1, 1, 1], [0, 1, 1]),  # scikit-learn: 0
        (statistics.matthews, [0, 1, 1], [2, 2, 2]),
        (statistics.pearson, [0.1] * 7, [1, 2, 3, 4, 5, 6, 7]),  # whose mean is not quite 0.1
        (statistics.pearson, [1, 2, 3, 4, 5, 6, 7], [0.1] * 7),
        (statistics.spearman, [2, 2, 2], [1, 2, 3]),
        (statistics.spearman, [1.0], [2.0]),
    ],
)
def test_nothing_over_nothing_is_no_number(statistic, predicted, label):
    columns = {"predicted": numpy.array(predicted), "label": numpy.array(label)}
    assert math.isnan(statistic(*columns.values()))
    metric = Metric("figure", "", True, statistic, ("predicted", "label"))
    assert metric.value(columns) is None and metric.figure(columns).interval_95 is None
    rows = numpy.stack([predicted, predicted]), numpy.stack([label, label])
    assert numpy.isnan(statistic(*rows)).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_error_by_a_loop(classes):
    """Guo et al. 2017, equation 3: bins (low, high]."""
    predicted, label = classified(classes, rows=3)
    confidence = RANDOM.uniform(1 / classes, 1, (3, 80))
    confidence[:, :6] = [0.0, 1.0, 0.2, 0.4, 0.6, 0.8]  # at the edges
    for row in range(3):
        expected = 0.0
        for number in range(15):
            low, high = number / 15, (number + 1) / 15
            inside = (confidence[row] > low) & (confidence[row] <= high) | (number == 0) & (confidence[row] == 0)
            if inside.any():
                right = (predicted[row] == label[row])[inside].mean()
                expected += inside.mean() * abs(right - confidence[row][inside].mean())
        assert statistics.calibration_error(confidence[row], predicted[row], label[row]) == pytest.approx(expected)
    rows = statistics.calibration_error(confidence, predicted, label)
    assert rows == pytest.approx(statistics.calibration_error(confidence.T, predicted.T, label.T, axis=0))
    assert rows[2] == pytest.approx(expected)


def test_perfect_and_worst_calibration():
    right = numpy.array([1, 0, 1, 1])
    assert statistics.calibration_error(numpy.full(4, 0.75), right, numpy.ones(4)) == 0
    assert statistics.calibration_error(numpy.ones(4), numpy.zeros(4), numpy.ones(4)) == 1


def everything(units: int) -> dict[str, numpy.ndarray]:
    (predicted,), (label,) = classified(3, 1, units)
    confidence = RANDOM.uniform(0.4, 1, units)
    return {"predicted": predicted, "label": label, "confidence": confidence, "nats": -numpy.log(confidence)}


@pytest.mark.parametrize("metric", [*of_classes(3), *OF_NUMBERS], ids=lambda metric: metric.name)
def test_an_interval_is_that_of_a_loop(metric, monkeypatch):
    """The same draws, each resample by itself."""
    monkeypatch.setattr(intervals, "RESAMPLES", 199)
    columns = everything(60)
    random, values = numpy.random.default_rng(0), []
    for rows in random.integers(0, 60, (199, 60)):
        values.append(metric.value({name: column[rows] for name, column in columns.items()}))
    assert metric.interval(columns) == pytest.approx(numpy.quantile(values, (0.025, 0.975)), rel=1e-9)


def test_resamples_without_a_value_are_left_out():
    """Four of 60 positive: 1.6 % of the resamples have none; three: 4.6 %; two: 13 %, too many."""
    label = RANDOM.permutation(numpy.arange(60) % 2)
    for positives, interval in ((4, True), (3, True), (2, False)):
        predicted = (numpy.arange(60) < positives).astype(int)
        ends = intervals.over_units((predicted, label), statistics.matthews)
        assert (ends is not None) is interval
    predicted = (numpy.arange(60) < 4).astype(int)
    random = numpy.random.default_rng(0).integers(0, 60, (9999, 60))
    values = statistics.matthews(predicted[random], label[random])
    assert 0 < numpy.isnan(values).mean() < 0.05
    ends = intervals.over_units((predicted, label), statistics.matthews)
    assert ends == pytest.approx(numpy.nanquantile(values, (0.025, 0.975)))


def test_undefined_over_seeds():
    label = numpy.arange(60) % 2
    often, seldom, never = (numpy.roll(numpy.arange(60) < positives, 7).astype(int) for positives in (30, 2, 0))
    both = [(often, label), (1 - often, label)]
    assert intervals.over_seeds_and_units(both, statistics.matthews)
    assert intervals.over_seeds_and_units([*both, (seldom, label)], statistics.matthews) is None
    assert intervals.over_seeds_and_units([*both, (never, label)], statistics.matthews) is None
    assert intervals.difference_over_seeds_and_units(both, [(never, label)], statistics.matthews) is None
    assert intervals.difference_over_seeds_and_units(both, both, statistics.matthews) is not None


def test_metrics_by_kind():
    assert [metric.name for metric in of_classes(2)] == (
        "accuracy f1 macro_f1 matthews label_bits calibration_error".split()
    )
    assert [
        metric.name for metric in of_classes(3)
    ] == "accuracy macro_f1 matthews label_bits calibration_error".split()
    assert [metric.name for metric in OF_NUMBERS] == ["pearson", "spearman", "squared_error"]
    better = {metric.name: metric.higher_is_better for metric in (*of_classes(2), *OF_NUMBERS)}
    assert [name for name in better if not better[name]] == ["label_bits", "calibration_error", "squared_error"]


def test_matthews_of_right_answers_is_not_above_one():
    """Whose quotient is 1 + 2e-16 for some counts."""
    for length in range(3, 60):
        label = numpy.arange(length) % 3
        assert 1 - 1e-12 < statistics.matthews(label, label) <= 1
