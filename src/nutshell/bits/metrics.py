"""The figures that are reported: each with its unit, its direction and a 95 % interval over examples."""

import math
from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from nutshell.bits.intervals import f1, mean, over_units, ratio

MOST_NATS = 709.0  # whose exponential is still a float
UNITS = {
    "accuracy": "share of examples",
    "f1": "of the positive class",
    "label_bits": "bits per example",
    "perplexity": "per token",
    "bits_per_byte": "bits per UTF-8 byte",
    "mean_nats": "nats per token",
    "distinct_1": "share of tokens",
    "distinct_2": "share of token pairs",
    "repetition": "share of token 4-grams",
}


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
    """A 95 % interval over examples for each metric of `classification`, [low, high]."""
    right = (predicted == labels).astype(float)
    samples = {
        "accuracy": ((right,), mean),
        "f1": ((predicted.astype(float), labels.astype(float)), f1),
        "label_bits": ((nats / math.log(2),), mean),
    }
    return {name: list(over_units(*samples[name])) for name in names}


def entries(values: dict[str, float], intervals: dict[str, Any], better: dict[str, bool | None]) -> dict[str, Any]:
    """Metrics as metrics.json has them: each with value, 95 % interval, unit and direction.

    Args:
        values: By name, those that `better` names among them.
        intervals: [low, high] by name; None, or left out, where there is none.
        better: By name whether more is better; None where neither is.
    """
    return {
        name: {
            "value": values[name],
            "interval_95": intervals.get(name),
            "unit": UNITS[name],
            "higher_is_better": higher,
        }
        for name, higher in better.items()
    }


def confusion(predicted: numpy.ndarray, labels: numpy.ndarray, classes: int) -> list[list[int]]:
    """Counts of examples: a row for each true class, a column for each predicted one."""
    return confusion_matrix(labels, predicted, labels=range(classes)).tolist()


def lengths(tokens: numpy.ndarray, limit: int) -> dict[str, Any]:
    """How long the training examples are before anything is cut, for a histogram.

    Args:
        tokens: (examples,) of each.
        limit: At most that many are kept of one, or stand in one block.

    Returns:
        `edges` of bins of one width, tokens, and `counts` between them.
    """
    width = max(1, math.ceil((int(tokens.max()) + 1) / 40))
    edges = numpy.arange(0, int(tokens.max()) + width + 1, width)
    return {"limit": limit, "edges": edges.tolist(), "counts": numpy.histogram(tokens, edges)[0].tolist()}


def causal(nats: numpy.ndarray, tokens: int, size_bytes: int) -> dict[str, float]:
    """The point values of a language model's metrics, from summed nats: no mean of means.

    Args:
        nats: Of any shape, what each predicted token costs, -ln p(token | tokens before it).
        tokens: How many were predicted, the ends of documents among them.
        size_bytes: UTF-8 bytes of the text that they spell; an end of a document costs nats and is no byte.

    Returns:
        loss: nats per predicted token. perplexity: exp of it. bits_per_byte: what a code built from the model would
        spend on a byte of the text. Less is better in each.
    """
    total = float(nats.sum(dtype=numpy.float64))
    return {
        "loss": total / tokens,
        "perplexity": math.exp(min(total / tokens, MOST_NATS)),
        "bits_per_byte": total / math.log(2) / size_bytes,
    }


def by_block(nats: numpy.ndarray, tokens: numpy.ndarray, block_tokens: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Nats and tokens of windows, (windows,), summed over stretches of about `block_tokens`, (blocks,), whatever the
    windows' stride: neighbouring tokens are no independent draws."""
    block = (tokens.cumsum() - 1) // block_tokens
    return numpy.bincount(block, nats), numpy.bincount(block, tokens)


def causal_intervals(nats: numpy.ndarray, tokens: numpy.ndarray, size_bytes: int) -> dict[str, list[float] | None]:
    """A 95 % interval over blocks for perplexity and bits per byte, [low, high]; None with a single block.

    The percentile bootstrap of nats per token over blocks of text that do not overlap; bytes per token are taken as
    they are.

    Args:
        nats: (blocks,) summed over each block's tokens.
        tokens: (blocks,) how many those are.
        size_bytes: UTF-8 bytes of the whole text.
    """
    if len(nats) < 2:
        return {"perplexity": None, "bits_per_byte": None}
    columns = (nats.astype(numpy.float64), tokens.astype(numpy.float64))
    ends = over_units(columns, ratio)
    return {
        "perplexity": [math.exp(min(end, MOST_NATS)) for end in ends],
        "bits_per_byte": [end * float(tokens.sum()) / math.log(2) / size_bytes for end in ends],
    }


def distinct(texts: list[list[int]], length: int) -> float:
    """The share of all `length`-grams of tokens that are distinct, over all texts; 0 if there are none.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", section 5.
    """
    grams = [gram for text in texts for gram in _grams(text, length)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: list[list[int]], length: int = 4) -> float:
    """The share of a text's `length`-grams of tokens that it has said before, the mean over texts that have any.

    Source: Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training", section 6 (seq-rep-4).
    """
    shares = [1 - len(set(grams)) / len(grams) for text in texts if (grams := list(_grams(text, length)))]
    return math.fsum(shares) / len(shares) if shares else 0.0


def _grams(text: list[int], length: int):
    return zip(*(text[start:] for start in range(length)), strict=False)
