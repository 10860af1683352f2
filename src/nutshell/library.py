"""nutshell in Python: run an experiment, use what a finished run has left. The commands are thin calls into this."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from pydantic import ValidationError

from nutshell.experiment.blocks import Experiment
from nutshell.experiment.load import load as load_experiment
from nutshell.machine import launch, progress
from nutshell.machine.errors import UserError
from nutshell.report.results.result import Result
from nutshell.report.results.runs import Run, read
from nutshell.runs.finished import answers, choice, texts
from nutshell.runs.finished.application import Application
from nutshell.runs.finished.asking import ask
from nutshell.tasks.task import Task, tasks

__all__ = ["Model", "Outcome", "ask", "check", "execute", "is_complete", "load", "prepare", "run"]

if TYPE_CHECKING:  # scipy takes a second, and `show` needs none
    from nutshell.report.results.summary import Estimate, Summary


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to, over all of its seeds that are complete.

    Attributes:
        summary: The content of summary.json.
        folder: Where the seeds' folders are.
    """

    summary: "Summary"
    folder: Path

    @property
    def metrics(self) -> "dict[str, Estimate]":
        """Each figure by name: mean, standard deviation and 95 % interval over seeds, and each seed's value."""
        return self.summary.metrics

    @property
    def folders(self) -> dict[int, Path]:
        """Each seed's folder."""
        return {seed: self.folder / f"seed-{seed}" for seed in self.summary.seeds}

    @cached_property
    def results(self) -> dict[int, Result]:
        """Each seed's metrics.json, whose intervals are over its units alone."""
        return {seed: run.result for seed, run in self._runs.items()}

    @cached_property
    def units(self) -> dict[str, list]:
        """What was measured of each unit, as `pandas.DataFrame` takes it: columns by name, a row for each seed and
        unit."""
        every = {seed: run.units for seed, run in self._runs.items()}
        first = next(iter(every.values()))
        table: dict[str, list] = {"seed": [], "unit": []} | {name: [] for name in first.columns}
        for seed, units in every.items():
            table["seed"] += [seed] * len(units)
            table["unit"] += range(len(units))
            for name, values in units.columns.items():
                table[name] += values.tolist() if isinstance(values, numpy.ndarray) else [list(row) for row in values]
        return table

    @cached_property
    def _runs(self) -> dict[int, Run]:
        return {seed: read(folder) for seed, folder in self.folders.items()}


def run(
    experiment: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    seeds: Sequence[int] | None = None,
    output: str | Path = "outputs",
    force: bool = False,
) -> Outcome:
    """Runs every seed of an experiment that is not complete, as `nutshell run` does, without tracking.

    Args:
        experiment: The YAML file.
        overrides: Values by dotted key, such as {"training.learning_rate": 3e-5}.
        seeds: Instead of the file's.
        output: The root of all results.
        force: Whether to discard what the seeds' folders hold.

    Raises:
        UserError: Whatever the command would refuse, with the same message.
    """
    words = [f"{key}={json.dumps(value, ensure_ascii=False, default=str)}" for key, value in (overrides or {}).items()]
    if seeds is not None:
        words.append(f"seeds={json.dumps(list(seeds), default=str)}")
    task, checked = prepare(experiment, words)
    check(task, checked, Path(output), force)
    return execute(task, checked, Path(output), force)


def prepare(file: str | Path, overrides: Sequence[str]) -> tuple[Task, Experiment]:
    """The task and the checked experiment of a file, with `dotted.key=value` overrides."""
    experiment = load_experiment(file, overrides, tasks())
    return tasks()[experiment.task], experiment


def is_complete(experiment: Experiment, output: Path, force: bool) -> bool:
    """Whether there is nothing left to run."""
    home = output / experiment.place
    return not force and all((home / f"seed-{seed}" / "metrics.json").exists() for seed in experiment.seeds)


def check(task: Task, experiment: Experiment, output: Path, force: bool) -> None:
    """What is refused before torch is loaded, if there is something to run."""
    if launch.is_main() and not is_complete(experiment, output, force):
        task.check(experiment, weights=True)


def execute(task: Task, experiment: Experiment, output: Path, force: bool = False, *mode_and_number) -> Outcome | None:
    """Runs a checked experiment; None on every process but the main one."""
    from nutshell.runs import runner  # takes seconds, from a cold disk half a minute

    summary = runner.run(task, experiment, output, force, *mode_and_number)
    return summary and Outcome(summary, output / experiment.place)


