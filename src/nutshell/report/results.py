"""What an outputs folder holds: runs complete, unfinished or failed; the seeds of one experiment summed up."""

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
from ruamel.yaml import YAML

from nutshell.bits import intervals
from nutshell.machine import checkpoints
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, read_lines
from nutshell.report import tables

ABOUT_THE_RUN = ("seed", "launch", "command", "reference")  # what seeds of one experiment may differ in


# The files, and the keys of metrics.json, that a complete run of each task has beside what every run has.
LEFT_BEHIND = {
    "classify": (("predictions.jsonl", "errors.jsonl"), ("confusion_matrix", "lengths", "training")),
    "language_model": (("stretches.jsonl",), ("measured", "compressors", "lengths")),
    "generate": (("samples.jsonl",), ("generation",)),
}


@dataclass(frozen=True)
class Run:
    """One seed's folder, whatever state it is in.

    Attributes:
        folder: `<root>/<chapter>/<name>/seed-<n>`.
        state: complete, unfinished, failed or unreadable.
        said: What is to be said of a run that is not complete, in a line.
        resolved: The content of experiment.yaml; {} if it cannot be read.
        metrics: The content of metrics.json; {} unless the run is complete.
    """

    folder: Path
    state: str
    said: str
    resolved: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def seed(self) -> int:
        """From the folder's name."""
        return int(self.folder.name.removeprefix("seed-"))

    @property
    def place(self) -> str:
        """`<chapter>/<name>`."""
        return f"{self.folder.parent.parent.name}/{self.folder.parent.name}"

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Trainer's log history, the steps in order; of an unfinished run, up to its newest checkpoint."""
        entries = _state(self.folder).get("log_history", [])
        return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("step"), int)]

    @property
    def lacks(self) -> list[str]:
        """What a complete run has and this one has not: it was written by an earlier version, or is gone."""
        if self.state != "complete":
            return []
        files, keys = LEFT_BEHIND.get(self.resolved.get("task"), ((), ()))
        trained = ["trainer_state.json"] * bool(self.metrics.get("training"))
        found = [name for name in (*files, *trained) if not (self.folder / name).is_file()]
        return found + [key for key in keys if key not in self.metrics]

    @cached_property
    def columns(self) -> dict[str, numpy.ndarray]:
        """What it said of each unit, (units,) each: of a classifier labels, predicted and nats by example, of a
        language model bytes, tokens and nats by stretch of text.

        Raises:
            UserError: If that is not there, or not whole.
        """
        task = self.resolved["task"]
        name = LEFT_BEHIND[task][0][0]
        rows = self.lines(name)
        if rows is None:
            raise UserError(f"{self.folder / name}: is missing or damaged; run the experiment again with --force")
        try:
            if task == "language_model":
                return {key: numpy.array([row[key] for row in rows]) for key in ("bytes", "tokens", "nats")}
            if len(rows) != self.metrics["evaluated_on"]["examples"]:
                raise ValueError("rows are missing")
            labels = numpy.array([row["label"] for row in rows])
            chances = numpy.array([row["probabilities"] for row in rows])[numpy.arange(len(rows)), labels]
            return {
                "labels": labels,
                "predicted": numpy.array([row["predicted"] for row in rows]),
                "nats": -numpy.log(numpy.maximum(chances, numpy.finfo(float).tiny)),
            }
        except (KeyError, ValueError, IndexError, TypeError):
            raise UserError(f"{self.folder / name}: is damaged; run the experiment again with --force") from None

    def lines(self, name: str) -> list[dict[str, Any]] | None:
        """The rows of one of its JSON lines files; None if it has no such file, or one that is damaged."""
        file = self.folder / name
        try:
            rows = read_lines(file) if file.exists() else None
        except (OSError, ValueError):
            return None
        return rows if rows is not None and all(isinstance(row, dict) for row in rows) else None


