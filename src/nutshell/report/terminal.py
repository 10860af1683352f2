"""What the commands print."""

import os
import re
import sys
from pathlib import Path

from nutshell.experiment.blocks import Experiment
from nutshell.machine import launch

MOST_SAMPLES = 24  # printed; samples.jsonl has all
ONE_SEED = ". With one seed of either it says so of these two models: the chance of training is in no interval"


def print_summary(summary: dict, output: Path) -> None:
    """The table that ends an experiment's run, and of prompts what the first seed made of them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nutshell.report.tables import cells

    seeds = ", ".join(map(str, summary["seeds"]))
    beside = []
    if packed := summary.get("compressors"):
        rates = ", ".join(f"{name} {bits:.4f}" for name, bits in packed.items())
        beside = [f"bits per byte of the same text: {rates}"]
    table = Table(
        title=f"{summary['experiment']}  seed{'s' * (len(summary['seeds']) > 1)} {seeds}",
        caption=escape("\n".join([summary["evaluated_on"]["text"], *beside, str(output / summary["experiment"])])),
    )
    for column in ("metric", "value", "95 % interval", "reference band", ""):
        table.add_column(column, justify="left" if column in ("metric", "") else "right")
    for row in cells(summary):
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 110)
    if summary["resolved"]["task"] == "generate":
        _print_samples(output / summary["experiment"] / f"seed-{summary['seeds'][0]}" / "samples.jsonl", console)
    console.print(table)


def _print_samples(file: Path, console) -> None:
    """The first seed's continuations, their blank lines drawn together: `prompt|what follows it`, and how it came
    about."""
    from rich.text import Text

    from nutshell.machine.files import read_lines

    for number, row in enumerate(read_lines(file)):
        if number == MOST_SAMPLES:
            console.print(f"... the rest is in {file}\n", highlight=False)
            break
        how = "greedy" if row["sample"] is None else f"sample {row['sample'] + 1}"
        cost = "" if row["mean_nats"] is None else f", {row['mean_nats']:.2f} nats per token"
        console.print(Text(f"{how}, {row['tokens']} tokens{cost}, {row['ended']}", style="dim"))
        text = re.sub(r"\n{3,}", "\n\n", row["continuation"].rstrip())
        console.print(Text.assemble((row["prompt"], "bold"), ("|", "dim"), text, "\n"))


def print_experiment(experiment: Experiment, output: Path) -> None:
    """An experiment with all defaults, and what it will take."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    from nutshell.data.datasets import DATASETS, TEXTS
    from nutshell.tasks.plan import plan

    shown = {
        key: CommentedMap(value) if isinstance(value, dict) else value for key, value in experiment.resolved().items()
    }
    shown["training"] = CommentedMap(launch.training(experiment))
    for key in shown["training"].keys() - experiment.training.keys():
        shown["training"].yaml_add_eol_comment("of global_batch_size, by this launch", key)
    fallbacks = {"training": experiment.training_defaults()}
    data = getattr(experiment, "data", None)
    if data and not data.path and not os.environ.get("NUTSHELL_DATA"):
        fallbacks["data"] = {"revision": (DATASETS if experiment.task == "classify" else TEXTS)[data.name].revision}
    for block, defaults in fallbacks.items():
        for key, value in defaults.items():
            if shown[block].get(key) is None:
                shown[block][key] = value
                shown[block].yaml_add_eol_comment("default", key)
    yaml = YAML()
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml.dump(shown, sys.stdout)
    for seed in experiment.seeds:
        print(f"# results:  {output / experiment.place / f'seed-{seed}'}")
    for line in plan(experiment):
        print(f"# {line}")


def print_comparison(found) -> None:
    """The table of a comparison.Comparison, and McNemar's test below it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    seeds = [", ".join(map(str, numbers)) for numbers in found.seeds]
    over_seeds = any(row.over_seeds for row in found.rows)
    table = Table(
        title=escape(f"A: {found.labels[0]} (seeds {seeds[0]})\nB: {found.labels[1]} (seeds {seeds[1]})"),
        caption=f"the same {found.count:,} {found.unit} in both; 95 % intervals: paired bootstrap, and Welch's t over "
        f"seeds; one is better where no interval holds 0{'' if over_seeds else ONE_SEED}",
    )
    for column in ("metric", "better", "A", "B", "A - B", f"over {found.unit}", "over seeds", "verdict"):
        table.add_column(column, justify="left" if column in ("metric", "better", "verdict") else "right")
    for row in found.rows:
        spans = ["{:+.4f} to {:+.4f}".format(*ends) if ends else "" for ends in (row.interval_95, row.over_seeds)]
        verdict = "not told apart" if row.better is None else f"{'AB'[row.better]} is better"
        direction = "higher" if row.higher_is_better else "lower"
        values = (f"{value:.4f}" for value in row.values)
        table.add_row(row.metric, direction, *values, f"{row.difference:+.4f}", *spans, verdict)
    console.print(table)
    for test in found.mcnemar:
        console.print(
            f"McNemar's exact test, seeds {test.seeds[0]} and {test.seeds[1]}: only A right on "
            f"{test.only_one_right:,}, only B on {test.only_other_right:,}, p = {test.p_value:.4g}",
            highlight=False,
        )
