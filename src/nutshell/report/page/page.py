"""Experiments -> one HTML page that needs nothing but itself: no script, no network, under 3 MB."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nutshell.machine.errors import UserError
from nutshell.report import comparison
from nutshell.report.page import plots
from nutshell.report.page.examples import SURPRISES_NATS
from nutshell.report.page.sections import DIRECTIONS, cost, metrics, section
from nutshell.report.page.texts import pair, place, short, visible
from nutshell.report.results import Experiment

LIMIT_BYTES = 2_900_000  # the page stays under 3 MB
MOST_COMPARED = 10  # with the best one, of each group
BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what a file of odd content leads to
LABEL_LETTERS, SAID_LETTERS = 160, 400


def render(experiments: Sequence[Experiment], now: str | None = None) -> str:
    """The page: overview, comparisons, and each experiment by itself.

    As many experiments as there is room for are shown with their plots, in their order, the others without; those for
    which there is no room even so stand in the overview alone. The page says which.

    Args:
        experiments: As results.experiments has them.
        now: When it is written, if the page is to say so.

    Returns:
        HTML of fewer than 3,000,000 bytes in UTF-8 (of thousands of experiments more: their overview is whole); the
        same for the same experiments and time.
    """
    entries = [_entry(number, experiment) for number, experiment in enumerate(experiments, 1)]
    found = {id(experiment): entry for experiment, entry in zip(experiments, entries, strict=True)}
    page = {
        "now": now,
        "entries": entries,
        "incomplete": [row for experiment in experiments for row in _incomplete(experiment)],
        **_groups(experiments, found),
        "runs": sum(len(experiment.runs) for experiment in experiments),
    }
    _fill(experiments, entries, LIMIT_BYTES - _size(_template("page.html").render(page)))
    return visible(_template("page.html").render(page)).encode("utf-8", "replace").decode()


def _fill(experiments: Sequence[Experiment], entries: list[dict[str, Any]], room: int) -> None:
    """Gives each entry its section: first the short ones, then the first ones whole, as far as there is room."""
    for experiment, entry in zip(experiments, entries, strict=True):
        made = _section(experiment, entry, full=False)
        if (size := _size(made)) <= room:
            entry["section"] = made
            room -= size
    for experiment, entry in zip(experiments, entries, strict=True):
        if entry["section"] is None:
            break
        made = _section(experiment, entry, full=True)
        room -= _size(made) - _size(entry["section"])
        if room < 0:
            break
        entry["section"], entry["full"] = made, True


def _entry(number: int, experiment: Experiment) -> dict[str, Any]:
    """What the overview says of an experiment."""
    try:
        rows, spent = metrics(experiment.summary or {}), cost(experiment.summary or {})
    except BROKEN:
        rows, spent = [], []
    states = [run.state for run in experiment.runs]
    return {
        "anchor": f"e{number}",
        "label": short(experiment.label, LABEL_LETTERS),
        "task": short(experiment.runs[0].resolved.get("task", ""), LABEL_LETTERS),
        "metrics": rows,
        "cost": spent,
        "seeds": [run.seed for run in experiment.complete],
        "states": ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states) if state != "complete"),
        "section": None,
        "full": False,
    }


def _incomplete(experiment: Experiment) -> list[dict[str, str]]:
    """Its runs that are not complete, and the complete ones that lack something."""
    rows = []
    for run in experiment.runs:
        state, said = run.state, run.said
        if state == "complete" and run.lacks:
            state, said = "complete, lacking", ", ".join(run.lacks)
        if state != "complete":
            rows.append({"folder": place(run.folder), "state": state, "said": short(said, SAID_LETTERS)})
    return rows


def _section(experiment: Experiment, entry: dict[str, Any], full: bool) -> Markup:
    try:
        content, broken = section(experiment, full), ""
    except BROKEN as error:
        content, broken = {}, short(f"{type(error).__name__}: {error}", SAID_LETTERS)
    words = {"entry": entry, "content": content, "broken": broken, "full": full, "runs": experiment.runs}
    return Markup(_template("experiment.html").render(words))


def _groups(experiments: Sequence[Experiment], entries: dict[int, dict]) -> dict[str, Any]:
    try:
        return {"groups": [_group(group, entries) for group in comparison.groups(experiments)], "not_grouped": ""}
    except BROKEN as error:
        return {"groups": [], "not_grouped": short(f"{type(error).__name__}: {error}", SAID_LETTERS)}


def _group(group: list[Experiment], entries: dict[int, dict]) -> dict[str, Any]:
    """The best of a group beside each other one."""
    best, others = group[0], group[1:]
    pairs = []
    for other in others[:MOST_COMPARED]:
        words = {"entry": entries[id(other)], "said": ""}
        try:
            pairs.append(words | _pair(comparison.compare(best, other)))
        except (UserError, *BROKEN) as error:
            pairs.append(words | {"said": short(error, SAID_LETTERS), "rows": []})
    return {
        "task": short(best.runs[0].resolved.get("task", ""), LABEL_LETTERS),
        "size": len(group),
        "on": next((f"{found['count']:,} {found['unit']}" for found in pairs if found["rows"]), "examples"),
        "best": entries[id(best)],
        "pairs": pairs,
        "left": [entries[id(other)] for other in others[MOST_COMPARED:]],
        "most": MOST_COMPARED,
    }


def _pair(found: comparison.Comparison) -> dict[str, Any]:
    rows = []
    for row in found.rows:
        over_examples, over_seeds = pair(row.interval_95), pair(row.over_seeds)
        reach = max(map(abs, (row.difference, *(over_examples or ()), *(over_seeds or ()))))
        said = f"difference {row.difference:+.4f}, beside zero"
        rows.append(
            {
                "metric": short(row.metric, LABEL_LETTERS),
                "direction": DIRECTIONS.get(row.higher_is_better, ""),
                "values": [f"{value:.4f}" for value in row.values],
                "difference": f"{row.difference:+.4f}",
                "interval": _interval(over_examples),
                "over_seeds": _interval(over_seeds),
                "strip": plots.strip(row.difference, over_examples, said, reach=reach),
                "better": None if row.better is None else short(found.labels[row.better], LABEL_LETTERS),
            }
        )
    tests = [
        {
            "seeds": test.seeds,
            "counts": (test.only_one_right, test.only_other_right),
            "p_value": f"{test.p_value:.4f}" if test.p_value >= 1e-4 else f"{test.p_value:.1e}",
        }
        for test in found.mcnemar
    ]
    return {"rows": rows, "tests": tests, "count": found.count, "unit": found.unit}


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:+.4f} to {ends[1]:+.4f}"


def _size(text: str) -> int:
    """Bytes, as they will stand in the file."""
    return len(visible(text).encode("utf-8", "replace"))


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["surprises"] = SURPRISES_NATS
    environment.filters["breakable"] = lambda path: Markup("/<wbr>").join(path.split("/"))
    return environment.get_template(name)
