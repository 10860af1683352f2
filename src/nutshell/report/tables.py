"""Results -> the tables of the terminal and of README.md."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from nutshell.machine.launch import precision
from nutshell.report.page.texts import named, pair

START, END = "<!-- {}: written by `make results` -->", "<!-- end of {} -->"
HEAD = "| experiment | metric | value | 95 % interval | published band | seeds | precision, device | wall time a seed |"


SPEED = (
    "workload",
    "machine",
    "unit",
    "stock",
    "nutshell",
    "times as fast",
    "padding, stock / nutshell",
    "peak memory, stock / nutshell",
    "MFU, stock / nutshell",
)
SIDES = {"nutshell": "bf16", "nutshell_fp32": "fp32", "nutshell_compiled": "bf16, compiled"}


def cells(summary: dict) -> list[tuple[str, str, str, str, str]]:
    """A row for each metric: its name, value, 95 % interval, reference band, and inside, above or below it."""
    rows = []
    for name, entry in summary["metrics"].items():
        value = f"{entry['mean']:.4f}"
        if entry["standard_deviation"] is not None:
            value += f" ± {entry['standard_deviation']:.4f}"
        interval = ""
        if entry["interval_95"]:
            interval = "{:.4f} to {:.4f}".format(*entry["interval_95"]) + f" over {entry['interval_is_over']}"
        band = pair(named(summary["resolved"].get("reference")).get(name))
        said = ("{} to {}".format(*band), verdict(entry["mean"], band)) if band else ("", "")
        rows.append((name, value, interval, *said))
    return rows


def verdict(value: float, band: Sequence[float]) -> str:
    """Where a value lies: inside a published band, below or above it."""
    return "below" if value < band[0] else "above" if value > band[1] else "inside"


def stored(folder: Path) -> list[dict]:
    """The summaries of a folder, `<chapter>/<name>.json`."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.json"))]


def markdown(summaries: Sequence[dict]) -> str:
    """The results table, a row for each metric of each experiment."""
    lines = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
    for summary in summaries:
        seconds = summary["wall_seconds"] / len(summary["seeds"])
        where = f"{precision(summary['mixed_precision'])}, {summary['device']}"
        seeds = ", ".join(map(str, summary["seeds"]))
        for number, (name, value, interval, band, verdict) in enumerate(cells(summary)):
            first = (
                [
                    f"`{summary['experiment']}`",
                    seeds,
                    where,
                    f"{seconds:,.0f} s{' after resuming' * summary['resumed']}",
                ]
                if number == 0
                else [""] * 4
            )
            published = f"{band}: {verdict}" if band else ""
            lines.append("| " + " | ".join([first[0], name, value, interval, published, *first[1:]]) + " |")
    return "\n".join(lines)


def compression(summaries: Sequence[dict]) -> str:
    """The table of language models beside everybody's compressors on the same text, in bits per byte."""
    head = ["experiment", "parameters", "training tokens", "tokens a second", "perplexity", "bits per byte"]
    found = [summary for summary in summaries if "compressors" in summary]
    packers = list(found[0]["compressors"]) if found else []
    lines = ["| " + " | ".join(head + packers) + " |", "|" + " --- |" * len(head + packers)]
    for summary in found:
        means = {name: entry["mean"] for name, entry in summary["metrics"].items()}
        rate = summary["tokens_per_second"]
        row = [
            f"`{summary['experiment']}`",
            f"{summary['parameters']['all']:,}",
            f"{summary.get('training_tokens', 0):,}",
            f"{rate:,.0f}" if rate else "",
            f"{means['perplexity']:.2f}",
            f"**{means['bits_per_byte']:.3f}**",
            *(f"{bits:.3f}" for bits in summary["compressors"].values()),
        ]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def speed(folder: Path) -> str:
    """The table of stored benchmarks, one file for each machine: a row for each workload and each way nutshell ran.

    Trial measurements (--quick) are passed over.
    """
    lines = ["| " + " | ".join(SPEED) + " |", "|" + " --- |" * len(SPEED)]
    for results in stored(folder):
        results["workloads"] = {name: found for name, found in results["workloads"].items() if not found["quick"]}
        rows = speed_rows(results)
        lines += ["| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |" for row in rows]
    return "\n".join(lines)


