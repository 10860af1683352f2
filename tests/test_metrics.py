"""Metrics against scikit-learn and by hand; their intervals."""

import math

import numpy
import pytest
from sklearn.metrics import accuracy_score, f1_score

from nutshell import metrics

RNG = numpy.random.default_rng(0)
LABELS = RNG.integers(0, 2, 400)
PREDICTED = numpy.where(RNG.random(400) < 0.8, LABELS, 1 - LABELS)
NATS = RNG.exponential(0.5, 400)
NAMES = ["accuracy", "f1", "label_bits"]


def test_against_scikit_learn():
    values = metrics.classification(NAMES, PREDICTED, LABELS, NATS)
    assert values["accuracy"] == accuracy_score(LABELS, PREDICTED)
    assert values["f1"] == f1_score(LABELS, PREDICTED)
    assert values["label_bits"] == pytest.approx(NATS.sum() / 400 / math.log(2))


def test_by_hand():
    values = metrics.classification(
        NAMES, numpy.array([1, 1, 0, 0]), numpy.array([1, 0, 1, 0]), numpy.full(4, math.log(2))
    )
    assert values == {"accuracy": 0.5, "f1": 0.5, "label_bits": pytest.approx(1.0)}


def test_no_positive_at_all():
    nothing = numpy.zeros(5, dtype=int)
    assert metrics.classification(["f1"], nothing, nothing, NATS[:5]) == {"f1": 0.0}
    assert metrics.intervals(["f1"], nothing, nothing, NATS[:5]) == {"f1": [0.0, 0.0]}


def test_the_bootstrapped_statistic_is_the_metric():
    assert metrics._f1(PREDICTED.astype(float), LABELS.astype(float)) == pytest.approx(f1_score(LABELS, PREDICTED))


def test_intervals():
    """Around the value; for accuracy as wide as the normal approximation says; the same every time."""
    values = metrics.classification(NAMES, PREDICTED, LABELS, NATS)
    ranges = metrics.intervals(NAMES, PREDICTED, LABELS, NATS)
    assert all(ranges[name][0] < values[name] < ranges[name][1] for name in NAMES)
    share = values["accuracy"]
    width = 2 * 1.96 * math.sqrt(share * (1 - share) / 400)
    assert ranges["accuracy"][1] - ranges["accuracy"][0] == pytest.approx(width, rel=0.05)
    assert ranges == metrics.intervals(NAMES, PREDICTED, LABELS, NATS)


def test_confusion_matrix():
    """Rows are true classes: one positive was taken for a negative."""
    assert metrics.confusion(numpy.array([0, 0, 1]), numpy.array([0, 1, 1]), 2) == [[1, 0], [1, 1]]