class Model:
    """What finished runs of one experiment have left, ready to be used.

    Args:
        task: Of the runs.
        runs: Complete ones, one for each seed.

    Attributes:
        experiment: The experiment, of the first seed.
        folders: The seeds' folders.
    """

    def __init__(self, task: Task, runs: Sequence[Run]):
        self._task, self._runs = task, list(runs)
        self.folders = [run.folder for run in runs]
        self.experiment = _experiment(task, runs[0])

    @cached_property
    def models(self) -> list[Any]:
        """Each seed's model: a transformers PreTrainedModel in fp32, in evaluation mode."""
        return [self._task.load(folder / "model") for folder in self.folders]

    @property
    def model(self) -> Any:
        """The first seed's model."""
        return self.models[0]

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, as transformers knows it."""
        return self._task.tokenizer(self.folders[0] / "model")

    def predict(self, texts: Sequence[str | Sequence[str]]) -> dict[str, list]:
        """The label of each text and the probability of each class, or the number, in the order of the texts.

        Args:
            texts: Strings; of a model that reads pairs, pairs of them.

        Returns:
            `predicted` and `probability_<label>`, (texts,) each, as `pandas.DataFrame` takes them.

        Raises:
            UserError: If the task predicts nothing, or one of them is no text.
        """
        return self._answer(self._task.predict, texts)

    def score(self, texts: Sequence[str]) -> dict[str, list]:
        """What each text costs a language model that has read nothing before it.

        Returns:
            `nats`, `bits_per_byte`, `tokens` and `end_of_text_nats`, (texts,) each.

        Raises:
            UserError: If the task gives texts no probability, or one of them is no text.
        """
        return self._answer(self._task.score, texts)

    def answer_file(self, verb: str, file: str, form: str | None, columns: Sequence[str], output: Path | None) -> None:
        """Writes the rows of a file with their answers, as the commands do.

        Args:
            verb: predict or score.
            file: Its name; `-` is standard input.
            form: How it is read; None: as its suffix says.
            columns: Those that hold the texts; none: those that the experiment names.
            output: A file; None: standard output.

        Raises:
            UserError: If the task has no such verb, or for what is wrong with the file; nothing is written then.
        """
        self._check(verb)
        answers.check_output(output)
        progress.silence_transformers()
        table = texts.read(file, form)
        with self._application(getattr(self._task, verb)) as application:
            answers.write(application, table, texts.columns_of(table, application, columns), output)

    def _check(self, verb: str) -> None:
        """Passes what the task can do: one that cannot is Task's own method, which refuses before models are loaded."""
        if getattr(type(self._task), verb) is getattr(Task, verb):
            getattr(self._task, verb)(self.experiment, [], [], None)

    def _answer(self, verb: Callable[..., Application], new: Sequence[Any]) -> dict[str, list]:
        with self._application(verb) as application:
            part = texts.part(new, application)
            return dict(application.answer(part)) if len(part) else {name: [] for name in application.adds}

    @contextlib.contextmanager
    def _application(self, verb: Callable[..., Application]) -> Iterator[Application]:
        with tempfile.TemporaryDirectory(prefix="nutshell-") as empty:  # Trainer wants one, and writes nothing to it
            checkpoints, first = [folder / "model" for folder in self.folders], self._runs[0].result
            args = choice.arguments(self.experiment, first, Path(empty))
            with progress.beating():
                progress.stage("loading the model")
                yield verb(self.experiment, checkpoints, self.models, args)


def load(folder: str | Path, *, seed: int | None = None, all_seeds: bool = False) -> Model:
    """What a finished run has left: model, tokenizer and experiment, with `predict` or `score`.

    Args:
        folder: An experiment's, of whose seeds the best by its validation figure is taken, or a seed's.
        seed: Of the run to take.
        all_seeds: Whether all are taken: their answer is the mean.

    Raises:
        UserError: If the folder holds no complete run, or more than one experiment.
    """
    chosen = choice.choose(Path(folder), seed, all_seeds)
    word = chosen[0].resolved["task"]
    if word not in tasks():
        raise UserError(f"{chosen[0].folder}: its task {word} is not known here; install it")
    return Model(tasks()[word], chosen)


def _experiment(task: Task, run: Run) -> Experiment:
    plain = dict(run.result.experiment)
    seed = plain.pop("seed")
    try:
        return task.asks.model_validate(plain | {"seeds": [seed]})
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{run.folder}: {key} is not what this version of nutshell reads; run it again") from None
