"""Whether one experiment beats another on the same units: differences with intervals, McNemar's test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy import stats

from nutshell.bits.figures import intervals
from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.statistics import agreement
from nutshell.bits.figures.units import Units
from nutshell.machine.errors import UserError
from nutshell.report.results.summary import Series


@dataclass(frozen=True)
class Row:
    """One metric of both.

    Attributes:
        values: Each one's mean over its seeds.
        difference: The first's minus the second's.
        interval_95: Of the difference.
        over: Whose sampling the interval includes, such as "seeds and examples".
        better: 0 if the first is, 1 if the second is, None if they cannot be told apart.
    """

    metric: str
    unit: str
    higher_is_better: bool
    values: tuple[float, float]
    difference: float
    interval_95: tuple[float, float]
    over: str
    better: int | None


@dataclass(frozen=True)
class McNemar:
    """The exact test that two models are right equally often.

    Attributes:
        seeds: Of the first and of the second.
        only_first_right, only_second_right: On how many units just one of them is right.
        p_value: Two-sided.
    """

    seeds: tuple[int, int]
    only_first_right: int
    only_second_right: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two experiments on the same units.

    Attributes:
        labels, seeds: Of the first and of the second.
        unit, count: What was resampled, and how many there are.
        too_few: Whether there are too few units to call either better.
        mcnemar: For each seed that both have, or for the only seed of each; none without right and wrong answers.
    """

    labels: tuple[str, str]
    seeds: tuple[list[int], list[int]]
    unit: str
    count: int
    too_few: bool
    rows: list[Row]
    mcnemar: list[McNemar]


@dataclass(frozen=True)
class Group:
    """Two or more experiments that were measured on the same units.

    Attributes:
        series: The best first.
        chosen_by: What "best" was chosen by: "validation", if that part is the same of all, or "reported".
        settings: How many were measured on that part.
    """

    series: list[Series]
    chosen_by: str
    settings: int


def mcnemar(first_right: numpy.ndarray, second_right: numpy.ndarray, seeds: tuple[int, int]) -> McNemar:
    """McNemar's exact test on (units,) booleans: which of two models is right where only one is, is a fair coin's toss.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages";
    its exact form: Dietterich 1998, "Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms", section 3.1.
    """
    first, second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    p_value = float(stats.binomtest(first, first + second).pvalue) if first + second else 1.0
    return McNemar(seeds, first, second, p_value)


def groups(every: Sequence[Series]) -> list[Group]:
    """The groups of two or more experiments that were measured on the same units; codes of a text are none, whose
    lengths differ without any chance."""
    together: dict[tuple[str, str, str | None], list[Series]] = {}
    for series in every:
        if not series.summary or series.summary.codes:
            continue
        if any(_directed(series, name) for name in series.summary.metrics):
            together.setdefault(_measured_on(series), []).append(series)
    return [_group(group) for group in together.values() if len(group) > 1]


def _group(group: list[Series]) -> Group:
    """The best first, by the first metric that all have."""
    common = [name for name in group[0].summary.metrics if all(name in one.summary.metrics for one in group)]
    name = next((name for name in common if _directed(group[0], name)), None)
    alike = len({one.summary.data.sha256.get("validation") for one in group}) == 1
    validated = all(name in (one.summary.validation or {}) for one in group)
    chosen_by = "validation" if alike and validated else "reported"

    def goodness(series: Series) -> float:
        estimate = series.summary.metrics[name]
        value = series.summary.validation[name] if chosen_by == "validation" else estimate.mean
        return -numpy.inf if value is None else value if estimate.higher_is_better else -value

    return Group(sorted(group, key=goodness, reverse=True) if name else group, chosen_by, len(group))


