"""What the page says of one experiment: figures, plots, wrong answers, samples, settings and origin."""

import json
from typing import Any

import numpy

from nutshell.machine import launch
from nutshell.report.page import examples, plots
from nutshell.report.page.texts import named, number, pair, rate, short
from nutshell.report.results import Experiment, Run
from nutshell.report.tables import cells

MOST_CLASSES = 12  # of a confusion matrix
TEXT_LETTERS, COMMAND_LETTERS, LABEL_LETTERS = 600, 2_000, 80
CURVES = ("bits_per_byte", "accuracy")  # of a run that has no figures yet
DIRECTIONS = {True: "↑ higher is better", False: "↓ lower is better"}


def section(experiment: Experiment, full: bool) -> dict[str, Any]:
    """What the page shows of an experiment.

    Args:
        experiment: With or without complete runs.
        full: Whether with plots and all examples.
    """
    runs, summary, most = experiment.runs, experiment.summary or {}, examples.WHOLE if full else examples.BRIEF
    first = experiment.complete[0] if experiment.complete else runs[0]
    return {
        "task": short(first.resolved.get("task", "task unknown"), LABEL_LETTERS),
        "evaluated_on": short(named(summary.get("evaluated_on")).get("text", ""), TEXT_LETTERS),
        "metrics": (figures := metrics(summary)),
        "bands": any(row["band"] for row in figures),
        "source": short(named(named(summary.get("resolved")).get("reference")).get("source", ""), TEXT_LETTERS),
        "facts": _facts(summary, first.metrics),
        "compressors": _compressors(summary),
        "legend": [(run.seed, plots.colour(at), plots.dashes(at)) for at, run in enumerate(runs)] if full else [],
        "figures": _figures(runs, summary) if full else [],
        "confusion": _confusion(experiment.complete),
        "errors": examples.errors(experiment.complete, most),
        "samples": examples.samples(experiment.complete, most),
        "commands": list(dict.fromkeys(filter(None, (_command(run) for run in runs)))),
        "yaml": _yaml(first, most.yaml),
        "yaml_of": first.seed,
        "provenance": _provenance(experiment.complete),
    }


