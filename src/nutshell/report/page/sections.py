"""What the page says of one experiment: question, answer, figures, plots, examples, settings and origin."""

import json
from typing import Any

from markupsafe import escape

from nutshell.machine import launch
from nutshell.machine.errors import plural
from nutshell.report import tables
from nutshell.report.page import examples, plots
from nutshell.report.page.matrix import matrix
from nutshell.report.page.texts import DIRECTIONS, count, short
from nutshell.report.results.runs import Run
from nutshell.report.results.summary import Series, Summary, spread

COMMAND_LETTERS = 2_000
TIMES = ("eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")  # Trainer's own entries
MOST_DRAWN = 1e100  # a larger value is left out of its curve


def section(series: Series, full: bool) -> dict[str, Any]:
    """What the page shows of an experiment.

    Args:
        series: With or without complete runs.
        full: Whether with plots and all examples.
    """
    runs, summary, most = series.runs, series.summary, examples.WHOLE if full else examples.BRIEF
    first = series.complete[0] if summary else runs[0]
    return {
        "summary": summary,
        "question": first.resolved.get("question") or "",
        "answer": answer(summary) if summary else "",
        "task": first.resolved.get("task", "task unknown"),
        "spread": spread(summary) if summary and len(summary.seeds) == 1 else "",
        "band_source": _band_source(summary) if summary else "",
        "facts": _facts(series),
        "figures": _curves(series) + _histogram(series.complete) if full else [],
        "legend": _legend(runs) if full else [],
        "matrix": matrix(series.complete),
        "tables": [tables.cells(table) for table in summary.tables] if summary else [],
        "most": most,
        "errors": examples.errors(series.complete, most),
        "samples": examples.samples(series.complete, most),
        "commands": [short(command, COMMAND_LETTERS) for command in _commands(runs)],
        "yaml": _yaml(first, most.yaml),
        "yaml_of": first.seed,
        "further": _by_seed({run.seed: run.result.facts for run in series.complete}),
        "provenance": _by_seed({run.seed: _origin(run) for run in series.complete}),
    }


def metrics(summary: Summary) -> list[dict[str, Any]]:
    """A row for each metric: its figures as the terminal shows them, rounded to their interval, and their drawing."""
    rows = []
    for row in tables.rows(summary):
        estimate, baselines = summary.metrics[row.metric], summary.baseline.get(row.metric, {})
        form = f".{tables.decimals(estimate)}f"
        best, strip = summary.best_baseline(row.metric), None
        if estimate.mean is not None:
            parts = {"": f"{row.metric} {row.value}", "interval ": row.interval, "baseline ": row.baseline}
            parts |= {"published band ": row.band}
            label = "; ".join(name + text for name, text in parts.items() if text)
            band, baseline = summary.band(row.metric), best[1] if best else None
            strip = plots.strip(estimate.mean, estimate.interval_95, label, band, baseline)
        validation = (summary.validation or {}).get(row.metric)
        rows.append(
            {
                **row._asdict(),
                "band": row.band.partition(":")[0],
                "verdict": summary.verdict(row.metric),
                "baselines": [(f"{value:{form}}", name) for name, value in baselines.items()],
                "validation": "" if validation is None else f"{validation:{form}}",
                "strip": strip,
                "unit": estimate.unit,
                "direction": DIRECTIONS[estimate.higher_is_better],
                "by_seed": ["" if one is None else f"{one:{form}}" for one in estimate.by_seed.values()],
            }
        )
    return rows


def answer(summary: Summary) -> str:
    """The main figure in a sentence, with how it compares with its best baseline and its published band."""
    row = tables.headline(summary)
    estimate, best = summary.metrics[row.metric], summary.best_baseline(row.metric)
    if estimate.mean is None:
        return f"{row.metric} is not a number."
    form = f".{tables.decimals(estimate)}f"
    sentence = f"{row.metric} {estimate.mean:{form}} ({row.interval or estimate.unit})"
    if standing := summary.standing(row.metric):
        sentence += f", {standing} {best[0]} ({best[1]:{form}})"
    else:  # a correlation has no baseline, and may be high where every number is far off
        standings = {name: summary.standing(name) for name in summary.metrics}
        behind = next((name for name, one in standings.items() if one in ("no better than", "worse than")), None)
        sentence += f"; {behind} is {standings[behind]} {summary.best_baseline(behind)[0]}" if behind else ""
    if band := summary.band(row.metric):
        sentence += f", {summary.verdict(row.metric)} the published band ({band[0]:g} to {band[1]:g})"
    return sentence + "."


