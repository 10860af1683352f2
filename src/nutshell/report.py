"""Results of many runs -> tables that people read: in the terminal, in README.md."""

import json
import sys
from pathlib import Path

START, END = "<!-- {}: written by `make results` -->", "<!-- end of {} -->"
HEAD = "| experiment | metric | value | 95 % interval | published band | seeds | precision, device | wall time a seed |"


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
        band = (summary["resolved"].get("reference") or {}).get(name)
        verdict = ""
        if band:
            verdict = "below" if entry["mean"] < band[0] else "above" if entry["mean"] > band[1] else "inside"
        rows.append((name, value, interval, "{} to {}".format(*band) if band else "", verdict))
    return rows


def markdown(folder: Path) -> str:
    """The results table of a folder of stored summaries (`<chapter>/<name>.json`), a row for each metric."""
    lines = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
    for file in sorted(folder.rglob("*.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        seconds = summary["wall_seconds"] / len(summary["seeds"])
        precision = {"no": "fp32"}.get(summary["mixed_precision"], summary["mixed_precision"])
        where = f"{precision}, {summary['device']}"
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


def compression(folder: Path) -> str:
    """The table of stored language models beside everybody's compressors on the same text, in bits per byte."""
    head = ["experiment", "parameters", "training tokens", "tokens a second", "perplexity", "bits per byte"]
    summaries = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.json"))]
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
    """Every table of a README, by name."""
    return {"results": markdown(folder), "compression": compression(folder)}


if __name__ == "__main__":
    readme, results = map(Path, sys.argv[1:])
    readme.write_text(renewed(readme.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")
