"""The command line: `nutshell run`, `show`, `report`, `compare`."""

import argparse
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from nutshell.experiment.blocks import Experiment
from nutshell.experiment.load import load
from nutshell.machine import interruption, launch
from nutshell.machine.errors import LostProcess, UserError

USAGE = """\
examples:
  nutshell run experiments/quickstart/pairs.yaml
  nutshell run experiments/finetune/mrpc.yaml training.num_train_epochs=1 --seed 7
  nutshell run experiments/quickstart/language_model.yaml experiments/quickstart/prompts.yaml
  nutshell show experiments/finetune/imdb.yaml data.max_tokens=256
  nutshell report outputs/quickstart
  nutshell compare outputs/finetune/mrpc outputs/finetune/mrpc_minilm
  accelerate launch --config_file accelerate_config.yaml -m nutshell run experiments/finetune/mrpc.yaml
"""


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
        elif rank == 0 and arguments.command == "show":
            _show(_experiments(arguments), arguments)
        elif rank == 0:
            {"report": _report, "compare": _compare}[arguments.command](arguments)
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
    if arguments.command in ("run", "show"):
        arguments.words += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
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
            command.add_argument(
                "--no-track", action="store_true", help="nothing on Weights & Biases, not even off line"
            )
    purpose = "one page of results, with curves, intervals, errors and samples"
    command = commands.add_parser("report", help=purpose, description=purpose)
    command.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="with runs in it; default: outputs")
    command.add_argument("--output", type=Path, metavar="FILE", help="default: report.html; markdown: the terminal")
    command.add_argument("--format", choices=("html", "markdown"), default="html", help="markdown: the table alone")
    purpose = "whether one experiment, or seed, beats another on the same examples"
    command = commands.add_parser("compare", help=purpose, description=purpose)
    command.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="an experiment's folder, or a seed's")
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
    from nutshell.report import tracking

    mode = tracking.mode(not arguments.no_track)
    from nutshell.report import terminal  # takes seconds
    from nutshell.run import runner

    for experiment in experiments:
        summary = runner.run(experiment, arguments.output, arguments.force, mode)
        if summary:
            terminal.print_summary(summary, arguments.output)
    runner.end()


def _show(experiments: list[Experiment], arguments: argparse.Namespace) -> None:
    from nutshell.report import terminal

    for experiment in experiments:
        terminal.print_experiment(experiment, arguments.output)


def _report(arguments: argparse.Namespace) -> None:
    from nutshell.machine.files import write_text
    from nutshell.report import results

    found = results.experiments(results.find(arguments.folders or [Path("outputs")]))
    if arguments.format == "markdown":
        from nutshell.report import tables

        text = tables.markdown([experiment.summary for experiment in found if experiment.summary]) + "\n"
        for run in (run for experiment in found for run in experiment.runs if run.state != "complete"):
            print(f"not in the table: {run.folder}: {run.state}: {run.said}", file=sys.stderr)
        if arguments.output is None:
            print(text, end="")
            return
    else:
        from nutshell.report.page import page

        text = page.render(found, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))
    file = arguments.output or Path("report.html")
    try:
        if file.is_dir() or not file.parent.is_dir():
            raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'its folder is not there'}; name a file")
        write_text(file, text)
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from None
    states = [run.state for experiment in found for run in experiment.runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    print(f"{file}: {len(states)} run{'s' * (len(states) != 1)}, {counts}")


def _compare(arguments: argparse.Namespace) -> None:
    from nutshell.report import comparison, results, terminal

    both = []
    for folder in arguments.runs:
        found = results.experiments(results.find([folder]))
        if len(found) > 1:
            raise UserError(f"{folder}: holds {len(found)} experiments; name one of {_some(e.label for e in found)}")
        both.append(replace(found[0], label=str(folder)))
    terminal.print_comparison(comparison.compare(*both))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)
