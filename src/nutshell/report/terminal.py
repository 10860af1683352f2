"""What the commands print."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from nutshell.machine.errors import UserError
from nutshell.machine.files import read_lines
from nutshell.report import tables
from nutshell.report.comparison import Comparison
from nutshell.report.page.texts import SURPRISES_NATS, surprise, visible
from nutshell.report.results.summary import Summary, spread

MOST_SAMPLES = 24  # printed; samples.jsonl has all
SHADES = ("", *(f"black on {colour}" for colour in ("#fdf0d5", "#fbdca6", "#f7bf78", "#f09a56")))  # by surprise


def print_summary(summary: Summary, output: Path) -> None:
    """Prints the table that ends a single experiment's run; before it the first seed's texts, if it wrote any."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    seeds = ", ".join(map(str, summary.seeds))
    notes = [note[0].upper() + note[1:] for note in summary.notes]
    caption = [summary.evaluated_on.text, *notes, spread(summary), str(output / summary.experiment)]
    title = [f"{summary.experiment}, seed{'s' * (len(summary.seeds) > 1)} {seeds}", summary.question]
    console = Console(width=None if sys.stdout.isatty() else 110)
    width = min(console.width, max(map(len, caption)))  # or a narrow table breaks the lines below it
    table = Table(title=escape("\n".join(filter(None, title))), caption=escape("\n".join(caption)), min_width=width)
    _fill(table, ("metric", "value", "95 % interval", "published band", "baseline"), tables.rows(summary))
    if summary.training_tokens is None:
        _print_samples(output / summary.experiment / f"seed-{summary.seeds[0]}" / "samples.jsonl", console)
    console.print(table)
    for variants in map(tables.cells, summary.tables):
        table = Table(title=escape(variants["title"]))
        _fill(table, ["", *variants["columns"]], [(name, *values) for name, values in variants["rows"]])
        console.print(table)


def print_figure(summary: Summary) -> None:
    """Prints one experiment's main figure in a line; the table of several comes after the last one."""
    row = tables.headline(summary)
    print(f"{summary.experiment}: {row.metric} {row.value}{f' ({row.interval})' * bool(row.interval)}", flush=True)


