"""Whether one experiment beats another on the very same examples: differences with intervals, McNemar's test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from scipy import stats

from nutshell.bits import intervals
from nutshell.machine.errors import UserError
from nutshell.report.results import Experiment

UNITS = {"classify": "examples", "language_model": "stretches of text"}
MOST_DRAWS = 50_000_000  # of units: more than 5,000 of them are resampled less often, but 1,999 times


@dataclass(frozen=True)
class Row:
    """One metric of both.

    Attributes:
        values: Each one's mean over its seeds.
        difference: The first's minus the second's.
        interval_95: Of the difference between these very models, over examples (paired bootstrap); None if there is
            only one.
        over_seeds: Of the difference between the means over seeds (Welch's t); None unless both have two or more.
        better: 0 if the first is, 1 if the second is, None if they are not told apart: every interval there is must
            exclude 0.
    """

    metric: str
    unit: str
    higher_is_better: bool
    values: tuple[float, float]
    difference: float
    interval_95: tuple[float, float] | None
    over_seeds: tuple[float, float] | None
    better: int | None


@dataclass(frozen=True)
class McNemar:
    """The exact test that two classifiers err equally often.

    Attributes:
        seeds: Of the first and of the second.
        only_one_right, only_other_right: On how many examples just one of them is right.
        p_value: Two-sided.
    """

    seeds: tuple[int, int]
    only_one_right: int
    only_other_right: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two experiments on the same examples.

    Attributes:
        labels, seeds: Of the first and of the second.
        unit, count: What was resampled, and how many there are.
        mcnemar: For each seed that both have, or for the only seed of each; none of language models.
    """

    labels: tuple[str, str]
    seeds: tuple[list[int], list[int]]
    unit: str
    count: int
    rows: list[Row]
    mcnemar: list[McNemar]


def mcnemar(one_right: numpy.ndarray, other_right: numpy.ndarray, seeds: tuple[int, int]) -> McNemar:
    """McNemar's exact test on (examples,) booleans: of the examples that only one has right, each is a fair coin's.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages";
    its exact form: Dietterich 1998, "Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms", section 3.1.
    """
    one, other = int((one_right & ~other_right).sum()), int((other_right & ~one_right).sum())
    p_value = float(stats.binomtest(one, one + other).pvalue) if one + other else 1.0
    return McNemar(seeds, one, other, p_value)


def groups(experiments: Sequence[Experiment]) -> list[list[Experiment]]:
    """Those of one task that were measured on the very same examples, two or more, the best first."""
    found: dict[Any, list[Experiment]] = {}
    for experiment in experiments:
        if experiment.summary and _task(experiment) in UNITS:
            found.setdefault(_measured_on(experiment), []).append(experiment)
    return [sorted(group, key=_goodness, reverse=True) for group in found.values() if len(group) > 1]


def compare(one: Experiment, other: Experiment) -> Comparison:
    """The difference between two experiments in each metric that both have.

    Args:
        one, other: Each with at least one complete run.

    Raises:
        UserError: If one is not complete, or lacks what it predicted, or they were measured on different examples.
    """
    for experiment in (one, other):
        if not experiment.complete:
            raise UserError(f"{experiment.label}: no run of it is complete")
        if _task(experiment) not in UNITS:
            raise UserError(f"{experiment.label}: continuations cannot be right or wrong; compare what was measured")
    if _measured_on(one) != _measured_on(other):
        raise UserError(
            f"{one.label} and {other.label} were not measured on the same examples ({_described(one)}; "
            f"{_described(other)}): nothing can be paired"
        )
    tables = [[run.columns for run in experiment.complete] for experiment in (one, other)]
    first = tables[0][0]
    for experiment, runs in zip((one, other), tables, strict=True):
        for table in runs:
            fixed = ("labels",) if "labels" in first else ("bytes",)
            if any(not numpy.array_equal(table[name], first[name]) for name in fixed):
                raise UserError(f"{experiment.label}: what it predicted is not of the examples that metrics.json names")
    measure = _classifiers if _task(one) == "classify" else _language_models
    names = [name for name in one.summary["metrics"] if name in other.summary["metrics"]]
    rows = [_row(name, one, other, samples) for name, samples in measure(names, *tables).items()]
    seeds = tuple([run.seed for run in experiment.complete] for experiment in (one, other))
    return Comparison(
        (one.label, other.label),
        seeds,
        UNITS[_task(one)],
        len(next(iter(first.values()))),
        rows,
        _tests(tables, seeds) if "labels" in first else [],
    )


def _tests(tables, seeds) -> list[McNemar]:
    right = [
        {seed: table["predicted"] == table["labels"] for seed, table in zip(numbers, runs, strict=True)}
        for numbers, runs in zip(seeds, tables, strict=True)
    ]
    pairs = [(seed, seed) for seed in seeds[0] if seed in seeds[1]]
    if not pairs and all(len(numbers) == 1 for numbers in seeds):
        pairs = [(seeds[0][0], seeds[1][0])]
    return [mcnemar(right[0][one], right[1][other], (one, other)) for one, other in pairs]


def _classifiers(names: list[str], ones: list[dict], others: list[dict]) -> dict[str, Any]:
    """For each metric the arrays to resample and the statistic of them that is the difference."""
    labels = ones[0]["labels"].astype(float)

    def mean_over_seeds(value):
        return sum(map(value, ones)) / len(ones) - sum(map(value, others)) / len(others)

    def f1_difference(labels, *predicted, axis=-1):
        scores = [intervals.f1(column, labels, axis) for column in predicted]
        return sum(scores[: len(ones)]) / len(ones) - sum(scores[len(ones) :]) / len(others)

    guesses = [table["predicted"].astype(float) for table in (*ones, *others)]
    known = {
        "accuracy": ((mean_over_seeds(lambda table: (table["predicted"] == table["labels"]).astype(float)),), None),
        "label_bits": ((mean_over_seeds(lambda table: table["nats"] / math.log(2)),), None),
        "f1": ((labels, *guesses), f1_difference),
    }
    return {name: known[name] for name in names if name in known}


def _language_models(names: list[str], ones: list[dict], others: list[dict]) -> dict[str, Any]:
    """The same; perplexity only where a token is the same to both."""
    size = ones[0]["bytes"].astype(float)
    nats = [table["nats"] for table in (*ones, *others)]
    apart = sum(nats[: len(ones)]) / len(ones) - sum(nats[len(ones) :]) / len(others)
    known = {"bits_per_byte": ((apart / math.log(2), size), intervals.ratio)}
    tokens = ones[0]["tokens"].astype(float)

    def perplexity_difference(tokens, *nats, axis=-1):
        scores = [numpy.exp(intervals.ratio(column, tokens, axis)) for column in nats]
        return sum(scores[: len(ones)]) / len(ones) - sum(scores[len(ones) :]) / len(others)

    if all(numpy.array_equal(table["tokens"], ones[0]["tokens"]) for table in (*ones, *others)):
        known["perplexity"] = ((tokens, *nats), perplexity_difference)
    return {name: known[name] for name in names if name in known}


def _row(name: str, one: Experiment, other: Experiment, samples) -> Row:
    data, statistic = samples
    entries = [experiment.summary["metrics"][name] for experiment in (one, other)]
    by_seed = [list(entry["by_seed"].values()) for entry in entries]
    values = tuple(entry["mean"] for entry in entries)
    count, interval = len(data[0]), None
    if count > 1:
        resamples = min(intervals.RESAMPLES, max(1999, MOST_DRAWS // count))
        interval = intervals.over_units(data, statistic or intervals.mean, resamples)
    seeds = None
    if all(len(numbers) > 1 for numbers in by_seed):
        seeds = intervals.between_seeds(*by_seed)
    higher, found = entries[0]["higher_is_better"], [ends for ends in (interval, seeds) if ends]
    better = None
    if found and (all(low > 0 for low, _ in found) or all(high < 0 for _, high in found)):
        better = 0 if (values[0] > values[1]) == higher else 1
    return Row(name, entries[0]["unit"], higher, values, values[0] - values[1], interval, seeds, better)


def _task(experiment: Experiment) -> str:
    return experiment.runs[0].resolved.get("task", "")


def _measured_on(experiment: Experiment) -> tuple[str, str, str]:
    digests = experiment.summary["data"]["sha256"]
    part = "test" if "test" in digests else "validation"
    return _task(experiment), _data(experiment), str(digests.get(part, ""))


def _data(experiment: Experiment) -> str:
    data = experiment.runs[0].resolved.get("data")
    return str(data.get("name")) if isinstance(data, dict) else "unknown data"


def _described(experiment: Experiment) -> str:
    on = experiment.summary["evaluated_on"]
    return f"{experiment.label}: {on['examples']} of {_data(experiment)}'s {on['part']} part"


def _goodness(experiment: Experiment) -> float:
    metrics = experiment.summary["metrics"]
    entry = metrics.get("accuracy") or metrics.get("bits_per_byte") or next(iter(metrics.values()))
    return entry["mean"] if entry["higher_is_better"] else -entry["mean"]