def find(folders: Sequence[Path]) -> list[Run]:
    """Every run in these folders: roots, chapters, experiments or seeds.

    Raises:
        UserError: If a folder is not there, or holds no run.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        seeds = list(_seeds(folder))
        if not seeds:
            raise UserError(f"{folder}: holds no run; runs are in <output>/<chapter>/<name>/seed-<n>")
        found |= {seed.resolve(): read(seed) for seed in seeds}
    return sorted(found.values(), key=lambda run: (run.place, str(run.folder.parent), run.seed))


def _seeds(folder: Path) -> Iterator[Path]:
    """Every seed's folder in it that a run has written; a run that is under way moves files about meanwhile."""
    for here, below, files in os.walk(folder):
        if re.fullmatch(r"seed-\d+", Path(here).resolve().name):
            below.clear()
            if "experiment.yaml" in files:
                yield Path(here)


def read(folder: Path) -> Run:
    """The run in a seed's folder."""
    folder = folder.resolve()
    try:
        resolved = YAML(typ="safe", pure=True).load((folder / "experiment.yaml").read_text(encoding="utf-8"))
        if not isinstance(resolved, dict) or not isinstance(resolved.get("task"), str):
            raise ValueError("says no task")
        _question(resolved)
    except Exception as error:  # such a file may hold anything
        return Run(folder, "unreadable", f"experiment.yaml: {first_line(error)}", {}, {})
    if (folder / "metrics.json").exists():
        try:
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            _check(metrics, resolved)
        except Exception as error:  # such a file may hold anything
            lacking = "lacks " * isinstance(error, KeyError)
            return Run(folder, "unreadable", f"metrics.json: {lacking}{first_line(error)}", resolved, {})
        return Run(folder, "complete", "", resolved, metrics)
    try:
        failure = json.loads((folder / "failure.json").read_text(encoding="utf-8"))
        return Run(folder, "failed", f"{failure['error']} ({failure['when']})", resolved, {})
    except (OSError, ValueError, KeyError, TypeError):
        return Run(folder, "unfinished", _how_far(folder), resolved, {})


