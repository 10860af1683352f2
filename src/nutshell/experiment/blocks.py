"""What every experiment file may say. What a task adds to it is in the task's own file."""

import math
import os
import shlex
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, create_model, field_validator

from nutshell.experiment import generation_keys, training_keys
from nutshell.machine import launch
from nutshell.machine.errors import UserError, plural


class Strict(BaseModel):
    """Unknown keys and wrong types are errors; nothing is converted, except a whole number to a float."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Word = Annotated[str, Field(min_length=1)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Positive = Annotated[int, Field(ge=1)]
Band = Annotated[list[float], Field(min_length=2, max_length=2)]


class Checkpoint(Strict):
    """`model:` which checkpoint: an embedded one, a folder, an earlier run's, or with a revision a name on the Hub."""

    name: Word
    revision: Commit | None = None


class Lora(Strict):
    """`model.lora:` low-rank adapters on these layers of the model, by the ends of their names."""

    rank: Positive
    alpha: Annotated[float, Field(gt=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[Word], Field(min_length=1)] | None = None  # None: attention's queries and values


class Data(Strict):
    """`data:` which data set. A subclass knows its registry and how many tokens an example has."""

    name: str
    path: Word | None = None
    revision: Commit | None = None

    @property
    @abstractmethod
    def example_tokens(self) -> int:
        """How many tokens an example has at most."""

    @property
    @abstractmethod
    def pinned(self) -> str | None:
        """The commit that is read if none is stated; None where the data is not on the Hub."""

    @property
    def from_environment(self) -> bool:
        """Whether NUTSHELL_DATA decides where it is read."""
        return bool(self.pinned and not self.path and not self.revision and os.environ.get("NUTSHELL_DATA"))


class Reference(Strict):
    """`reference:` the published band that each metric must land in, [lowest, highest], of which part of the data, and
    where it is published."""

    part: Literal["train", "validation", "test"]
    source: Word

    @classmethod
    def of(cls, *metrics: str) -> type["Reference"]:
        """The class with a band for each of these metrics."""
        return create_model("Reference", __base__=cls, **{name: (Band | None, None) for name in metrics})


class Experiment(Strict):
    """One experiment file: one question."""

    question: Word | None = None
    source: Word | None = None  # where the recipe is from
    cost: Word | None = None  # of a measured run
    task: str
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]

    _file: Path = PrivateAttr()
    _overrides: list[str] = PrivateAttr(default_factory=list)  # of the command line, without the seeds
    _split: dict[str, int] = PrivateAttr(default_factory=dict)  # of global_batch_size, by this launch

    @field_validator("training", mode="before", check_fields=False)
    @classmethod
    def _check_training(cls, value: Any) -> Any:
        return cls.training_schema().model_validate(value).model_dump(exclude_unset=True)

    @field_validator("generation", mode="before", check_fields=False)
    @classmethod
    def _check_generation(cls, value: Any) -> dict[str, Any]:
        return generation_keys.schema().model_validate(value).model_dump(exclude_unset=True)

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a seed is in it twice")
        return value

    @property
    def place(self) -> Path:
        """Where the results are below the outputs root: `<chapter>/<name>`, from the file's own path."""
        return Path(self._file.resolve().parent.name) / self._file.stem

    @property
    def arguments(self) -> dict[str, Any]:
        """The `training:` block for this launch: what `global_batch_size` comes to is filled in."""
        return {**getattr(self, "training", {}), **self._split}

    def resolved(self, seed: int | None = None) -> dict[str, Any]:
        """The experiment as plain data, own defaults filled in; with a seed, that seed's run alone."""
        plain = self.model_dump()
        if seed is None:
            return plain
        del plain["seeds"]
        return {"task": plain.pop("task"), "seed": seed, **plain}

    def command(self, seed: int, output: Path, processes: int, mixed_precision: str) -> str:
        """What runs one seed of this again, for a shell at the top of the repository."""
        words = ["run", str(self._file), *self._overrides, "--seeds", str(seed)]
        if output.resolve() != Path("outputs").resolve():
            words += ["--output", str(output)]
        data = getattr(self, "data", None)
        prefix = f"NUTSHELL_DATA={shlex.quote(os.environ['NUTSHELL_DATA'])} " if data and data.from_environment else ""
        return prefix + shlex.join([*launch.launcher(processes, mixed_precision), *words])

    def fallbacks(self) -> dict[str, dict[str, Any]]:
        """By block, what each key falls back to when the file leaves it out."""
        data, schema = getattr(self, "data", None), self.training_schema()
        fallbacks = {"training": {name: field.default for name, field in schema.model_fields.items()}}
        if data and data.pinned and not data.path and not data.from_environment:
            fallbacks["data"] = {"revision": data.pinned}
        return fallbacks

    @staticmethod
    def training_schema() -> type[BaseModel]:
        """What `training:` may hold."""
        return training_keys.schema()

    @classmethod
    def blocks(cls, plain: dict[str, Any]) -> dict[tuple[str, ...], type[BaseModel]]:
        """The class that checks each block of such a file, by the block's path; () is the file itself.

        Args:
            plain: The experiment as it was read: what some blocks may hold depends on it.
        """
        blocks: dict[tuple[str, ...], type[BaseModel]] = {(): cls}
        for name, field in cls.model_fields.items():
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    blocks[(name,)] = kind
        dynamic = {"training": cls.training_schema, "generation": generation_keys.schema}
        return blocks | {(name,): schema() for name, schema in dynamic.items() if name in cls.model_fields}

    def divide(self) -> None:
        """Divides the global batch among the processes of this launch, if the experiment states one.

        Raises:
            UserError: If it cannot be divided equally.
        """
        size = getattr(self, "global_batch_size", None)
        if size is not None:
            at_once, accumulated = launch.split(size, launch.processes(), self.data.example_tokens)
            self._split = {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": accumulated}


class Loss(Strict):
    """`loss:` how much an example of each class weighs in training: class_weights is a number for each, or balanced."""

    class_weights: list[float] | Literal["balanced"] | None = None

    @field_validator("class_weights", mode="before")
    @classmethod
    def _check_weights(cls, value: Any) -> Any:
        numbers = value if isinstance(value, list) and value else [None]
        positive = all(type(number) in (int, float) and 0 < number < math.inf for number in numbers)
        if value not in (None, "balanced") and not positive:
            raise ValueError("expected balanced, or a list of a positive number for each class")
        return value

    def weights(self, labels: numpy.ndarray, count: int) -> list[float] | None:
        """The weight of each class; None where all weigh alike. Balanced: n / (classes n_class), so that each class
        weighs as much as any other and an example weighs 1 on average; as scikit-learn's class_weight has it.

        Args:
            labels: (examples,) whole numbers, of the training part.
            count: How many classes there are.

        Raises:
            UserError: If there is not a weight for each class, or no training example of one.
        """
        if self.class_weights is None:
            return None
        counts = numpy.bincount(labels, minlength=count)
        if self.class_weights == "balanced":
            if not counts.all():
                lacking = ", ".join(map(str, numpy.flatnonzero(counts == 0)))
                raise UserError(f"loss.class_weights: balanced, but no training example has label {lacking}")
            return (len(labels) / (count * counts)).tolist()
        if len(self.class_weights) != count:
            given = plural(len(self.class_weights), "number")
            raise UserError(f"loss.class_weights: {given} for {count} classes; state one for each")
        return self.class_weights


class EarlyStopping(Strict):
    """`early_stopping:` training ends when so many evaluations in a row have not improved the metric that chooses the
    best checkpoint by more than the threshold. One whose metric is undefined (0 / 0) counts neither way."""

    patience: Positive
    threshold: Annotated[float, Field(ge=0)] = 0.0


class Trained(Experiment):
    """An experiment that trains."""

    global_batch_size: Positive | None = None  # examples of a step; how they are divided follows from the launch
    keep_checkpoints: bool = False  # of a complete run; they hold the optimizer's state, twice the model's size
    training: dict[str, Any] = {}
    early_stopping: EarlyStopping | None = None