def metrics(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each metric: its figures as the terminal shows them, unit and direction, and the drawn band."""
    if not summary:
        return []
    reference, rows = named(summary["resolved"].get("reference")), []
    for name, value, interval, band, verdict in cells(summary):
        entry = summary["metrics"][name]
        strip, mean = None, number(entry["mean"])
        if band and mean is not None:
            said = f"{name} {value}, {interval or 'no interval'}; published {band}: {verdict}"
            strip = plots.strip(mean, pair(entry["interval_95"]), said, pair(reference[name]))
        rows.append(
            {
                "name": short(name, LABEL_LETTERS),
                "value": value,
                "interval": interval,
                "band": band,
                "verdict": verdict,
                "strip": strip,
                "unit": short(entry["unit"], LABEL_LETTERS),
                "direction": DIRECTIONS.get(entry["higher_is_better"], ""),
                "by_seed": [(seed, f"{one:.4f}") for seed, one in entry["by_seed"].items()],
            }
        )
    return rows


def cost(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What the seeds took, and on what."""
    seconds, count = number(summary.get("wall_seconds")), len(summary.get("seeds") or ())
    processes, precision = summary.get("processes"), launch.precision(str(summary.get("mixed_precision") or ""))
    of = f" for {count} seeds" if count > 1 else ""
    rows = [
        (
            "seconds",
            "" if seconds is None else f"{rate(seconds)} s{of}{' after resuming' * bool(summary.get('resumed'))}",
        ),
        ("examples per second", rate(summary.get("examples_per_second"))),
        ("tokens per second", rate(summary.get("tokens_per_second"))),
        ("device", short(summary.get("device", ""), LABEL_LETTERS)),
        ("precision", short(precision, LABEL_LETTERS)),
        ("processes", str(processes) if processes not in (None, "1", 1) else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _facts(summary: dict[str, Any], result: dict[str, Any]) -> list[tuple[str, str]]:
    data, parameters = named(summary.get("data")), named(summary.get("parameters"))
    training = named(result.get("training"))
    parts = [f"{rate(count)} {part}" for part, count in named(data.get("examples")).items()]
    trained = number(parameters.get("trained"))
    rows = [
        ("data", ": ".join(filter(None, [short(data.get("source", ""), TEXT_LETTERS), ", ".join(parts)]))),
        ("parameters", rate(parameters.get("all")) + (f", {rate(trained)} of them trained" if trained else "")),
        ("training", ", ".join(rate(training[key], key) for key in ("steps", "epochs", "tokens") if key in training)),
    ]
    return [(name, value) for name, value in rows if value] + cost(summary)


def _compressors(summary: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(name, number(bits)) for name, bits in named(summary.get("compressors")).items()]
    ours = number(named(named(summary.get("metrics")).get("bits_per_byte")).get("mean"))
    if not found or ours is None:
        return []
    return [("this model", f"{ours:.3f}"), *((name, f"{bits:.3f}") for name, bits in found if bits is not None)]


def _figures(runs: list[Run], summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Plots with their captions; the runs that are not complete are drawn as far as they came."""
    figures = []
    seeds = ", ".join(str(run.seed) for run in runs)

    def add(caption: str, lines: list[plots.Line], note: str = "") -> None:
        if lines:
            said = f"{caption}, seeds {seeds}"
            figures.append({"caption": caption, "note": note, "svg": plots.curves(lines, said)})

    trained, checked = _lines(runs, "loss"), _lines(runs, "eval_loss", marked=True)
    unit = "nats per example" if runs[0].resolved.get("task") == "classify" else "nats per token"
    kinds = [kind for kind, lines in (("training", trained), ("validation (dots)", checked)) if lines]
    add(f"loss, {unit}", trained + checked, " and ".join(kinds))
    entries = named(summary.get("metrics"))
    logged = {name for run in runs for entry in run.history for name in entry}
    for name in sorted(entries or CURVES, key=lambda name: name != "bits_per_byte"):
        if f"eval_{name}" in logged:
            entry = named(entries.get(name))
            caption = ", ".join(filter(None, [name, str(entry.get("unit", ""))]))
            note = "; ".join(filter(None, ["validation", DIRECTIONS.get(entry.get("higher_is_better"), "")]))
            add(short(caption, LABEL_LETTERS), _lines(runs, f"eval_{name}", marked=True), note)
            break
    rates = _lines(runs, "learning_rate")
    if rates and all(line.points == rates[0].points for line in rates):
        rates = rates[:1]
    add("learning rate", rates, "the same for every seed" if len(rates) == 1 < len(runs) else "")
    return figures + _lengths(runs)


def _lines(runs: list[Run], key: str, marked: bool = False) -> list[plots.Line]:
    """A line for each run whose history has this key."""
    lines = []
    for at, run in enumerate(runs):
        pairs = [(number(entry.get("step")), number(entry.get(key))) for entry in run.history]
        points = sorted(point for point in pairs if None not in point)
        if points:
            lines.append(plots.Line(points, at, marked))
    return lines


def _lengths(runs: list[Run]) -> list[dict[str, Any]]:
    for run in runs:
        found = named(run.metrics.get("lengths"))
        edges, counts = ([number(one) for one in found.get(key) or ()] for key in ("edges", "counts"))
        if not counts or len(edges) != len(counts) + 1 or None in edges + counts or sorted(edges) != edges:
            continue
        limit, cut, total = number(found.get("limit")), number(found.get("truncated")) or 0, sum(counts)
        if run.resolved.get("task") == "classify":
            note, name = f"{rate(cut)} of {rate(total)} training examples are cut ({cut / max(1, total):.1%})", "cut at"
        else:
            note, name = "training documents, joined and divided into blocks: nothing is cut", "block"
        svg = plots.histogram(edges, counts, limit, name, f"lengths in tokens: {note}; {name} {rate(limit)}")
        return [{"caption": "lengths, tokens", "note": note, "svg": svg}]
    return []


def _confusion(runs: list[Run]) -> dict[str, Any] | None:
    """Counts of every seed together: rows are true labels, columns predicted ones; None if there is none to show."""
    labels = runs[0].metrics.get("labels") if runs else None
    if not isinstance(labels, list) or not 1 < len(labels) <= MOST_CLASSES:
        return None
    alike = [run.metrics.get("confusion_matrix") for run in runs if run.metrics.get("labels") == labels]
    found = [numpy.array(counts, dtype=float) for counts in alike if isinstance(counts, list)]
    if not found or any(counts.shape != 2 * (len(labels),) for counts in found):
        return None
    total = sum(found)
    shares = total / numpy.maximum(1, total.sum(1, keepdims=True))
    rows = [
        [(rate(float(count)), f"{share:.0%}", round(4 * share)) for count, share in zip(*row, strict=True)]
        for row in zip(total, shares, strict=True)
    ]
    names = [short(name, LABEL_LETTERS) for name in labels]
    wrong = int(total.sum() - total.trace())
    return {"labels": names, "rows": list(zip(names, rows, strict=True)), "wrong": wrong, "seeds": len(found)}


def _command(run: Run) -> str:
    return short(run.resolved.get("command") or "", COMMAND_LETTERS)


def _yaml(run: Run, most: int) -> str:
    try:
        text = (run.folder / "experiment.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"experiment.yaml cannot be read: {error.strerror}"
    return short(text, most)


def _provenance(runs: list[Run]) -> list[tuple[str, str]]:
    """Where the figures come from: a value where all seeds have it, each seed's where they differ."""
    rows: dict[str, dict[int, str]] = {}
    for run in runs:
        found = named(run.metrics.get("provenance"))
        flat = {key: value for key, value in found.items() if key != "packages"} | named(found.get("packages"))
        digests = named(named(run.metrics.get("data")).get("sha256"))
        flat |= {f"sha256 of {part}": digest for part, digest in digests.items()}
        for key, value in flat.items():
            if value is not None:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                rows.setdefault(str(key), {})[run.seed] = short(text, LABEL_LETTERS)
    return [
        (short(key, LABEL_LETTERS), next(iter(values.values())))
        if len(set(values.values())) == 1 and len(values) == len(runs)
        else (short(key, LABEL_LETTERS), "; ".join(f"seed {seed}: {value}" for seed, value in values.items()))
        for key, values in rows.items()
    ]
