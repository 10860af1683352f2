"""The seeds of one experiment summed up: mean, deviation and interval of each figure, next to band and baseline."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from nutshell.bits.baselines import Baseline
from nutshell.bits.figures import intervals
from nutshell.bits.figures.codes import Code
from nutshell.machine.errors import UserError, plural
from nutshell.machine.files import read_json
from nutshell.report.results.result import VERSION, Benchmark, Data, EvaluatedOn, Parameters, Table, Typed
from nutshell.report.results.runs import Run, question


class Estimate(Typed):
    """A figure over all seeds.

    Attributes:
        mean: None where a seed has no value.
        standard_deviation: With n - 1; None of a single seed.
        interval_95: Of the mean; None where there is none.
        over: What the interval includes the chance of.
        by_seed: Each seed's value.
    """

    mean: float | None
    standard_deviation: float | None
    interval_95: tuple[float, float] | None
    over: str
    by_seed: dict[int, float | None]
    unit: str
    higher_is_better: bool | None


class Summary(Typed):
    """The content of summary.json.

    Attributes:
        experiment: `<chapter>/<name>`.
        validation: The mean over seeds of each figure on the validation part; None if a seed's is unknown.
        training_tokens: Of one seed; None where nothing was trained.
        wall_seconds: Of all seeds together.
        resolved: The experiment.
        codes: Of every seed.
    """

    version: Literal[2] = VERSION
    experiment: str
    seeds: list[int]
    metrics: dict[str, Estimate]
    validation: dict[str, float] | None
    baseline: Baseline
    notes: list[str]
    evaluated_on: EvaluatedOn
    data: Data
    parameters: Parameters
    training_tokens: int | None
    wall_seconds: float
    resumed: bool
    examples_per_second: float | None
    tokens_per_second: float | None
    device: str
    mixed_precision: str
    processes: str
    commits: list[str]
    resolved: dict[str, Any]
    benchmark: Benchmark | None = None
    tables: list[Table] = Field(default_factory=list)
    codes: list[Code] = Field(default_factory=list)

    @property
    def question(self) -> str | None:
        """What the experiment asks."""
        return self.resolved.get("question")

    def band(self, name: str) -> tuple[float, float] | None:
        """The published band of a metric, if it is of the part that was measured."""
        reference = self.resolved.get("reference") or {}
        band = reference.get(name)
        return tuple(band) if band and reference.get("part") == self.evaluated_on.part else None

    def verdict(self, name: str) -> str:
        """Where the mean lies relative to the published band: inside, below or above; empty without a band."""
        band, mean = self.band(name), self.metrics[name].mean
        if band is None or mean is None:
            return ""
        return "below" if mean < band[0] else "above" if mean > band[1] else "inside"

    def best_baseline(self, name: str) -> tuple[str, float] | None:
        """The baseline of a metric that is hardest to beat, and its value."""
        sign = -1 if self.metrics[name].higher_is_better is False else 1
        return max(self.baseline.get(name, {}).items(), key=lambda item: sign * item[1], default=None)

    def standing(self, name: str) -> str | None:
        """How a figure compares with its best baseline: "better than" or "worse than" where its interval, or without
        one its mean, lies wholly on that side, "no better than" otherwise; None where there is nothing to compare."""
        estimate, best = self.metrics[name], self.best_baseline(name)
        if estimate.higher_is_better is None or estimate.mean is None or best is None:
            return None
        sign = 1 if estimate.higher_is_better else -1
        low, *_, high = sorted(sign * (end - best[1]) for end in estimate.interval_95 or (estimate.mean, estimate.mean))
        return "better than" if low > 0 else "worse than" if high < 0 else "no better than"


@dataclass(frozen=True)
class Series:
    """The runs of one experiment, one for each seed.

    Attributes:
        label: `<chapter>/<name>`, and what else tells it from the others.
        runs: In the order of their seeds.
        summary: Over the complete ones; None if there is none.
    """

    label: str
    runs: list[Run]
    summary: Summary | None

    @property
    def complete(self) -> list[Run]:
        """Those that have figures."""
        return [run for run in self.runs if run.state == "complete"]


def series(runs: Iterable[Run]) -> list[Series]:
    """Runs put together by folder, and within one by their question and data. A run that has no figures yet is with
    those that ask the same."""
    questions: dict[tuple, dict[str, list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.state != "complete"):
        by_data = questions.setdefault((run.folder.parent, question(run.resolved)), {})
        data = json.dumps(run.result.data.sha256) if run.result else next(iter(by_data), "")
        by_data.setdefault(data, []).append(run)
    groups = [sorted(group, key=lambda run: run.seed) for by_data in questions.values() for group in by_data.values()]
    groups.sort(key=lambda group: (group[0].place, str(group[0].folder)))
    in_folder = Counter(group[0].folder.parent for group in groups)
    labels = _labels(in_folder)
    every = []
    for group in groups:
        label = labels[group[0].folder.parent]
        if in_folder[group[0].folder.parent] > 1:
            label += f", seed{'s' * (len(group) > 1)} {', '.join(str(run.seed) for run in group)}"
        complete = [run for run in group if run.state == "complete"]
        every.append(Series(label, group, summarize(label, complete) if complete else None))
    return every


def _labels(folders: Iterable[Path]) -> dict[Path, str]:
    """The shortest end of each path that no other of them has: `<chapter>/<name>` at least, and never absolute."""
    labels, parts, length = {}, {folder: folder.parts[1:] for folder in folders}, 2
    while len(labels) < len(parts):
        ends = Counter(names[-length:] for names in parts.values())
        for folder, names in parts.items():
            if ends[names[-length:]] == 1 or len(names) <= length:
                labels.setdefault(folder, "/".join(names[-length:]))
        length += 1
    return labels


def summarize(label: str, runs: Sequence[Run]) -> Summary:
    """One or more complete seeds of one experiment, measured on the same data.

    An interval of one seed is that seed's own, over its units. Of several it is over seeds and units together.
    """
    results = {run.seed: run.result for run in runs}
    first = runs[0].result
    common = [name for name in first.metrics if all(name in result.metrics for result in results.values())]
    places = [result.provenance for result in results.values()]
    rates = [result.training or result.evaluation for result in results.values()]
    validations = [result.validation for result in results.values()]
    resolved = {key: value for key, value in first.experiment.items() if key != "seed"}
    return Summary(
        experiment=label,
        seeds=list(results),
        metrics={name: _estimate(name, runs) for name in common},
        validation=None
        if None in validations
        else {name: _mean([values[name] for values in validations]) for name in validations[0]},
        baseline=first.baseline,
        notes=list(dict.fromkeys(_note(run, note, runs) for run in runs for note in run.result.notes)),
        evaluated_on=first.evaluated_on,
        data=first.data,
        parameters=first.parameters,
        training_tokens=first.training.tokens if first.training else None,
        wall_seconds=math.fsum(place.wall_seconds for place in places),
        resumed=any(result.training and result.training.resumed_from_step for result in results.values()),
        examples_per_second=_mean([rate.examples_per_second for rate in rates]),
        tokens_per_second=_mean([rate.tokens_per_second for rate in rates]),
        device=_distinct(place.device for place in places),
        mixed_precision=_distinct(place.mixed_precision for place in places),
        processes=_distinct(place.processes for place in places),
        commits=sorted({f"{place.commit}{' with changes' * bool(place.dirty)}" for place in places}),
        resolved=resolved,
        benchmark=first.benchmark,
        tables=_tables([result.tables for result in results.values()]),
        codes=[code for result in results.values() for code in result.codes],
    )


def _estimate(name: str, runs: Sequence[Run]) -> Estimate:
    figures = {run.seed: run.result.metrics[name] for run in runs}
    figure = figures[runs[0].seed]
    values = [figure.value for figure in figures.values()]
    mean, deviation = (None, None) if None in values else intervals.mean_and_deviation(values)
    interval, over = figure.interval_95, runs[0].result.evaluated_on.units
    if len(runs) > 1:
        interval, over = _over_seeds(name, runs, values)
    return Estimate(
        mean=mean,
        standard_deviation=deviation,
        interval_95=interval,
        over=over,
        by_seed=dict(zip(figures, values, strict=True)),
        unit=figure.unit,
        higher_is_better=figure.higher_is_better,
    )


def _over_seeds(name: str, runs: Sequence[Run], values: list[float | None]) -> tuple[Any, str]:
    """The interval of several seeds and what it is over: seeds and units, or seeds alone where units may not be drawn
    again, or cannot be read; None if the seeds then agree to the last digit, which says nothing of others."""
    if None in values:
        return None, "seeds"
    alone = (intervals.over_seeds(values) if len(set(values)) > 1 else None), "seeds"
    try:
        tables = [run.units for run in runs]
    except UserError:
        return alone
    metric = next((metric for metric in tables[0].metrics if metric.name == name), None)
    if metric is None or not metric.resampled:
        return alone
    columns = [metric.select(units.columns) for units in tables]
    counts = {len(arrays[0]) for arrays in columns}
    if len(counts) > 1 or max(counts) < 2:
        return alone
    ends = intervals.over_seeds_and_units(columns, metric.compute)
    return (metric.cut(ends), f"seeds and {tables[0].kind}") if ends else alone


def _tables(every: Sequence[list[Table]]) -> list[Table]:
    """The tables that all seeds have, with the mean of each figure."""
    tables = []
    for alike in zip(*every, strict=False):
        heads = [(table.title, table.columns, [name for name, _ in table.rows]) for table in alike]
        if any(head != heads[0] for head in heads):
            continue
        cells = [
            zip(*(values for _, values in rows), strict=True) for rows in zip(*(t.rows for t in alike), strict=True)
        ]
        first, ends = alike[0], alike[0].ends if len(alike) > 1 else []
        kept = [place for place in range(len(first.columns)) if place not in ends]
        rows = []
        for name, row in zip(heads[0][2], cells, strict=True):
            means = [None if None in cell else _mean(cell) for cell in row]
            rows.append((name, [means[place] for place in kept]))
        columns = [first.columns[place] for place in kept]
        tables.append(Table(title=first.title, columns=columns, rows=rows, ends=first.ends if not ends else []))
    return tables


def _note(run: Run, note: str, runs: Sequence[Run]) -> str:
    """A note, with the seed that it is of where other seeds do not have it."""
    return note if all(note in other.result.notes for other in runs) else f"seed {run.seed}: {note}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def read_summaries(folder: Path) -> list[Summary]:
    """The summaries of a folder, `<chapter>/<name>.json`."""
    return [Summary.model_validate(read_json(file)) for file in sorted(folder.rglob("*.json"))]


def spread(summary: Summary) -> str:
    """What a reader must know of the interval: which chance is in it."""
    if len(summary.seeds) == 1:
        return "one seed: variation between seeds is not included"
    return plural(len(summary.seeds), "seed")
