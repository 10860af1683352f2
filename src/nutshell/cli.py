"""`nutshell run` and `nutshell show`: arguments and printing, nothing else."""

import argparse
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nutshell import interruption, launch
from nutshell.experiment import LostProcess, UserError, load
from nutshell.schema import Experiment

USAGE = """\
examples:
  nutshell run experiments/quickstart/pairs.yaml
  nutshell run experiments/finetune/mrpc.yaml training.num_train_epochs=1 --seed 7
  nutshell run experiments/quickstart/language_model.yaml experiments/quickstart/prompts.yaml
  nutshell show experiments/finetune/imdb.yaml data.max_tokens=256
  accelerate launch --config_file accelerate_config.yaml -m nutshell run experiments/finetune/mrpc.yaml
"""
MOST_SAMPLES = 24  # printed; samples.jsonl has all


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; 0 if all went well, 2 if the user has something to mend, 1 if another process of the
    launch was lost, 130 on Ctrl-C, 143 on SIGTERM."""
    arguments = _arguments(argv)
    rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
    logger = logging.getLogger("nutshell")
    logger.handlers[:] = [logging.StreamHandler(sys.stderr)]
    logger.propagate = False
    logger.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    try:
        if arguments.command == "run":
            interruption.listen(rank == 0)
            _run(_experiments(arguments), arguments)
        elif rank == 0:
            for experiment in _experiments(arguments):
                _show(experiment, arguments)
    except UserError as error:
        if local_rank:  # once on each machine: if the first process fails too, the launcher ends this one meanwhile
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(5)
        print(f"nutshell: {error}", file=sys.stderr)
        return 2
    except LostProcess as error:
        print(f"nutshell: {error}", file=sys.stderr)
        return 1
    except interruption.Terminated:
        if local_rank == 0:
            print(f"nutshell: ended by SIGTERM; {_again(arguments)}", file=sys.stderr)
        return interruption.EXIT_CODE
    except KeyboardInterrupt:
        print(f"nutshell: interrupted; {_again(arguments)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `nutshell show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _again(arguments: argparse.Namespace) -> str:
    force = " without --force" * (arguments.command == "run" and arguments.force)
    return f"the same command{force} goes on from the newest checkpoint, or begins if there is none"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; files and overrides may stand before, between and after the options."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if options := [word for word in rest if word.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    arguments.words += rest
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nutshell",
        description="Small, exact experiments with BERT and GPT-2 on Hugging Face's Trainer: one YAML, one command.",
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in (
        ("run", "run every seed of each experiment that is not complete, resume what was interrupted"),
        (
            "show",
            "the experiment with all defaults, its examples, steps and tokens, and where its results land",
        ),
    ):
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.add_argument("words", nargs="+", metavar="EXPERIMENT.yaml | key=value", help="files, then overrides")
        command.add_argument("--seed", type=int, action="append", metavar="N", help="instead of the file's seeds")
        command.add_argument("--output", type=Path, default=Path("outputs"), metavar="DIR", help="root of all results")
        if name == "run":
            command.add_argument("--force", action="store_true", help="discard what the seeds' folders hold")
    return parser


def _experiments(arguments: argparse.Namespace) -> list[Experiment]:
    """Every file of the command line, checked before the first one runs."""
    overrides = [word for word in arguments.words if re.match(r"[A-Za-z_][\w.]*=", word)]
    files = [word for word in arguments.words if word not in overrides]
    if not files:
        raise UserError("no experiment file among the arguments")
    if arguments.seed:
        overrides.append(f"seeds={arguments.seed}")
    found, problems = {}, []
    for file in files:
        try:
            experiment = load(file, overrides)
            launch.training(experiment)
        except UserError as error:
            problems.append(str(error) if str(error).startswith(("command line", file)) else f"{file}: {error}")
            continue
        if experiment.place in found:
            problems.append(f"{file}: its results would land in {arguments.output / experiment.place}, as another's do")
        found[experiment.place] = experiment
    if problems:
        raise UserError("\n".join(problems))
    return list(found.values())


def _run(experiments: list[Experiment], arguments: argparse.Namespace) -> None:
    from nutshell import runner

    for experiment in experiments:
        summary = runner.run(experiment, arguments.output, arguments.force)
        if summary:
            _print_summary(summary, arguments.output)
    runner.end()


def _print_summary(summary: dict, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from nutshell.report import cells

    seeds = ", ".join(map(str, summary["seeds"]))
    beside = []
    if packed := summary.get("compressors"):
        rates = ", ".join(f"{name} {bits:.4f}" for name, bits in packed.items())
        beside = [f"bits per byte of the same text: {rates}"]
    table = Table(
        title=f"{summary['experiment']}  seed{'s' * (len(summary['seeds']) > 1)} {seeds}",
        caption="\n".join([summary["evaluated_on"]["text"], *beside, str(output / summary["experiment"])]),
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

    from nutshell.record import read_lines

    for number, row in enumerate(read_lines(file)):
        if number == MOST_SAMPLES:
            console.print(f"... the rest is in {file}\n", highlight=False)
            break
        how = "greedy" if row["sample"] is None else f"sample {row['sample'] + 1}"
        cost = "" if row["mean_nats"] is None else f", {row['mean_nats']:.2f} nats per token"
        console.print(Text(f"{how}, {row['tokens']} tokens{cost}, {row['ended']}", style="dim"))
        text = re.sub(r"\n{3,}", "\n\n", row["continuation"].rstrip())
        console.print(Text.assemble((row["prompt"], "bold"), ("|", "dim"), text, "\n"))


def _show(experiment: Experiment, arguments: argparse.Namespace) -> None:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    from nutshell.data.datasets import DATASETS, TEXTS
    from nutshell.plan import plan

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
        print(f"# results:  {arguments.output / experiment.place / f'seed-{seed}'}")
    for line in plan(experiment):
        print(f"# {line}")
