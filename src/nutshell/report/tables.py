"""Summaries -> the tables of the terminal, of `nutshell report --format` and of every README."""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nutshell.bits.figures.codes import Code, by_text
from nutshell.bits.figures.intervals import FEWEST_UNITS
from nutshell.machine.launch import precision
from nutshell.report.results.benchmark import Score, standings
from nutshell.report.results.result import Table
from nutshell.report.results.summary import Estimate, Summary, read_summaries

START, END = "<!-- {}: written by `make results` -->", "<!-- end of {} -->"
BAR = "\\|"  # of a cell: the sign alone would end it, in code too
NOTHING_STORED = "No results of this chapter are stored yet."


class Row(NamedTuple):
    """A metric as text; empty where there is nothing to say.

    Attributes:
        value: The mean, with ± the standard deviation over seeds.
        interval: 95 %, and what it is over.
        band: The published one, and inside, above or below it.
        baseline: How the figure compares with it, its value and name.
    """

    metric: str
    value: str
    interval: str
    band: str
    baseline: str


def decimals(estimate: Estimate) -> int:
    """How many decimals a figure deserves: two digits of half its interval; four without one."""
    low, high = estimate.interval_95 or (0.0, 0.0)
    return max(0, 1 - math.floor(math.log10((high - low) / 2))) if high > low else 4


def row(summary: Summary, name: str) -> Row:
    """One metric of an experiment."""
    estimate = summary.metrics[name]
    places = decimals(estimate)
    value = "" if estimate.mean is None else f"{estimate.mean:.{places}f}"
    if estimate.standard_deviation is not None:
        value += f" ± {estimate.standard_deviation:.{places}f}"
    interval = ""
    if estimate.interval_95:
        low, high = estimate.interval_95
        few = summary.evaluated_on.count < FEWEST_UNITS
        over = f"only {summary.evaluated_on.count} {summary.evaluated_on.units}" if few else estimate.over
        interval = f"{low:.{places}f} to {high:.{places}f} over {over}"
    band = summary.band(name)
    published = ": ".join(filter(None, ["{:g} to {:g}".format(*band), summary.verdict(name)])) if band else ""
    best = summary.best_baseline(name)
    baseline = f"{best[1]:.{places}f} ({best[0]})" if best else ""
    standing = summary.standing(name)
    return Row(name, value, interval, published, f"{standing} {baseline}" if standing else baseline)


def rows(summary: Summary) -> list[Row]:
    """A row for each metric."""
    return [row(summary, name) for name in summary.metrics]


def cells(table: Table) -> dict[str, Any]:
    """A table of variants with its figures as they are shown."""
    rows = [(name, ["" if value is None else f"{value:.4f}" for value in values]) for name, values in table.rows]
    return {"title": table.title, "columns": table.columns, "rows": rows}


def variants(summaries: Sequence[Summary]) -> str:
    """The tables of variants of each experiment."""
    texts = []
    for summary in summaries:
        for table in map(cells, summary.tables):
            lines = [(f"`` {name.replace('|', BAR)} ``", *values) for name, values in table["rows"]]
            texts.append(
                f"{table['title']} of `{summary.experiment}`:\n\n{markdown_table(('', *table['columns']), lines)}"
            )
    return "\n\n".join(texts)


