"""The stored measurements of benchmarks -> the tables of this chapter's README: python tables.py writes them there."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nutshell.machine.files import read_json
from nutshell.report.page.texts import count
from nutshell.report.tables import markdown_table, renewed

HERE = Path(__file__).parent
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
SIDES = {
    "nutshell": "bf16",
    "nutshell_fp32": "fp32",
    "nutshell_compiled": "bf16, compiled",
    "stock_bf16": "stock in bf16",
}


def stored(folder: Path) -> list[dict[str, Any]]:
    """The results of each machine, without trial measurements (--quick)."""
    every = [read_json(file) for file in sorted(folder.glob("*.json"))]
    for results in every:
        workloads = results["workloads"]
        results["workloads"] = {name: workload for name, workload in workloads.items() if not workload["quick"]}
    return every


def speed(folder: Path) -> str:
    """The table of stored benchmarks: a row for each machine, workload and way in which nutshell ran."""
    rows = [row for results in stored(folder) for row in speed_rows(results)]
    return markdown_table(SPEED, [(f"`{name}`", *cells) for name, *cells in rows])


def accuracy(folder: Path) -> str:
    """The table of what the two recipes learn in one epoch of MRPC."""
    rows = []
    for results in stored(folder):
        for side, figures in results["workloads"].get("accuracy", {}).get("sides", {}).items():
            spread = "" if figures["standard_deviation"] is None else f" ± {figures['standard_deviation']:.4f}"
            recipe = f"nutshell ({SIDES[side]})" if side in SIDES else side
            rows.append((results["device"], recipe, f"{figures['mean']:.4f}{spread}", ", ".join(figures["by_seed"])))
    return markdown_table(("machine", "recipe", "accuracy after one epoch", "seeds"), rows)


def growth(folder: Path) -> str:
    """The table of one training with more and more examples: how its time and memory grow."""
    rows = []
    for results in stored(folder):
        measurements = results["workloads"].get("growth", {}).get("measurements", ())
        for one in [one for one in measurements if "failed" not in one]:
            counts = (f"{one['examples']:,}", f"{one['seconds']:,.0f}", count(one["examples_per_second"]))
            rows.append((results["device"], *counts, _gibibytes(one["peak_memory_bytes"])))
    return markdown_table(("machine", "examples", "seconds", "examples a second", "peak memory"), rows)


def speed_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """One machine's rows of the speed table, a cell for each of SPEED; what was not measured is empty."""
    rows = []
    for name, workload in results["workloads"].items():
        sides, ratios, unit = workload.get("sides", {}), workload.get("ratios", {}), workload.get("unit")
        for side in [side for side in SIDES if side in ratios]:
            pair = (sides["stock"], sides[side])
            memory = [one.get("peak_gpu_memory_bytes") or one["peak_memory_bytes"] for one in pair]
            rows.append(
                (
                    name,
                    results["device"],
                    unit.removesuffix("_per_second") + " a second",
                    count(pair[0][unit]),
                    count(pair[1][unit]) + f" ({SIDES[side]})" * (name != "csv"),
                    "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**ratios[side]),
                    _both([one.get("padding_share") for one in pair], "{:.0%}".format),
                    _both(memory, _gibibytes),
                    _both([one.get("mfu") for one in pair], "{:.0%}".format),
                )
            )
    return rows


def _gibibytes(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _both(pair: Sequence[float | None], text: Callable[[float], str]) -> str:
    """The two as text; empty where one is not known."""
    return "" if None in pair else " / ".join(map(text, pair))


def tables(folder: Path = HERE / "results") -> dict[str, str]:
    """Every table by name."""
    return {table.__name__: table(folder) for table in (speed, accuracy, growth)}


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(renewed(readme.read_text(encoding="utf-8"), tables()), encoding="utf-8")