def cost(summary: Summary) -> list[tuple[str, str]]:
    """What the seeds took, and on what."""
    seeds = f" for {plural(len(summary.seeds), 'seed')}" if len(summary.seeds) > 1 else ""
    rows = [
        ("time", f"{count(summary.wall_seconds)} s{seeds}{' after resuming' * summary.resumed}"),
        ("examples per second", count(summary.examples_per_second)),
        ("tokens per second", count(summary.tokens_per_second)),
        ("device", summary.device),
        ("precision", launch.precision(summary.mixed_precision)),
        ("processes", summary.processes if summary.processes != "1" else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _facts(series: Series) -> list[tuple[str, str]]:
    summary, resolved = series.summary, (series.complete or series.runs)[0].resolved
    rows = [("source", resolved.get("source")), ("expected cost", resolved.get("cost"))]
    rows = [(name, value) for name, value in rows if value]
    if summary is None:
        return rows
    parts = ", ".join(f"{number:,} {part}" for part, number in summary.data.examples.items())
    parameters = summary.parameters
    trained = "all" if parameters.trained == parameters.all else f"{parameters.trained:,}"
    rows.append(("data", f"{summary.data.source}: {parts}"))
    rows.append(("parameters", f"{parameters.all:,}" + f", {trained} of them trained" * bool(parameters.trained)))
    if training := series.complete[0].result.training:
        epochs = "1 epoch" if training.epochs == 1 else count(training.epochs, "epochs")
        text = f"{plural(training.steps, 'step')}, {epochs}, {training.tokens:,} tokens"
        rows.append(("training", text + ", for each seed" * (len(summary.seeds) > 1)))
    return rows + cost(summary)


def _band_source(summary: Summary) -> str:
    """Where the published band is from, and of which part if that is another than the measured one."""
    reference = summary.resolved.get("reference") or {}
    if not reference.get("source"):
        return ""
    text, part = f"The published band is from: {reference['source']}", reference.get("part")
    if part != summary.evaluated_on.part:
        text += f". It is of the {part} part: figures of the {summary.evaluated_on.part} part are not compared with it"
    return text


def _curves(series: Series) -> list[dict[str, Any]]:
    """Plots with their captions; the runs that are not complete are drawn up to where they were logged."""
    runs, estimates = series.runs, series.summary.metrics if series.summary else {}
    logged = dict.fromkeys(name for run in runs for entry in run.history for name in entry)
    figures = []

    def add(caption: str, lines: list[plots.Line], note: str) -> None:
        if lines:
            seeds = ", ".join(str(runs[number].seed) for number in sorted({line.seed for line in lines}))
            svg = plots.curves(lines, f"{caption}, seed {seeds}")
            figures.append({"caption": caption, "note": note, "svg": svg})

    trained, validated = _lines(runs, "loss"), _lines(runs, "eval_loss", validation=True)
    parts = [("training", trained), ("validation (dots)", validated)]
    add("loss", trained + validated, " and ".join(part for part, lines in parts if lines))
    names = [name for name in logged if name.startswith("eval_") and name not in TIMES]
    names = [f"eval_{name}" for name in estimates if f"eval_{name}" in logged] or names
    for name in names[:1]:
        estimate = estimates.get(name.removeprefix("eval_"))
        caption = f"{name.removeprefix('eval_')}, {estimate.unit}" if estimate else name.removeprefix("eval_")
        direction = DIRECTIONS[estimate.higher_is_better] if estimate else ""
        add(caption, _lines(runs, name, validation=True), "validation" + f"; {direction}" * bool(direction))
    rates = _lines(runs, "learning_rate")
    same = len(rates) > 1 and all(line.points == rates[0].points for line in rates)
    add("learning rate", rates[:1] if same else rates, "the same for every seed" if same else "")
    return figures


def _lines(runs: list[Run], key: str, validation: bool = False) -> list[plots.Line]:
    """A line for each run whose log has this key; what is no number there is left out."""
    lines = []
    for seed, run in enumerate(runs):
        pairs = [(entry["step"], entry.get(key)) for entry in run.history]
        points = [(step, value) for step, value in pairs if isinstance(value, int | float) and abs(value) < MOST_DRAWN]
        if points:
            lines.append(plots.Line(sorted(points), seed, validation))
    return lines


def _legend(runs: list[Run]) -> list[tuple[str, plots.Line]]:
    """The lines that there are, each with its name."""
    lines = [("training", line) for line in _lines(runs, "loss")]
    lines += [("validation", line) for line in _lines(runs, "eval_loss", validation=True)]
    return [(f"seed {runs[line.seed].seed}, {part}", line) for part, line in lines]


def _histogram(runs: list[Run]) -> list[dict[str, Any]]:
    histogram = next((run.result.histogram for run in runs if run.result.histogram), None)
    if histogram is None:
        return []
    label = f"{histogram.title}: {histogram.note}; {histogram.limit_name} {histogram.limit}"
    svg = plots.histogram(histogram.edges, histogram.counts, histogram.limit, histogram.limit_name, label)
    return [{"caption": histogram.title, "note": histogram.note, "svg": svg}]


def _commands(runs: list[Run]) -> list[str]:
    """One command for all seeds; several where the seeds were not launched alike."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if command := run.resolved.get("command"):
            before, option, after = str(command).rpartition(f" --seeds {run.seed}")
            seeds.setdefault((before + option.removesuffix(str(run.seed)), after), []).append(str(run.seed))
    return [before + " ".join(numbers) * (before != "") + after for (before, after), numbers in seeds.items()]


def _yaml(run: Run, most: int) -> str:
    """The text of its file, marked up already: it may be longer than other texts."""
    try:
        return escape(short((run.folder / "experiment.yaml").read_text(encoding="utf-8", errors="replace"), most))
    except OSError as error:
        return f"experiment.yaml cannot be read: {error.strerror}"


def _origin(run: Run) -> dict[str, Any]:
    origin = run.result.provenance.model_dump()
    digests = {f"sha256 of {part}": digest for part, digest in run.result.data.sha256.items()}
    return {key: value for key, value in origin.items() if key != "packages"} | origin["packages"] | digests


def _by_seed(values: dict[int, dict[str, Any]]) -> list[tuple[str, str]]:
    """Each key with its value where all seeds have the same, with each seed's where they differ."""
    rows: dict[str, dict[int, str]] = {}
    for seed, entries in values.items():
        for key, value in entries.items():
            if value is not None:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                rows.setdefault(key, {})[seed] = text
    return [
        (key, next(iter(known.values())))
        if len(set(known.values())) == 1 and len(known) == len(values)
        else (key, "; ".join(f"seed {seed}: {text}" for seed, text in known.items()))
        for key, known in rows.items()
    ]