def headline(summary: Summary) -> Row:
    """The row that answers the experiment's question: of its first metric."""
    return row(summary, next(iter(summary.metrics)))


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, without the columns that are empty in every row."""
    places = [place for place in range(len(head)) if not lines or any(line[place] for line in lines)]
    every = [[line[place] for place in places] for line in (head, ["---"] * len(head), *lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in every)


def markdown(summaries: Sequence[Summary]) -> str:
    """The results table, a row for each metric of each experiment."""
    head = ("experiment", "metric", "value", "95 % interval", "published band", "baseline")
    head += ("seeds", "precision, device", "wall time a seed")
    lines = []
    for summary in summaries:
        seconds = summary.wall_seconds / len(summary.seeds)
        last = [", ".join(map(str, summary.seeds)), f"{precision(summary.mixed_precision)}, {summary.device}"]
        last += [f"{seconds:,.0f} s{' after resuming' * summary.resumed}"]
        for number, cells in enumerate(rows(summary)):
            lines.append([f"`{summary.experiment}`", *cells, *last] if number == 0 else ["", *cells, "", "", ""])
    return markdown_table(head, lines)


def overview(summaries: Sequence[Summary]) -> str:
    """A row for each experiment that has a figure with an interval: the figure that its question asks for, and what it
    is to be compared with."""
    lines = []
    for summary in summaries:
        cells = headline(summary)
        if cells.interval:
            other = f"published {cells.band}" if cells.band else cells.baseline
            seconds = f"{summary.wall_seconds / len(summary.seeds):,.0f} s"
            lines.append([f"`{summary.experiment}`", cells.metric, cells.value, cells.interval, other, seconds])
    return markdown_table(("experiment", "figure", "value", "95 % interval", "to compare with", "time a seed"), lines)


def compression(summaries: Sequence[Summary]) -> str:
    """The table of language models next to everybody's compressors on the same text, in bits per byte."""
    models = [one for one in summaries if one.baseline.get("bits_per_byte") and "perplexity" in one.metrics]
    packers = list(models[0].baseline["bits_per_byte"]) if models else []
    head = ["experiment", "parameters", "training tokens", "tokens a second", "perplexity", "bits per byte", *packers]
    lines = []
    for summary in models:
        rate = summary.tokens_per_second
        lines.append(
            [
                f"`{summary.experiment}`",
                f"{summary.parameters.all:,}",
                f"{summary.training_tokens or 0:,}",
                f"{rate:,.0f}" if rate else "",
                f"{summary.metrics['perplexity'].mean:.2f}",
                f"**{summary.metrics['bits_per_byte'].mean:.3f}**",
                *(f"{summary.baseline['bits_per_byte'][name]:.3f}" for name in packers),
            ]
        )
    return markdown_table(head, lines)


def codes(summaries: Sequence[Summary]) -> str:
    """A table for each text and length: every code of it, the shortest total first."""
    texts = []
    for text, lengths in by_text(code for summary in summaries for code in summary.codes).items():
        for alike in lengths:
            forms = list(dict.fromkeys(form for code in alike for form in code.model_bytes))
            head = ("code", "bytes", "bits per byte", "over the ideal", "kB/s, coding", "kB/s, decoding")
            head += (*(f"model, {form}" for form in forms), "code and model")
            lines = [_code(code, forms) for code in alike]
            texts.append(f"{text}, {alike[0].text_bytes:,} bytes:\n\n{markdown_table(head, lines)}")
    return "\n\n".join(texts)


def _code(code: Code, forms: Sequence[str]) -> list[str]:
    if code.code_bytes is None:
        return [code.name, "failed: its decoder did not return the text", *[""] * (5 + len(forms))]
    over = "" if code.overhead is None else f"{code.overhead:.4%}"
    rates = [f"{code.text_bytes / 1000 / one:,.1f}" for one in (code.compress_seconds, code.decompress_seconds)]
    weights = [f"{code.model_bytes[form]:,}" if form in code.model_bytes else "" for form in forms]
    sizes = [f"{code.code_bytes:,}", f"{code.bits_per_byte:.4f}"]
    return [code.name, *sizes, over, *rates, *weights, f"{code.total_bytes:,}"]


def score(score: Score) -> list[Row]:
    """A row for each metric that counts for a benchmark's task; none for what has not been measured."""
    return [row(score.summary, name) for name in score.summary.benchmark.metrics if name in score.summary.metrics]


def benchmarks(summaries: Sequence[Summary]) -> str:
    """For each model and benchmark with several tasks: the mean over them, and a row for each task."""
    texts = []
    for standing in standings(summaries):
        lines = []
        for one in standing.scores:
            rows, on = score(one), one.summary.evaluated_on
            cells = [f"{cells.metric} {cells.value}" for cells in rows]
            bands = [f"{cells.metric} {cells.band}" for cells in rows if cells.band]
            value = "" if one.value is None else f"{one.value:.3f}"
            seeds = ", ".join(map(str, one.summary.seeds))
            where = [f"{on.count:,} {on.units}, {on.part}", seeds, f"`{one.summary.experiment}`"]
            lines.append([one.task, ", ".join(cells), value, "; ".join(bands), *where])
        head = ("task", "figures", "their mean", "published band", "measured on", "seeds", "experiment")
        texts.append(f"{standing.benchmark}, `{standing.model}`. {standing.text}\n\n{markdown_table(head, lines)}")
    return "\n\n".join(texts)


