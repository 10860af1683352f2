"""The commands: their order, their errors and their exit codes."""

import argparse
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nutshell.cli import coding
from nutshell.cli.arguments import COMMANDS, parse, parser
from nutshell.machine import interruption
from nutshell.machine.errors import LostProcess, UserError, plural


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; 0 if all went well, 2 if the user has something to correct, 1 if another process of the
    launch was lost, 130 on Ctrl-C, 143 on SIGTERM."""
    if os.name != "posix":  # signal masks and `resource` exist nowhere else
        print("nutshell: runs on Linux and macOS; on Windows use it inside WSL", file=sys.stderr)
        return 2
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        parser().print_help()
        return 0
    arguments = parse(words)
    if arguments.version:
        from importlib.metadata import version

        print(f"nutshell {version('nutshell')}")
        return 0
    rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
    logger = logging.getLogger("nutshell")
    logger.handlers[:] = [logging.StreamHandler(sys.stderr)]
    logger.propagate = False
    logger.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    try:
        if arguments.command == "run":
            with interruption.listening(rank == 0):
                _run(_experiments(arguments), arguments)
        elif rank == 0 and arguments.command == "show":
            _show(_experiments(arguments), arguments)
        elif arguments.command in ("predict", "score"):
            with interruption.listening(rank == 0):
                _answer(arguments)
        elif rank == 0 and arguments.command == "fetch":
            with interruption.listening(True):
                _fetch(arguments)
        elif rank == 0 and arguments.command in COMMANDS["compress files"]:
            with interruption.listening(True):
                getattr(coding, arguments.command)(arguments)
        elif rank == 0:
            {"report": _report, "compare": _compare, "ask": _ask}[arguments.command](arguments)
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
            print(f"nutshell: ended by SIGTERM; {_resume_hint(arguments)}", file=sys.stderr)
        return interruption.EXIT_CODE
    except KeyboardInterrupt:
        print(f"nutshell: interrupted; {_resume_hint(arguments)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `nutshell show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _resume_hint(arguments: argparse.Namespace) -> str:
    if arguments.command in ("predict", "score", *COMMANDS["compress files"]):
        return "nothing was written"
    if arguments.command in ("fetch", "ask"):
        return "nothing was kept" if arguments.command == "fetch" else "the text is not whole"
    force = " without --force" * (arguments.command == "run" and arguments.force)
    return f"the same command{force} resumes from the newest checkpoint, or starts if there is none"


def _experiments(arguments: argparse.Namespace) -> list[tuple[Any, Any]]:
    """The task and the experiment of every file of the command line, checked before the first one runs."""
    from nutshell.library import prepare

    overrides = [word for word in arguments.words if re.match(r"[A-Za-z_][\w.]*=", word)]
    files = [file for word in arguments.words if word not in overrides for file in _files(word)]
    if not files:
        raise UserError("no experiment file among the arguments")
    if arguments.seeds:
        overrides.append(f"seeds={arguments.seeds}")
    experiments, problems = {}, []
    for file in files:
        try:
            task, experiment = prepare(file, overrides)
        except UserError as error:
            problems.append(str(error) if str(error).startswith(("command line", file)) else f"{file}: {error}")
            continue
        if experiment.place in experiments:
            place = arguments.output / experiment.place
            problems.append(f"{file}: its results would be in {place}, where another's are")
        experiments[experiment.place] = task, experiment
    if problems:
        raise UserError("\n".join(problems))
    return list(experiments.values())


def _files(word: str) -> list[str]:
    """The experiment files that a word of the command line names: itself, or those of a folder.

    Raises:
        UserError: If it is a folder without any.
    """
    folder = Path(word)
    if not os.path.isdir(folder):  # before 3.14 Path.is_dir raises for a name that is too long
        return [word]
    files = sorted(map(str, folder.glob("*.yaml")))
    if not files:
        below = sorted({str(file.parent) for file in folder.glob("*/*.yaml")})
        hint = f"; folders with some: {_some(below)}" if below else ""
        raise UserError(f"{folder}: holds no experiment file (*.yaml){hint}")
    return files


def _for_each(experiments: Sequence[tuple[Any, Any]], function: Callable[[Any, Any], Any]) -> list[Any]:
    """What a function returns for each task and experiment; if it refuses some, the problems of all of them at once."""
    results, problems = [], []
    for task, experiment in experiments:
        try:
            results.append(function(task, experiment))
        except UserError as error:
            problems.append(f"{experiment._file}: {error}" if len(experiments) > 1 else str(error))
    if problems:
        raise UserError("\n".join(problems))
    return results


def _awaiting(experiments: Sequence[tuple[Any, Any]], arguments: argparse.Namespace) -> set[Path]:
    """The places of experiments whose model is made by an earlier one of the same command."""
    from nutshell import library

    homes: list[Path] = []
    places = set()
    for _, experiment in experiments:
        model = getattr(experiment, "model", None)
        if getattr(model, "name", None) and not model.revision:
            folder = Path(model.name).expanduser().resolve()
            if any(folder.is_relative_to(home) for home in homes):
                places.add(experiment.place)
        if not library.is_complete(experiment, arguments.output, getattr(arguments, "force", False)):
            homes.append((arguments.output / experiment.place).resolve())
    return places


def _run(experiments: list[tuple[Any, Any]], arguments: argparse.Namespace) -> None:
    from nutshell import library
    from nutshell.report.tracking import mode as modes

    mode, awaiting = modes.mode(not arguments.no_track), _awaiting(experiments, arguments)

    def check(task, experiment) -> None:
        library.check(task, experiment, arguments.output, arguments.force)

    _for_each([pair for pair in experiments if pair[1].place not in awaiting], check)
    logging.getLogger("nutshell").info("loading PyTorch and Transformers ...")
    from nutshell.report import terminal
    from nutshell.runs import runner  # takes seconds, from a cold disk half a minute

    summaries = []
    for number, (task, experiment) in enumerate(experiments, 1):
        if experiment.place in awaiting:
            check(task, experiment)
        position = (number, len(experiments))
        outcome = library.execute(task, experiment, arguments.output, arguments.force, mode, position)
        if not outcome:  # on every process but the main one
            continue
        summary = outcome.summary
        summaries.append(summary)
        if len(experiments) == 1:
            terminal.print_summary(summary, arguments.output)
        else:
            terminal.print_figure(summary)
    if len(summaries) > 1:
        terminal.print_figures(summaries)
    if summaries:
        terminal.print_next(summaries, arguments.output)
    runner.end()


def _show(experiments: list[tuple[Any, Any]], arguments: argparse.Namespace) -> None:
    from nutshell.report import terminal

    awaiting = _awaiting(experiments, arguments)

    def lines(task, experiment) -> list[str]:
        if experiment.place in awaiting:
            return [f"model:    {experiment.model.name} is what an earlier of these experiments leaves behind"]
        task.check(experiment)
        return task.plan(experiment)

    for (_, experiment), plan in zip(experiments, _for_each(experiments, lines), strict=True):
        terminal.print_experiment(experiment, arguments.output, plan)


def _fetch(arguments: argparse.Namespace) -> None:
    from nutshell.models.embedded import registry

    registry.fetch(arguments.name, arguments.wheel)


def _report(arguments: argparse.Namespace) -> None:
    from nutshell.machine.files import write_text
    from nutshell.report.results import runs
    from nutshell.report.results.summary import series

    if arguments.open and arguments.format != "html":
        arguments.error(f"--open shows the page, and --format {arguments.format} makes none")
    every = series(runs.find(arguments.folders or [Path("outputs")]))
    if arguments.format != "html":
        from nutshell.report import tables

        text = tables.FORMATS[arguments.format]([one.summary for one in every if one.summary])
        for run in (run for one in every for run in one.runs if run.state != "complete"):
            print(f"not in the table: {run.folder}: {run.state}: {run.reason}", file=sys.stderr)
        if arguments.output is None:
            print(text)
            return
        text += "\n"
    else:
        from nutshell.report.page import page

        text = page.render(every, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))
    file = arguments.output or Path("report.html")
    try:
        if file.is_dir() or not file.parent.is_dir():
            raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'its folder is not there'}; name a file")
        write_text(file, text)
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from None
    states = [run.state for one in every for run in one.runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    print(f"{file}: {plural(len(states), 'run')}, {counts}")
    if arguments.open:
        import webbrowser

        if not webbrowser.open(file.resolve().as_uri()):
            print(f"no browser could be started; open {file.resolve()} in one", file=sys.stderr)


def _compare(arguments: argparse.Namespace) -> None:
    from nutshell.report import comparison, terminal
    from nutshell.report.results import runs
    from nutshell.report.results.summary import series

    every = []
    for folder in (arguments.first, *arguments.others):
        alike = series(runs.find([folder]))
        if len(alike) > 1:
            names = _some(one.label for one in alike)
            raise UserError(f"{folder}: holds {len(alike)} experiments; name one of {names}")
        every.append(replace(alike[0], label=str(folder)))
    comparisons = [comparison.compare(every[0], other) for other in every[1:]]
    for each in comparisons:
        terminal.print_comparison(each)
    if len(comparisons) > 1:
        print(f"{len(comparisons)} comparisons; no interval and no p-value is corrected for how many there are")


def _answer(arguments: argparse.Namespace) -> None:
    from nutshell import library

    model = library.load(arguments.run, seed=arguments.seed, all_seeds=arguments.all_seeds)
    columns = arguments.columns
    model.answer_file(arguments.command, arguments.file, arguments.format, columns, arguments.output)


def _ask(arguments: argparse.Namespace) -> None:
    from nutshell.runs.finished import asking

    about = ("command", "version", "error")  # not the prompt
    asking.ask_here(**{name: value for name, value in vars(arguments).items() if name not in about})


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)
