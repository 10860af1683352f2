"""The seam: what a task is. Everything else asks the object and never the task's name."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import nutshell.tasks
from nutshell.bits.figures.metrics import Metric
from nutshell.experiment.blocks import Experiment
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine.errors import UserError
from nutshell.report.results.result import Measurement
from nutshell.runs.finished.application import Application

_TASKS: dict[str, "Task"] = {}


@dataclass(frozen=True)
class Card:
    """What a model card says of a task's models.

    Attributes:
        pipeline: The Hub's pipeline tag.
        auto_class: Transformers' class that loads them.
    """

    pipeline: str
    auto_class: str


class Task(ABC):
    """One word of `task:`. Its module imports torch inside `run`, so that `show` and `--help` stay light.

    Attributes:
        word: As in the experiment file.
        asks: What such a file may say.
        card: What the card of a saved model says; None where no model is saved.
    """

    word: ClassVar[str]
    asks: ClassVar[type[Experiment]]
    card: ClassVar[Card | None] = None

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        """Contradictions between keys that are each well-formed.

        Args:
            plain: The experiment as it was read.
            blocks: Its blocks, without keys that are null; {} for one that is missing or no mapping.
        """
        yield from ()

    @abstractmethod
    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        """The figures that are reported, the one that matters most first; none if that cannot be known."""

    def reads(self, experiment: Experiment) -> dict[str, Mapping[str, Sequence[Path]] | str]:
        """The files that a run reads and the experiment does not pin, by what they are (`model`, `data`, `prompts`), as
        machine.provenance.digests takes them."""
        return {}

    def check(self, experiment: Experiment, weights: bool = False) -> None:  # noqa: B027 - a task may have none
        """Checks that the model can be loaded, as far as config, tokenizer and headers tell without torch.

        Args:
            weights: Whether the weights are fetched from the Hub too.

        Raises:
            UserError: What `run` would refuse.
        """

    @abstractmethod
    def plan(self, experiment: Experiment) -> list[str]:
        """What `show` prints: what is read, how many steps and tokens of one seed, for this launch.

        Raises:
            UserError: Whatever `run` would refuse, as far as that can be known without loading weights.
        """

    @abstractmethod
    def run(self, experiment: Experiment, args, resume: Path | None, record) -> Measurement:
        """Runs one seed and measures it.

        Args:
            experiment: One of `asks`.
            args: The run's TrainingArguments, with its seed and its folder, where everything is written.
            resume: The checkpoint that training resumes from, or None.
            record: A runs.folder.Record, which notes in the folder that the run has begun.

        Raises:
            UserError: Whatever is wrong with model, data or settings, before any training; or that training diverged.
        """

    def load(self, checkpoint: Path) -> Any:
        """A model that `run` has saved, in fp32 and in evaluation mode, by transformers' Auto class.

        Args:
            checkpoint: The folder `model` of a run.

        Raises:
            UserError: If such a task saves none.
        """
        import transformers

        if not self.card:
            raise UserError(f"task: {self.word} saves no model")
        auto_class = getattr(transformers, self.card.auto_class)
        return auto_class.from_pretrained(checkpoint, dtype="float32", use_safetensors=True, trust_remote_code=False)

    def tokenizer(self, checkpoint: Path) -> Any:
        """The tokenizer of such a model, as transformers knows it."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)

    def predict(self, experiment: Experiment, checkpoints: Sequence[Path], models: Sequence[Any], args) -> Application:
        """What `nutshell predict` does with new texts: the label of each, or a number.

        Args:
            experiment: Of the runs.
            checkpoints: The folders that the models were loaded from, for the tokenizer and what else is there.
            models: From `load`, one for each seed; their answer is the mean.
            args: TrainingArguments with the batch size and precision of the final pass.

        Raises:
            UserError: If such a task has no answer to that.
        """
        raise UserError(f"task: {self.word} predicts no labels; nutshell predict is for classifiers")

    def score(self, experiment: Experiment, checkpoints: Sequence[Path], models: Sequence[Any], args) -> Application:
        """What `nutshell score` does with new texts: what each costs. Arguments and refusal are those of `predict`."""
        raise UserError(f"task: {self.word} gives texts no probability; nutshell score is for language models")


def register(task: Task) -> Task:
    """Makes a task known by its word."""
    _TASKS[task.word] = task
    return task


def tasks() -> dict[str, Task]:
    """Every task by its word: those of this folder's files, and whatever else was registered."""
    for module in pkgutil.iter_modules(nutshell.tasks.__path__):
        importlib.import_module(f"nutshell.tasks.{module.name}")
    return _TASKS