def figures(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """A flat row for each metric of each experiment, numbers in full precision, None where there is none."""
    flat = []
    for summary in summaries:
        for name, estimate in summary.metrics.items():
            low, high = estimate.interval_95 or (None, None)
            band_low, band_high = summary.band(name) or (None, None)
            line = {"experiment": summary.experiment, "metric": name, "value": estimate.mean}
            line |= {"deviation": estimate.standard_deviation, "interval_low": low, "interval_high": high}
            baseline, baseline_value = summary.best_baseline(name) or (None, None)
            line |= {"band_low": band_low, "band_high": band_high}
            line |= {"baseline": baseline, "baseline_value": baseline_value, "seeds": summary.seeds}
            flat.append(line | {"device": summary.device, "precision": precision(summary.mixed_precision)})
    return flat


def comma_separated(summaries: Sequence[Summary]) -> str:
    """The table as CSV with a header; the seeds of a row are one field, separated by spaces."""
    lines, file = figures(summaries), io.StringIO()
    writer = csv.DictWriter(file, lines[0] if lines else ["experiment"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**line, "seeds": " ".join(map(str, line["seeds"]))} for line in lines)
    return file.getvalue().removesuffix("\n")


def latex(summaries: Sequence[Summary]) -> str:
    """The table as a LaTeX tabular that needs no package."""
    lines = [("experiment", "metric", "value", "95 % interval", "published band", "seeds", "precision, device")]
    for summary in summaries:
        where = f"{precision(summary.mixed_precision)}, {summary.device}"
        for cells in rows(summary):
            lines.append((summary.experiment, *cells[:4], ", ".join(map(str, summary.seeds)), where))
    body = [" & ".join(map(_latex_text, line)) + r" \\" for line in lines]
    begin = rf"\begin{{tabular}}{{{'l' * len(lines[0])}}}"
    return "\n".join([begin, r"\hline", body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}"])


def _latex_text(text: str) -> str:
    """Text that LaTeX prints as it is."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(special.get(sign, sign) for sign in text)


FORMATS = {
    "markdown": lambda summaries: "\n\n".join(filter(None, [markdown(summaries), benchmarks(summaries)])),
    "csv": comma_separated,
    "json": lambda summaries: json.dumps(figures(summaries), indent=2, ensure_ascii=False),
    "latex": latex,
}


def renewed(text: str, tables: Mapping[str, str]) -> str:
    """A README's text with what is between the two marks of each of these tables replaced by it.

    Raises:
        SystemExit: If a mark has no end.
    """
    for name in re.findall(r"^<!-- (\w+): written by", text, re.M):
        if name not in tables:
            continue
        first, last = START.format(name), END.format(name)
        before, start, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not (start and end):
            raise SystemExit(f"{first}: the line {last} after it is missing")
        text = f"{before}{first}\n{tables[name]}\n{last}{after}"
    return text


def tables(folder: Path, chapter: str | None = None) -> dict[str, str]:
    """Every table that a README may have, by name.

    Args:
        folder: experiments/results.
        chapter: Whose experiments are the rows; None: all.
    """
    summaries = [one for one in read_summaries(folder) if chapter in (None, one.experiment.split("/")[0])]
    return {
        "headline": overview(summaries),
        "results": markdown(summaries) if summaries else NOTHING_STORED,
        "compression": compression(summaries),
        "variants": variants(summaries) or NOTHING_STORED,
        "benchmarks": benchmarks(summaries) or NOTHING_STORED,
        "codes": codes(summaries) or NOTHING_STORED,
    }


def readmes(folder: Path) -> dict[Path, str | None]:
    """Every README whose tables come from experiments/results, with its chapter: None at the top."""
    experiments = folder.resolve().parent
    chapters = {file: file.parent.name for file in sorted(experiments.glob("*/README.md"))}
    return {experiments.parent / "README.md": None, **chapters}


if __name__ == "__main__":
    results = Path(sys.argv[1])
    for file, chapter in readmes(results).items():
        file.write_text(renewed(file.read_text(encoding="utf-8"), tables(results, chapter)), encoding="utf-8")
