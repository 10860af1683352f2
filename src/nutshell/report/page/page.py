"""Experiments -> one HTML page that needs nothing but itself: no script, no network, under 3 MB."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nutshell.machine.errors import plural
from nutshell.report import comparison, tables
from nutshell.report.page import codes, groups
from nutshell.report.page.sections import cost, metrics, section
from nutshell.report.page.texts import SURPRISES_NATS, short, visible
from nutshell.report.results.benchmark import Score, standings
from nutshell.report.results.summary import Series

LIMIT_BYTES = 2_900_000  # the page stays under 3 MB


def render(every: Sequence[Series], now: str | None = None) -> str:
    """The page: overview, comparisons, and each experiment by itself.

    As many experiments as there is room for are shown with their plots, in their order, the others without; those for
    which there is no room even so are in the overview alone. The page says which.

    Args:
        every: As summary.series has them.
        now: When it is written, if the page is to say so.

    Returns:
        HTML of fewer than 3,000,000 bytes in UTF-8 (of thousands of experiments more: their overview is whole); the
        same for the same experiments and time.
    """
    entries = {id(series): _entry(number, series) for number, series in enumerate(every, 1)}
    alike = comparison.groups(every)
    for group in alike:
        for series, settings in zip(group.series, groups.differences(group.series), strict=True):
            entries[id(series)]["settings"] = settings
    by_summary = {id(series.summary): entries[id(series)] for series in every}
    page = {
        "now": now,
        "entries": list(entries.values()),
        "benchmarks": [
            {"standing": standing, "rows": [_score(score, by_summary[id(score.summary)]) for score in standing.scores]}
            for standing in standings(series.summary for series in every if series.summary)
        ],
        "codes": codes.content(every),
        "groups": [groups.content(group, entries) for group in alike],
        "runs": sum(len(series.runs) for series in every),
    }
    _fill(every, page["entries"], LIMIT_BYTES - _size(_template("page.html").render(page)))
    return visible(_template("page.html").render(page)).encode("utf-8", "replace").decode()


def _fill(every: Sequence[Series], entries: list[dict[str, Any]], room: int) -> None:
    """Gives each entry its section: first the short ones, then the first ones whole, as far as there is room."""
    for series, entry in zip(every, entries, strict=True):
        brief = _section(series, entry, full=False)
        if (size := _size(brief)) <= room:
            entry["section"] = brief
            room -= size
    for series, entry in zip(every, entries, strict=True):
        if entry["section"] is None:
            break
        whole = _section(series, entry, full=True)
        room -= _size(whole) - _size(entry["section"])
        if room < 0:
            break
        entry["section"], entry["full"] = whole, True


def _entry(number: int, series: Series) -> dict[str, Any]:
    """What the overview says of an experiment."""
    states = [run.state for run in series.runs]
    return {
        "anchor": f"e{number}",
        "label": series.label,
        "task": series.runs[0].resolved.get("task", ""),
        "settings": [],  # that differ within its group
        "metrics": metrics(series.summary) if series.summary else [],
        "cost": cost(series.summary) if series.summary else [],
        "seeds": [run.seed for run in series.complete],
        "states": ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states) if state != "complete"),
        "incomplete": _incomplete(series),
        "section": None,
        "full": False,
    }


def _score(score: Score, entry: dict[str, Any]) -> dict[str, Any]:
    """What the page says of one task of a benchmark."""
    on = score.summary.evaluated_on
    rows = [(row, row.band.partition(":")[0], score.summary.verdict(row.metric)) for row in tables.score(score)]
    value = "" if score.value is None else f"{score.value:.3f}"
    return {
        "entry": entry,
        "task": score.task,
        "value": value,
        "rows": rows,
        "on": f"{on.count:,} {on.units}",
        "part": on.part,
    }


def _incomplete(series: Series) -> list[dict[str, Any]]:
    """Its runs that are not complete, and the complete ones that lack something."""
    rows = [(run, run.state, run.reason) for run in series.runs if run.state != "complete"]
    rows += [(run, "complete, lacking", ", ".join(run.lacks)) for run in series.complete if run.lacks]
    return [{"seed": run.seed, "state": state, "reason": reason} for run, state, reason in rows]


def _section(series: Series, entry: dict[str, Any], full: bool) -> Markup:
    words = {"entry": entry, "content": section(series, full), "full": full}
    return Markup(_template("experiment.html").render(words))


def _size(text: str) -> int:
    """Bytes, as they will be in the file."""
    return len(visible(text).encode("utf-8", "replace"))


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else short(str(value)),
    )
    environment.globals |= {"surprises": SURPRISES_NATS, "plural": plural}
    environment.filters["breakable"] = lambda path: Markup("/<wbr>").join(short(path).split("/"))
    environment.filters["short"] = short
    return environment.get_template(name)
