"""The figures that are reported. A metric is one statistic over units; value, interval and comparison follow from it.

A unit is what is measured one at a time: an example of a classifier, a stretch of text of a language model. What a
model gives for each unit is a column, an array (units,); or (units, answers), if it was asked several times, by
templates of words: the figure is then the mean over the answers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy
from pydantic import BaseModel, ConfigDict

from nutshell.bits.figures.statistics import (
    agreement,
    auc,
    calibration_error,
    f1,
    macro_f1,
    matthews,
    mean_bits,
    pearson,
    spearman,
    squared_error,
)

Columns = Mapping[str, numpy.ndarray]


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
        where: A column of booleans, true of the units that the metric is of; None: of all.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    statistic: Callable[..., numpy.ndarray]
    columns: tuple[str, ...]
    given: tuple[str, ...] = ()
    resampled: bool = True
    bounds: tuple[float | None, float | None] = (0.0, None)
    where: str | None = None

    @property
    def describes(self) -> tuple[str, ...]:
        """`given`, and which units it is of."""
        return self.given if self.where is None else (*self.given, self.where)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every column that it looks at."""
        return self.columns if self.where is None else (*self.columns, self.where)

    def select(self, columns: Columns) -> list[numpy.ndarray]:
        """The statistic's arguments, of the units that the metric is of; with several answers to each unit the
        arguments of each answer, one after the other, as `compute` takes them."""
        arrays = [columns[name] for name in self.columns]
        if self.where is not None:
            chosen = numpy.asarray(columns[self.where], bool)
            arrays = [array[chosen] for array in arrays]
        answers = {array.shape[1] for array in arrays if getattr(array, "ndim", 1) == 2}
        if not answers:
            return arrays
        (count,) = answers
        return [array if array.ndim == 1 else array[:, place] for place in range(count) for array in arrays]

    def compute(self, *arrays: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
        """The statistic of what `select` returns; of several answers its mean."""
        size = len(self.columns)
        if len(arrays) == size:
            return self.statistic(*arrays, axis=axis)
        every = [self.statistic(*arrays[first : first + size], axis=axis) for first in range(0, len(arrays), size)]
        return numpy.mean(every, 0)

    def value(self, columns: Columns) -> float | None:
        """The statistic of its units; None where it is no number, or there is no unit."""
        arrays = self.select(columns)
        if self.where is not None and not len(arrays[0]):
            return None
        value = float(self.compute(*arrays))
        return value if math.isfinite(value) else None

    def interval(self, columns: Columns) -> tuple[float, float] | None:
        """The 95 % interval over units; None with fewer than two of them, where they may not be drawn again, or where
        the statistic is undefined too often when they are."""
        from nutshell.bits.figures.intervals import over_units

        arrays = self.select(columns)
        return over_units(arrays, self.compute) if self.resampled and len(arrays[0]) > 1 else None

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


def of_classes(count: int) -> tuple[Metric, ...]:
    """The metrics of a classifier with this many labels, over the columns `predicted`, `nats`, `confidence` and
    `label`."""
    answers = {"columns": ("predicted", "label"), "given": ("label",)}
    metrics = (
        Metric("accuracy", "share of examples", True, agreement, **answers, bounds=(0, 1)),
        Metric("f1", "of the positive class", True, f1, **answers, bounds=(0, 1)),
        Metric("macro_f1", "mean over classes", True, macro_f1, **answers, bounds=(0, 1)),
        Metric("matthews", "correlation", True, matthews, **answers, bounds=(-1, 1)),
        Metric("label_bits", "bits per example", False, mean_bits, ("nats",), given=("label",)),
        Metric(
            "calibration_error",
            "between confidence and share of right answers",
            False,
            calibration_error,
            ("confidence", "predicted", "label"),
            given=("label",),
            bounds=(0, 1),
        ),
    )
    return tuple(metric for metric in metrics if metric.statistic is not f1 or count == 2)


OF_NUMBERS = tuple(
    Metric(name, unit, better, function, ("predicted", "label"), given=("label",), bounds=bounds)
    for name, unit, better, function, bounds in (
        ("pearson", "correlation", True, pearson, (-1, 1)),
        ("spearman", "correlation of ranks", True, spearman, (-1, 1)),
        ("squared_error", "per example", False, squared_error, (0, None)),
    )
)


AUC = Metric(
    "auc", "share of pairs in order", True, auc, ("nats", "label"), given=("label",), bounds=(0, 1)
)  # of two classes
OF_ANY = {metric.name: metric for metric in (*of_classes(2), AUC, *OF_NUMBERS)}


def named(names: Sequence[str], splits: Sequence[str] = ()) -> tuple[Metric, ...]:
    """The metrics of these names; where a part has splits, accuracy is of the first, accuracy_<split> of another."""
    of_split = {f"accuracy_{split}": split for split in splits[1:]} | {"accuracy": next(iter(splits), None)}
    accuracy = OF_ANY["accuracy"]
    return tuple(
        replace(accuracy, name=name, where=of_split[name]) if name in of_split else OF_ANY[name] for name in names
    )


def evaluation_module(metrics: Sequence[Metric]):
    """The metrics' values as one `evaluate.Metric`, which gathers columns in batches and can be combined with others.

    evaluate's own metrics are scripts on the Hub; this one needs none.
    """
    import datasets
    import evaluate

    names = list(dict.fromkeys(name for metric in metrics for name in metric.reads))

    class Figures(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            features = datasets.Features({name: datasets.Value("float64") for name in names})
            description = "; ".join(f"{metric.name}, {metric.unit}" for metric in metrics)
            return evaluate.MetricInfo(description=description, citation="", features=features)

        def _compute(self, **columns) -> dict[str, float | None]:
            arrays = {name: numpy.asarray(values) for name, values in columns.items()}
            return {metric.name: metric.value(arrays) for metric in metrics}

    return Figures(keep_in_memory=True)
