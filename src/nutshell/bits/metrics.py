"""The figures that are reported. A metric is one statistic over units; value, interval and comparison follow from it.

A unit is what is measured one at a time: an example of a classifier, a stretch of text of a language model. What a
model gives for each unit is a column, an array (units,).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy
from pydantic import BaseModel, ConfigDict

LARGEST_EXPONENT_NATS = 709.0  # whose exponential is still a float
Columns = Mapping[str, numpy.ndarray]
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
    """2 true positives / (2 true positives + false positives + false negatives) for class 1; 0 without a positive."""
    true = ((predicted == 1) & (label == 1)).sum(axis)
    positives = (predicted == 1).sum(axis) + (label == 1).sum(axis)
    return numpy.divide(2 * true, positives, out=numpy.zeros(numpy.shape(true)), where=positives > 0)


@statistic
def mean_bits(nats: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The mean of nats, in bits."""
    return nats.mean(axis) / math.log(2)


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


class Figure(BaseModel):
    """A measured value.

    Attributes:
        value: None where it is no number, such as 0 / 0.
        interval_95: [low, high] over the units; None where there is none.
        higher_is_better: None where neither is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: float | None
    interval_95: tuple[float, float] | None
    unit: str
    higher_is_better: bool | None


@dataclass(frozen=True)
class Metric:
    """One figure, from its definition.

    Attributes:
        name: As in metrics.json and in the log.
        unit: Of the value.
        higher_is_better: None where neither is.
        statistic: One of STATISTICS.
        columns: What it is given, in order.
        given: Those columns that describe a unit and not the model: two runs can be compared unit by unit
            where these are equal.
        resampled: Whether units may be drawn again, for an interval: not where they depend on each other.
        bounds: The lowest and the highest value there can be; None where there is none.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    statistic: Callable[..., numpy.ndarray]
    columns: tuple[str, ...]
    given: tuple[str, ...] = ()
    resampled: bool = True
    bounds: tuple[float | None, float | None] = (0.0, None)

    def select(self, columns: Columns) -> list[numpy.ndarray]:
        """The statistic's arguments."""
        return [columns[name] for name in self.columns]

    def value(self, columns: Columns) -> float | None:
        """The statistic of all units; None where it is no number."""
        value = float(self.statistic(*self.select(columns)))
        return value if math.isfinite(value) else None

    def interval(self, columns: Columns) -> tuple[float, float] | None:
        """The 95 % interval over units; None with fewer than two of them, or where they may not be drawn again."""
        from nutshell.bits.intervals import over_units

        arrays = self.select(columns)
        return over_units(arrays, self.statistic) if self.resampled and len(arrays[0]) > 1 else None

    def cut(self, interval: tuple[float, float]) -> tuple[float, float]:
        """An interval without what no value can be."""
        lowest, highest = self.bounds
        low = interval[0] if lowest is None else max(lowest, interval[0])
        return low, interval[1] if highest is None else min(highest, interval[1])

    def figure(self, columns: Columns) -> Figure:
        """Value and interval."""
        value = self.value(columns)
        interval = None if value is None else self.interval(columns)
        return Figure(value=value, interval_95=interval, unit=self.unit, higher_is_better=self.higher_is_better)


def evaluation_module(metrics: Sequence[Metric]):
    """The metrics' values as one `evaluate.Metric`, which gathers columns in batches and can be combined with others.

    evaluate's own metrics are scripts on the Hub; this one needs none.
    """
    import datasets
    import evaluate

    names = list(dict.fromkeys(name for metric in metrics for name in metric.columns))

    class Figures(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            features = datasets.Features({name: datasets.Value("float64") for name in names})
            description = "; ".join(f"{metric.name}, {metric.unit}" for metric in metrics)
            return evaluate.MetricInfo(description=description, citation="", features=features)

        def _compute(self, **columns) -> dict[str, float | None]:
            arrays = {name: numpy.asarray(values) for name, values in columns.items()}
            return {metric.name: metric.value(arrays) for metric in metrics}

    return Figures(keep_in_memory=True)