def compare(first: Series, second: Series) -> Comparison:
    """The difference between two experiments in each metric that both have.

    Raises:
        UserError: If one is not complete, or lacks its units, or they were measured on different ones.
    """
    pair = (first, second)
    for series in pair:
        if not series.complete:
            raise UserError(f"{series.label}: no run of it is complete")
    if _measured_on(first) != _measured_on(second):
        described = "; ".join(f"{one.label}: {_described(one)}" for one in pair)
        raise UserError(
            f"{first.label} and {second.label} were not measured on the same data by the same rules ({described}): "
            "nothing can be paired"
        )
    tables = [[run.units for run in series.complete] for series in pair]
    one = tables[0][0]
    if any(len(table) != len(one) for table in (*tables[0], *tables[1])):
        raise UserError(f"{first.label} and {second.label}: their files of units differ in length; run them again")
    if len(one) < 2:
        raise UserError(f"{first.label} and {second.label}: only one unit of {one.kind}, too few to compare")
    metrics = [metric for metric in one.metrics if _comparable(metric, tables)]
    if not metrics:
        raise UserError(f"{first.label} and {second.label} have no figure that can be compared unit by unit")
    too_few = len(one) < intervals.FEWEST_UNITS
    rows = [row for metric in metrics if (row := _row(metric, tables))]
    if not rows:
        raise UserError(f"{first.label} and {second.label}: every figure of one of them is 0 / 0, which is no number")
    seeds = tuple([run.seed for run in series.complete] for series in pair)
    answers = next((metric for metric in metrics if metric.statistic is agreement), None)
    tests = _tests(answers, tables, seeds) if answers else []
    return Comparison((first.label, second.label), seeds, one.kind, len(one), too_few, rows, tests)


def _comparable(metric: Metric, tables: list[list[Units]]) -> bool:
    """Whether every run has the metric, of two units or more, with equal columns where they say something of the units
    themselves."""
    if not metric.resampled or metric.higher_is_better is None:
        return False
    first = tables[0][0].columns
    for table in (*tables[0], *tables[1]):
        if metric not in table.metrics:
            return False
        if any(not numpy.array_equal(table.columns[name], first[name]) for name in metric.describes):
            return False
    return len(metric.select(first)[0]) > 1


def _row(metric: Metric, tables: list[list[Units]]) -> Row | None:
    """None where the difference is undefined."""
    columns = [[metric.select(table.columns) for table in runs] for runs in tables]
    values = tuple(float(numpy.mean([metric.compute(*one) for one in runs])) for runs in columns)
    several = any(len(runs) > 1 for runs in columns)
    lowest, highest = metric.bounds
    most = math.inf if lowest is None or highest is None else highest - lowest
    ends = intervals.difference_over_seeds_and_units(*columns, metric.compute)
    if ends is None:
        return None
    ends = max(-most, ends[0]), min(most, ends[1])
    better, too_few = None, len(columns[0][0][0]) < intervals.FEWEST_UNITS
    if not too_few and (ends[0] > 0 or ends[1] < 0):
        better = 0 if (values[0] > values[1]) == metric.higher_is_better else 1
    over = f"seeds and {tables[0][0].kind}" if several else tables[0][0].kind
    return Row(metric.name, metric.unit, metric.higher_is_better, values, values[0] - values[1], ends, over, better)


def _tests(metric: Metric, tables: list[list[Units]], seeds: tuple[list[int], list[int]]) -> list[McNemar]:
    """None where a unit has several answers, which may be right and wrong."""
    if any(table.columns[name].ndim > 1 for runs in tables for table in runs for name in metric.columns):
        return []
    right = [
        {seed: numpy.equal(*metric.select(table.columns)) for seed, table in zip(numbers, runs, strict=True)}
        for numbers, runs in zip(seeds, tables, strict=True)
    ]
    pairs = [(seed, seed) for seed in seeds[0] if seed in seeds[1]]
    if not pairs and all(len(numbers) == 1 for numbers in seeds):
        pairs = [(seeds[0][0], seeds[1][0])]
    return [mcnemar(right[0][first], right[1][second], (first, second)) for first, second in pairs]


def _directed(series: Series, name: str) -> bool:
    return series.summary.metrics[name].higher_is_better is not None


def _measured_on(series: Series) -> tuple[str, str, str | None]:
    on = series.summary.evaluated_on
    return on.units, on.sha256, on.rules


def _described(series: Series) -> str:
    return f"{series.summary.evaluated_on.text}, {series.summary.data.source}"
