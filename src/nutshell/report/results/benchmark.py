"""Experiments on the parts of one benchmark put together: each part's score, and the mean over them."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from nutshell.machine.errors import plural
from nutshell.report.results.summary import Summary

FEWEST_TASKS = 2  # that have something to be put together


@dataclass(frozen=True)
class Score:
    """One task of a benchmark.

    Attributes:
        task: What the benchmark calls it.
        value: The mean of the metrics that count, each the mean over its seeds; None if one has no value.
        summary: Of the experiment.
    """

    task: str
    value: float | None
    summary: Summary


@dataclass(frozen=True)
class Standing:
    """How one model does on a benchmark.

    Attributes:
        benchmark: Its name.
        model: Which one.
        tasks: How many the benchmark has.
        missing: Those of them that no experiment is about.
        scores: In the benchmark's order.
    """

    benchmark: str
    model: str
    tasks: int
    missing: list[str]
    scores: list[Score]

    @property
    def repeated(self) -> list[str]:
        """The tasks that several experiments are about."""
        return [task for task, number in Counter(score.task for score in self.scores).items() if number > 1]

    @property
    def mean(self) -> float | None:
        """The mean of the scores; None if one has no value, or a task has several."""
        values = [score.value for score in self.scores]
        return None if self.repeated or None in values else math.fsum(values) / len(values)

    @property
    def text(self) -> str:
        """The mean in a sentence, with what keeps it from being the benchmark's score."""
        parts = dict.fromkeys(score.summary.evaluated_on.part for score in self.scores)
        on = f"{self.benchmark}, {_listed([*parts])} part{'s' * (len(parts) > 1)}"
        there = f"{self.tasks - len(self.missing)} of the {plural(self.tasks, 'task')} of {on}"
        if self.repeated:
            return f"No mean over {there}, because of several experiments on {_listed(self.repeated)}."
        if self.mean is None:
            unknown = [score.task for score in self.scores if score.value is None]
            return f"No mean over {there}, because {_listed(unknown)} has no score."
        if self.missing:
            lack = f"{_listed(self.missing)} {'is' if len(self.missing) == 1 else 'are'} missing"
            return f"Mean over {there}: {self.mean:.3f}. It is no {self.benchmark} score, because {lack}."
        return f"Mean over all {self.tasks} tasks of {on}: {self.mean:.3f}."


def standings(summaries: Iterable[Summary]) -> list[Standing]:
    """Each model on each benchmark, where there is more than one task of it."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for summary in summaries:
        if summary.benchmark:
            model = json.dumps(summary.resolved.get("model"), sort_keys=True, default=str)
            groups.setdefault((summary.benchmark.name, model), []).append(summary)
    every = (_standing(group) for group in groups.values())
    return [standing for standing in every if len({score.task for score in standing.scores}) >= FEWEST_TASKS]


def _standing(group: list[Summary]) -> Standing:
    first = group[0].benchmark
    scores = [Score(one.benchmark.task, _value(one), one) for one in group]
    scores.sort(key=lambda score: first.tasks.index(score.task) if score.task in first.tasks else len(first.tasks))
    there = {score.task for score in scores}
    missing = [task for task in first.tasks if task not in there]
    return Standing(first.name, _model(group[0]), len(first.tasks), missing, scores)


def _value(summary: Summary) -> float | None:
    estimates = [summary.metrics.get(name) for name in summary.benchmark.metrics]
    values = [estimate.mean if estimate else None for estimate in estimates]
    return None if None in values else math.fsum(values) / len(values)


def _model(summary: Summary) -> str:
    model = summary.resolved.get("model")
    return str((isinstance(model, dict) and model.get("name")) or "a model of its own")


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
