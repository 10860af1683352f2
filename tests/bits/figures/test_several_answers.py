"""Metrics of several answers to each unit, and the area under the curve."""

import numpy
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from nutshell.bits.figures import intervals, units
from nutshell.bits.figures.metrics import AUC, OF_ANY, of_classes
from nutshell.bits.figures.units import Units


def draw(answers: int | None = None, count: int = 60) -> dict[str, numpy.ndarray]:
    """A classifier's columns, with as many answers to each unit."""
    generator = numpy.random.default_rng(1)
    label = generator.integers(0, 2, count)
    shape = (count,) if answers is None else (count, answers)
    ones = 1 / (1 + numpy.exp(-(label.reshape(-1, *[1] * (len(shape) - 1)) - 0.5 + generator.normal(0, 1, shape))))
    probabilities = numpy.stack([1 - ones, ones], -1)
    of_label = numpy.where(label.reshape(-1, *[1] * (len(shape) - 1)) == 1, ones, 1 - ones)
    return {
        "label": label,
        "predicted": probabilities.argmax(-1),
        "confidence": probabilities.max(-1),
        "nats": -numpy.log(of_label),
        "probabilities": probabilities,
    }


def one(columns: dict[str, numpy.ndarray], place: int) -> dict[str, numpy.ndarray]:
    return {name: values[:, place] if name != "label" else values for name, values in columns.items()}


@pytest.mark.parametrize("metric", [*of_classes(2), AUC], ids=lambda metric: metric.name)
def test_the_figure_is_the_mean_over_the_answers(metric):
    columns = draw(3)
    values = [metric.value(one(columns, place)) for place in range(3)]
    assert metric.value(columns) == pytest.approx(numpy.mean(values))
    assert len({*values}) == 3 and metric.value(one(draw(1), 0)) == metric.value(draw(1))


@pytest.mark.parametrize("metric", [OF_ANY["accuracy"], OF_ANY["macro_f1"], AUC], ids=lambda metric: metric.name)
def test_its_interval_is_over_the_units(metric):
    """The bootstrap of the mean over answers: for the accuracy that of each unit's share of right answers."""
    columns = draw(3)
    low, high = metric.interval(columns)
    if metric.name == "accuracy":
        shares = (columns["predicted"] == columns["label"][:, None]).mean(1)
        expected = intervals.over_units([shares], lambda shares, axis=-1: shares.mean(axis))
        assert (low, high) == pytest.approx(expected)
    generator, values = numpy.random.default_rng(2), []
    for _ in range(2000):
        rows = generator.integers(0, 60, 60)
        values.append(metric.value({name: column[rows] for name, column in columns.items()}))
    assert (low, high) == pytest.approx(numpy.quantile(values, [0.025, 0.975]), abs=0.02)


def test_one_answer_is_compared_with_several():
    """A paired difference needs the same units alone."""
    several, single, accuracy = draw(3), draw(), OF_ANY["accuracy"]
    sides = [[accuracy.select(several)], [accuracy.select(single)]]
    low, high = intervals.difference_over_seeds_and_units(*sides, accuracy.compute)
    difference = accuracy.value(several) - accuracy.value(single)
    assert low < difference < high
    shares = (several["predicted"] == several["label"][:, None]).mean(1) - (single["predicted"] == single["label"])
    assert (low, high) == pytest.approx(
        intervals.over_units([shares], lambda shares, axis=-1: shares.mean(axis), intervals.resamples_of(60))
    )


def test_they_are_written_and_read_back(tmp_path):
    columns = draw(3) | {"texts": [[1, 2], [], *[[3]] * 58]}
    Units("examples", (*of_classes(2), AUC), columns).write(tmp_path)
    read = units.read(tmp_path)
    for name in ("label", "predicted", "confidence", "nats", "probabilities"):
        assert read.columns[name].dtype == columns[name].dtype and numpy.array_equal(read.columns[name], columns[name])
    assert read.columns["probabilities"].shape == (60, 3, 2) and read.columns["texts"] == columns["texts"]
    assert read.figures() == Units("examples", read.metrics, columns).figures()


def test_auc_against_scikit_learn():
    columns = draw(count=200)
    columns["nats"][:20] = columns["nats"][20:40]  # ties, within a class and between the two
    ones = numpy.where(columns["label"] == 1, numpy.exp(-columns["nats"]), 1 - numpy.exp(-columns["nats"]))
    assert AUC.value(columns) == pytest.approx(roc_auc_score(columns["label"], ones), abs=1e-12)
    assert accuracy_score(columns["label"], columns["predicted"]) == OF_ANY["accuracy"].value(columns)


def test_auc_at_its_ends():
    label = numpy.array([0, 0, 1, 1])

    def auc(nats) -> float | None:
        return AUC.value({"nats": numpy.array(nats), "label": label})

    assert auc([0.1, 0.2, 0.3, 0.1]) == 1 and auc([3, 2, 3, 2]) == 0
    for share in numpy.linspace(0.01, 0.99, 99):  # one probability of class 1 for all
        assert auc(-numpy.log([1 - share, 1 - share, share, share])) == 0.5
    assert auc([1e-30, 1e-20, 1e-25, 1e-15]) == 1  # where the probabilities are all 1 to the last digit
    assert auc([0.0, 800.0, 0.0, 700.0]) == 0.75
    assert AUC.value({"nats": numpy.ones(3), "label": numpy.ones(3, int)}) is None
