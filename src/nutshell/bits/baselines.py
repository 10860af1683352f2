"""What a model is compared with: the most frequent answer, and common compressors."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping, Sequence

import numpy

from nutshell.bits.metrics import Columns, Metric

Baseline = dict[str, dict[str, float]]  # by metric, by name of the baseline


def majority(metrics: Sequence[Metric], train: numpy.ndarray, columns: Columns, labels: Sequence[str]) -> Baseline:
    """The figures of guesses from the training labels alone, without a look at any text.

    Args:
        metrics: Of a classifier, as `of_classes` has them.
        train: (training examples,) labels.
        columns: With `label` (examples,), of the part that is measured.
        labels: What label 0, 1, ... means.

    Returns:
        Of metrics of answers: those of always answering the most frequent training label, each of them if several are
        equally frequent. Of metrics of nats: those of the training labels' frequencies, left out if the measured part
        has a label that training lacks. None of metrics of confidence: a guess that knows nothing but the frequencies
        is calibrated best of all. What is undefined is left out.
    """
    counts, label = numpy.bincount(train, minlength=len(labels)), columns["label"]
    with numpy.errstate(divide="ignore"):
        frequencies = {"nats": -numpy.log(counts / counts.sum())[label]}
    answers = {
        f"always answering {labels[answer]}": {"predicted": numpy.full(len(label), answer)}
        for answer in numpy.flatnonzero(counts == counts.max())
    }
    by_frequency = {"the training labels' frequencies": frequencies}
    compared = [metric for metric in metrics if "confidence" not in metric.columns]
    return _figures(compared, columns, lambda metric: by_frequency if "nats" in metric.columns else answers)


def training_mean(metrics: Sequence[Metric], train: numpy.ndarray, columns: Columns) -> Baseline:
    """The figures of answering the mean of the training labels, whatever the text; correlations with it are undefined
    and left out.

    Args:
        metrics: Of numbers, as `OF_NUMBERS` has them.
        train: (training examples,) labels.
        columns: With `label` (examples,), of the part that is measured.
    """
    guesses = {"always answering the training mean": {"predicted": numpy.full(len(columns["label"]), train.mean())}}
    return _figures(metrics, columns, lambda metric: guesses)


def _figures(metrics: Sequence[Metric], columns: Columns, guesses: Callable[[Metric], Mapping]) -> Baseline:
    """The value of each metric with each guess's columns in the place of the model's, where it is defined."""
    baseline = {}
    for metric in metrics:
        values = {name: metric.value({**columns, **guess}) for name, guess in guesses(metric).items()}
        baseline[metric.name] = {name: value for name, value in values.items() if value is not None}
    return {name: values for name, values in baseline.items() if values}


def compressors(texts: list[str]) -> dict[str, float]:
    """Compressed bits for each byte of the UTF-8 texts, one after the other in one file.

    Returns:
        `gzip -9`, `bzip2 -9` and `xz -9e`, headers and checksums included.
    """
    raw = "".join(texts).encode()
    packed = {
        "gzip -9": gzip.compress(raw, 9, mtime=0),
        "bzip2 -9": bz2.compress(raw, 9),
        "xz -9e": lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME),
    }
    return {name: 8 * len(data) / len(raw) for name, data in packed.items()}
