"""The figures that are reported: each with its unit, its direction and a 95 % interval over examples."""

import math
from collections.abc import Callable

import datasets
import evaluate
import numpy
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

RESAMPLES = 9999
UNITS = {"accuracy": "share of examples", "f1": "of the positive class", "label_bits": "bits per example"}


class _ClassMetric(evaluate.Metric):
    """A metric over predicted and true classes. evaluate's own come as scripts from the Hub; these need none."""

    score: Callable[[list[int], list[int]], float]

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {type(self).__name__.lower(): float(type(self).score(references, predictions))}


class Accuracy(_ClassMetric):
    """The share of examples whose predicted class is the true one, 0 to 1; more is better."""

    score = staticmethod(accuracy_score)


class F1(_ClassMetric):
    """2 true positives / (2 true positives + false positives + false negatives) for class 1; more is better."""

    score = staticmethod(lambda labels, predicted: f1_score(labels, predicted, zero_division=0.0))


CLASS_METRICS = {"accuracy": Accuracy, "f1": F1}


def classification(names: list[str], predicted: numpy.ndarray, labels: numpy.ndarray, nats: numpy.ndarray) -> dict:
    """The point values of a classifier's metrics.

    Args:
        names: Which of accuracy, f1 and label_bits.
        predicted, labels: (examples,) classes.
        nats: (examples,) -ln p(label), nats.

    Returns:
        Each metric's value. label_bits is the mean of -log2 p(label): what a code built from the model would
        spend on an example's label, in bits; less is better, and a fair coin spends 1 on two classes.
    """
    chosen = [CLASS_METRICS[name](keep_in_memory=True) for name in names if name in CLASS_METRICS]
    values = evaluate.combine(chosen).compute(predictions=predicted.tolist(), references=labels.tolist())
    if "label_bits" in names:
        values["label_bits"] = float(nats.mean() / math.log(2))
    return {name: values[name] for name in names}


def intervals(names: list[str], predicted: numpy.ndarray, labels: numpy.ndarray, nats: numpy.ndarray) -> dict:
    """A 95 % interval over examples for each metric of `classification`, [low, high].

    The percentile bootstrap with 9,999 resamples of the examples and a fixed seed.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    right = (predicted == labels).astype(float)
    samples = {
        "accuracy": ((right,), numpy.mean),
        "f1": ((predicted.astype(float), labels.astype(float)), _f1),
        "label_bits": ((nats / math.log(2),), numpy.mean),
    }
    found = {}
    for name in names:
        data, statistic = samples[name]
        result = bootstrap(
            data,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            method="percentile",
            batch=max(1, 2_000_000 // len(labels)),
            rng=0,
        )
        found[name] = [float(result.confidence_interval.low), float(result.confidence_interval.high)]
    return found


def _f1(predicted: numpy.ndarray, labels: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    both = (predicted * labels).sum(axis)
    either = predicted.sum(axis) + labels.sum(axis)
    return numpy.divide(2 * both, either, out=numpy.zeros_like(both), where=either > 0)


def confusion(predicted: numpy.ndarray, labels: numpy.ndarray, classes: int) -> list[list[int]]:
    """Counts of examples: a row for each true class, a column for each predicted one."""
    return confusion_matrix(labels, predicted, labels=range(classes)).tolist()