def print_figures(summaries: Sequence[Summary]) -> None:
    """Prints one table of several experiments: the question of each, and its main figure with its baseline."""
    from rich.console import Console
    from rich.table import Table

    rows = [(one.experiment, one.question or "", *tables.headline(one)) for one in summaries]
    table = Table()
    columns = ("experiment", "question", "metric", "value", "95 % interval", "published band", "baseline")
    _fill(table, columns, rows)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def _fill(table, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Fills a table; a column that is empty in every row is left out."""
    from rich.markup import escape

    places = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    for place in places:
        table.add_column(columns[place], justify="right" if columns[place] in ("value", "95 % interval") else "left")
    for row in rows:
        table.add_row(*(escape(row[place]) for place in places))


def print_next(summaries: Sequence[Summary], output: Path) -> None:
    """Prints the command that is useful next: a comparison if two experiments were measured on the same units, else
    their report."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for summary in summaries:
        if any(estimate.interval_95 for estimate in summary.metrics.values()):
            groups.setdefault((summary.evaluated_on.units, summary.evaluated_on.sha256), []).append(summary)
    pair = next((group for group in groups.values() if len(group) > 1), None)
    folders = [str(output / summary.experiment) for summary in pair or summaries]
    words = ["compare", *folders] if pair else ["report", os.path.commonpath(folders)]
    program = Path(sys.argv[0])  # as a path where its environment is not active
    inactive = program.name == "nutshell" and not shutil.which("nutshell")
    command = [os.path.relpath(program) if inactive else "nutshell", *words]
    print(f"next: {shlex.join(command)}")


def _print_samples(file: Path, console) -> None:
    """Prints the first seed's texts as `prompt|continuation`, without runs of blank lines, each below a line that says
    how it was made."""
    from rich.text import Text

    for number, row in enumerate(read_lines(file)):
        if number == MOST_SAMPLES:
            console.print(f"... the rest is in {file}\n", highlight=False)
            break
        how = "greedy" if row["sample"] is None else f"sample {row['sample'] + 1}"
        cost = "" if row["mean_nats"] is None else f", {row['mean_nats']:.2f} nats per token"
        console.print(Text(f"{how}, {row['tokens']} tokens{cost}, {row['ended']}", style="dim"))
        text = re.sub(r"\n{3,}", "\n\n", row["continuation"].rstrip())
        console.print(Text.assemble((row["prompt"], "bold"), ("|", "dim"), text, "\n"))


class Stream:
    """Prints texts piece by piece: on a terminal after their prompt, each piece shaded by its surprise; elsewhere the
    texts alone, as they are.

    Args:
        prompt: What is continued.
        answers: Whether it is a question, which its answer need not repeat.
        several: Whether each text is below its number.
    """

    def __init__(self, prompt: str, answers: bool, several: bool):
        from rich.console import Console

        self.prompt, self.answers, self.several, self.begun = prompt, answers, several, False
        self.console = Console(highlight=False, soft_wrap=True)

    def begin(self, sample: int | None) -> None:
        """Begins a text."""
        self.begun = True
        if sample:
            self._put("\n", "")
        if self.several:
            self._put(f"sample {sample + 1}:\n", "dim")
        if self.console.is_terminal and not self.answers:
            self._put(self.prompt, "bold")

    def add(self, text: str, nats: float) -> None:
        """Prints a piece."""
        self._put(text, SHADES[surprise(nats)])

    def end(self) -> None:
        """Ends the last text; on a terminal, says what the shades are."""
        self._put("\n", "")
        if self.console.is_terminal:
            self._put("nats: ", "dim")
            for level, (low, high) in enumerate(pairwise((0, *SURPRISES_NATS, None))):
                self._put(f" {low} to {high} " if high else f" {low} and more ", SHADES[level])
            self._put("\n", "")

    def _put(self, text: str, style: str) -> None:
        from rich.text import Text

        try:
            if self.console.is_terminal:
                self.console.print(Text(visible(text), style), end="")
            else:
                print(text, end="", flush=True)
        except BrokenPipeError:  # nobody reads on: no mistake
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again as it ends
            raise UserError(f"standard output: cannot be written: {error.strerror}") from None
        except UnicodeEncodeError as error:
            sign = ord(error.object[error.start])
            raise UserError(
                f"standard output: its encoding, {error.encoding}, has no U+{sign:04X}; set PYTHONIOENCODING=utf-8"
            ) from None


def print_experiment(experiment, output: Path, plan: Sequence[str]) -> None:
    """Prints an experiment with all defaults, where its results go, and the lines of its plan."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    tree = {
        key: CommentedMap(value) if isinstance(value, dict) else value for key, value in experiment.resolved().items()
    }
    for key in experiment.arguments.keys() - tree.get("training", {}).keys():
        tree["training"][key] = experiment.arguments[key]
        tree["training"].yaml_add_eol_comment("of global_batch_size, by this launch", key)
    for block, defaults in experiment.fallbacks().items():
        for key, value in defaults.items() if block in tree else ():
            if tree[block].get(key) is None:
                tree[block][key] = value
                tree[block].yaml_add_eol_comment("default", key)
    yaml = YAML()
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml.dump(tree, sys.stdout)
    for seed in experiment.seeds:
        print(f"# results:  {output / experiment.place / f'seed-{seed}'}")
    for line in plan:
        print(f"# {line}")


def print_comparison(comparison: Comparison) -> None:
    """Prints the table of a comparison, and McNemar's test below it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    seeds = [", ".join(map(str, numbers)) for numbers in comparison.seeds]
    caption = f"the same {comparison.count:,} {comparison.unit} in both; one is better where the interval leaves out 0"
    if comparison.too_few:
        caption += f"; {comparison.count} are too few to tell"
    elif min(map(len, comparison.seeds)) == 1:
        caption += "; with one seed, variation between seeds is not included"
    table = Table(
        title=escape(f"A: {comparison.labels[0]} (seeds {seeds[0]})\nB: {comparison.labels[1]} (seeds {seeds[1]})"),
        caption=caption,
    )
    for column in ("metric", "better", "A", "B", "A - B", "95 % interval", "over", "verdict"):
        table.add_column(column, justify="right" if column in ("A", "B", "A - B", "95 % interval") else "left")
    for row in comparison.rows:
        verdict = "too few to tell" if comparison.too_few else "cannot be told apart"
        verdict = verdict if row.better is None else f"{'AB'[row.better]} is better"
        direction = "higher" if row.higher_is_better else "lower"
        values = (f"{value:.4f}" for value in row.values)
        interval = "{:+.4f} to {:+.4f}".format(*row.interval_95)
        table.add_row(row.metric, direction, *values, f"{row.difference:+.4f}", interval, row.over, verdict)
    console.print(table)
    for test in comparison.mcnemar:
        console.print(
            f"McNemar's exact test, seeds {test.seeds[0]} and {test.seeds[1]}: only A right on "
            f"{test.only_first_right:,}, only B on {test.only_second_right:,}, p = {test.p_value:.4g}",
            highlight=False,
        )
