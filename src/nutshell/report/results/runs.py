"""What an outputs folder holds: runs complete, unfinished or failed."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nutshell.bits.figures import units
from nutshell.experiment.yaml_text import parse
from nutshell.machine import checkpoints
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, read_json, read_lines
from nutshell.report.results.result import Result, read_result

# May differ without making the results another experiment's.
NOT_THE_QUESTION = {"question", "source", "cost", "reference", "keep_checkpoints", "launch", "command"}


@dataclass(frozen=True)
class Run:
    """One seed's folder, whatever state it is in.

    Attributes:
        folder: `<root>/<chapter>/<name>/seed-<n>`.
        state: complete, unfinished, failed or unreadable.
        reason: What is to be said of a run that is not complete, in a line.
        resolved: The content of experiment.yaml; {} if it cannot be read.
        result: The content of metrics.json; None unless the run is complete.
    """

    folder: Path
    state: str
    reason: str
    resolved: dict[str, Any]
    result: Result | None

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
        """Trainer's log history, the steps in order; of an unfinished run, up to where it is known."""
        entries = _state(self.folder).get("log_history", [])
        return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("step"), int)]

    @property
    def lacks(self) -> list[str]:
        """The files that a complete run has and this one has not."""
        if self.result is None:
            return []
        names = [units.NAME, *(["trainer_state.json"] if self.result.training else [])]
        return [name for name in names if not (self.folder / name).is_file()]

    @cached_property
    def units(self) -> units.Units:
        """What it said of each unit.

        Raises:
            UserError: If that is missing or damaged.
        """
        return units.read(self.folder)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The rows of one of its JSON lines files; none if it has no such file, or one that is damaged."""
        try:
            rows = read_lines(self.folder / name)
        except (OSError, ValueError, RecursionError):
            return []
        return rows if all(isinstance(row, dict) for row in rows) else []


def find(folders: Sequence[Path]) -> list[Run]:
    """Every run in these folders: roots, chapters, experiments or seeds.

    Raises:
        UserError: If a folder is not there, or holds no run.
    """
    runs: dict[Path, Run] = {}
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder")
        seeds = list(_seeds(folder))
        if not seeds:
            raise UserError(f"{folder}: holds no run; runs are in <output>/<chapter>/<name>/seed-<n>")
        runs |= {seed.resolve(): read(seed) for seed in seeds}
    return sorted(runs.values(), key=lambda run: (run.place, str(run.folder.parent), run.seed))


def _seeds(folder: Path) -> Iterator[Path]:
    """Every seed's folder in it that a run has written; a run that is under way moves files about meanwhile."""
    for here, below, files in os.walk(folder):
        if re.fullmatch(r"seed-\d+", Path(here).resolve().name):
            below.clear()
            if "experiment.yaml" in files:
                yield Path(here)


def read(folder: Path) -> Run:
    """The run in a seed's folder. What is damaged is noticed here, so that its readers need not look again."""
    folder = folder.resolve()
    try:
        resolved, _ = parse((folder / "experiment.yaml").read_text(encoding="utf-8"))
        if not isinstance(resolved, dict) or not isinstance(resolved.get("task"), str):
            raise ValueError("names no task")
        question(resolved)
    except Exception as error:  # such a file may hold anything
        return Run(folder, "unreadable", f"experiment.yaml: {first_line(error)}", {}, None)
    if (folder / "metrics.json").exists():
        try:
            return Run(folder, "complete", "", resolved, read_result(folder))
        except UserError as error:
            return Run(folder, "unreadable", str(error).removeprefix(f"{folder}/"), resolved, None)
    try:
        failure = read_json(folder / "failure.json")
        return Run(folder, "failed", f"{failure['error']} ({failure['when']})", resolved, None)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Run(folder, "unfinished", _progress(folder), resolved, None)


def question(resolved: dict[str, Any]) -> str:
    """What seeds of one experiment have in common."""
    common = {key: value for key, value in resolved.items() if key not in {"seed", *NOT_THE_QUESTION}}
    return json.dumps(common, sort_keys=True, default=str)


def settings(resolved: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of an experiment under its dotted key, without those that change no result."""
    for key, value in resolved.items():
        if prefix or key not in NOT_THE_QUESTION:
            yield from settings(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _progress(folder: Path) -> str:
    state = _state(folder)
    times = [folder.stat().st_mtime]
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile
            times.append(file.stat().st_mtime)
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(times)))
    reached = f"step {state['global_step']:,} of {state['max_steps']:,}" if state else "before the first checkpoint"
    return f"{reached}; last written {written}; the same command resumes it, if it is not running"


def _state(folder: Path) -> dict[str, Any]:
    """Trainer's record in a folder or in its newest checkpoint; {} if there is none that can be read."""
    places: Iterable[Path] = [folder, *reversed(checkpoints.all_of(folder))]
    for place in places:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            state = checkpoints.state(place)
            int(state["global_step"]), int(state["max_steps"]), list(state["log_history"])
            return state
    return {}