def _check(metrics: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Passes what can be summed up and shown; any error says that it cannot."""
    for name in ("metrics", "experiment", "provenance", "data", "evaluated_on"):
        if not isinstance(metrics.get(name), dict):
            raise ValueError(f"lacks {name}")
    dict(metrics["data"]["sha256"])
    tables.cells(summarize("", resolved, {0: metrics}))


def _question(resolved: dict[str, Any]) -> str:
    """What seeds of one experiment have in common."""
    question = {key: value for key, value in resolved.items() if key not in ABOUT_THE_RUN}
    return json.dumps(question, sort_keys=True, default=str)


def _how_far(folder: Path) -> str:
    state = _state(folder)
    times = [folder.stat().st_mtime]
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile
            times.append(file.stat().st_mtime)
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(times)))
    reached = f"step {state['global_step']:,} of {state['max_steps']:,}" if state else "before the first checkpoint"
    return f"{reached}; last written {written}; the same command goes on, if it is not running"


def _state(folder: Path) -> dict[str, Any]:
    """Trainer's state at the end, or in the newest checkpoint; {} if there is none."""
    for place in (folder, *reversed(checkpoints.found(folder))):
        try:
            state = checkpoints.state(place)
            steps = {key: int(state[key]) for key in ("global_step", "max_steps")}
            return {**steps, "log_history": list(state["log_history"])}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


@dataclass(frozen=True)
class Experiment:
    """The runs of one experiment, one for each seed.

    Attributes:
        label: `<chapter>/<name>`, with the folder where that alone would be said twice.
        runs: In the order of their seeds.
        summary: Over the complete ones, as in summary.json; None if there is none.
    """

    label: str
    runs: list[Run]
    summary: dict[str, Any] | None

    @property
    def complete(self) -> list[Run]:
        """Those that have figures."""
        return [run for run in self.runs if run.state == "complete"]


def experiments(runs: Iterable[Run]) -> list[Experiment]:
    """Runs put together by folder, and within one by what they asked and which data they were given: seeds of one
    question. A run that has no figures yet stands with those that ask the same."""
    groups: dict[tuple[Path, str], dict[str, list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.state != "complete"):
        asked = groups.setdefault((run.folder.parent, _question(run.resolved)), {})
        data = json.dumps(run.metrics["data"].get("sha256")) if run.metrics else next(iter(asked), "")
        asked.setdefault(data, []).append(run)
    found = [sorted(group, key=lambda run: run.seed) for asked in groups.values() for group in asked.values()]
    found.sort(key=lambda group: (group[0].place, str(group[0].folder)))
    return [_experiment(group, found) for group in found]


def _experiment(group: list[Run], groups: list[list[Run]]) -> Experiment:
    label = group[0].place
    alike = [other[0].folder.parent for other in groups if other[0].place == label]
    if len(set(alike)) > 1:
        label += f" in {group[0].folder.parent.parent.parent}"
    if alike.count(group[0].folder.parent) > 1:
        label += f", seed{'s' * (len(group) > 1)} {', '.join(str(run.seed) for run in group)}"
    complete = {run.seed: run.metrics for run in group if run.state == "complete"}
    summary = summarize(label, group[0].resolved, complete) if complete else None
    return Experiment(label, group, summary)


def summarize(place: str, resolved: dict[str, Any], runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation and interval of the mean over complete seeds of one experiment.

    Args:
        place: `<chapter>/<name>`, or what else to call it.
        resolved: The experiment.
        runs: By seed, the content of metrics.json; at least one.

    Returns:
        For each metric: its value by seed, mean, standard deviation (n - 1) and the 95 % interval of the mean
        (Student's t); with one seed the standard deviation is None and the interval that seed's own, over
        examples. Beside them the experiment, its data's digests and what the seeds were run on.
    """
    first = next(iter(runs.values()))
    metrics = {}
    common = [name for name in first["metrics"] if all(name in run["metrics"] for run in runs.values())]
    for name in common:
        entry = first["metrics"][name]
        values = [run["metrics"][name]["value"] for run in runs.values()]
        mean, deviation = intervals.mean_and_deviation(values)
        metrics[name] = {
            "mean": mean,
            "standard_deviation": deviation,
            "interval_95": entry["interval_95"] if deviation is None else list(intervals.over_seeds(values)),
            "interval_is_over": "seeds" if len(values) > 1 else first.get("intervals_over", "examples"),
            "by_seed": dict(zip(runs, values, strict=True)),
            "unit": entry["unit"],
            "higher_is_better": entry["higher_is_better"],
        }
    places = [run["provenance"] for run in runs.values()]
    blocks = [run.get("training") or run.get("generation") or {} for run in runs.values()]
    rates = {
        key: [block[key] for block in blocks if block.get(key)] for key in ("examples_per_second", "tokens_per_second")
    }
    commits = {f"{place['commit']}{' with changes' if place['dirty'] else ''}" for place in places}
    return {
        "experiment": place,
        "seeds": list(runs),
        "metrics": metrics,
        "evaluated_on": first["evaluated_on"],
        "parameters": first["parameters"],
        "wall_seconds": math.fsum(place["wall_seconds"] for place in places),
        "resumed": any(block.get("resumed_from_step") for block in blocks),
        **{key: math.fsum(values) / len(values) if values else None for key, values in rates.items()},
        **({"training_tokens": first["training"]["tokens"]} if first["training"] else {}),
        **{key: first[key] for key in ("measured", "compressors") if key in first},
        **{key: _listed(place[key] for place in places) for key in ("device", "mixed_precision", "processes")},
        "commits": sorted(commits),
        "data": {key: first["data"][key] for key in ("source", "examples", "sha256")},
        "resolved": resolved,
    }


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