def accuracy(folder: Path) -> str:
    """The table of what the stored benchmarks' two recipes learn in one epoch of MRPC."""
    lines = ["| machine | recipe | accuracy after one epoch | seeds |", "| --- | --- | --- | --- |"]
    for results in _benchmarks(folder, "accuracy"):
        for side, found in results["workloads"]["accuracy"]["sides"].items():
            spread = "" if found["standard_deviation"] is None else f" ± {found['standard_deviation']:.4f}"
            recipe = f"nutshell ({SIDES[side]})" if side in SIDES else side
            lines.append(
                f"| {results['device']} | {recipe} | {found['mean']:.4f}{spread} | {', '.join(found['by_seed'])} |"
            )
    return "\n".join(lines)


def growth(folder: Path) -> str:
    """The table of one training with more and more examples: how its time and memory grow."""
    lines = ["| machine | examples | seconds | examples a second | peak memory |", "| --- | --- | --- | --- | --- |"]
    for results in _benchmarks(folder, "growth"):
        for found in results["workloads"]["growth"]["measurements"]:
            memory = f"{found['peak_memory_bytes'] / 2**30:.2f} GiB"
            row = (results["device"], f"{found['examples']:,}", f"{found['seconds']:,.0f}")
            lines.append("| " + " | ".join((*row, _rate(found["examples_per_second"]), memory)) + " |")
    return "\n".join(lines)


def _benchmarks(folder: Path, workload: str) -> list[dict]:
    """The stored benchmarks that hold a workload, but no trial measurement (--quick) of it."""
    found = stored(folder)
    return [one for one in found if workload in one["workloads"] and not one["workloads"][workload]["quick"]]


def speed_rows(results: dict) -> list[tuple[str, ...]]:
    """One machine's rows of the speed table, a cell for each of SPEED; what was not measured is empty."""
    rows = []
    for workload, found in results["workloads"].items():
        sides, ratios = found.get("sides", {}), found.get("ratios", {})
        for side in [side for side in SIDES if side in ratios]:
            pair, unit = (sides["stock"], sides[side]), found["unit"]
            ratio = "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**ratios[side])
            memory = [one.get("peak_gpu_memory_bytes") or one["peak_memory_bytes"] for one in pair]
            rows.append(
                (
                    workload,
                    results["device"],
                    unit.removesuffix("_per_second") + " a second",
                    _rate(pair[0][unit]),
                    f"{_rate(pair[1][unit])} ({SIDES[side]})",
                    ratio,
                    _both([_percent(one.get("padding_share")) for one in pair]),
                    _both([f"{size / 2**30:.2f} GiB" for size in memory]),
                    _both([_percent(one.get("mfu")) for one in pair]),
                )
            )
    return rows


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _both(pair: list[str]) -> str:
    return " / ".join(pair) if all(pair) else ""


def renewed(text: str, tables: dict[str, str]) -> str:
    """A README's text with what stands between each name's two marks replaced by its table."""
    for name, table in tables.items():
        first, last = START.format(name), END.format(name)
        before, start, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not (start and end):
            raise SystemExit(f"the text lacks the line {first!r} or {last!r}")
        text = f"{before}{first}\n{table}\n{last}{after}"
    return text


def tables(folder: Path) -> dict[str, str]:
    """Every table of a README, by name: of experiments/results, and of experiments/benchmarks/results beside it."""
    benchmarks = folder.parent / "benchmarks" / "results"
    summaries = stored(folder)
    return {
        "results": markdown(summaries),
        "compression": compression(summaries),
        **{table.__name__: table(benchmarks) for table in (speed, accuracy, growth)},
    }


if __name__ == "__main__":
    readme, results = map(Path, sys.argv[1:])
    readme.write_text(renewed(readme.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")
