"""What a run leaves in metrics.json, typed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nutshell.bits.baselines import Baseline
from nutshell.bits.figures.codes import Code
from nutshell.bits.figures.metrics import Figure
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json
from nutshell.machine.provenance import Provenance

VERSION = 2  # of metrics.json; counted up when its meaning changes


Count = Annotated[int, Field(ge=0, lt=2**53)]
Edge = Annotated[float, Field(gt=-(2**53), lt=2**53)]


class Typed(BaseModel):
    """Part of metrics.json or summary.json: no other key is in it, and every number is finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EvaluatedOn(Typed):
    """Which part of the data the figures are of.

    Attributes:
        part: What the data set calls it.
        count: How many `units` it has.
        sha256: Of its content: figures of the same content can be compared.
        chose: Whether it also chose the checkpoint.
        text: All of it in one line.
        rules: By which they are taken, where there are several; None: the usual ones. Only figures by the same rules
            can be compared.
    """

    part: str
    count: int
    units: str
    sha256: str
    chose: bool
    text: str
    rules: str | None = None


class Data(Typed):
    """What was read. Each mapping is by part.

    Attributes:
        source: Where from, for a reader.
        repository, config, revision: On the Hub, if it came from there; None otherwise.
        examples, bytes, tokens: How many.
        sha256: Of the content.
        notes: Further counts, by what is counted.
    """

    source: str
    repository: str | None = None
    config: str | None = None
    revision: str | None = None
    examples: dict[str, int]
    bytes: dict[str, int] = {}
    tokens: dict[str, int] = {}
    sha256: dict[str, str]
    notes: dict[str, int] = {}


class Parameters(Typed):
    """How many there are, and how many of them were trained."""

    all: int
    trained: int


class Pass(Typed):
    """How much was evaluated or generated, padding excluded, and how fast."""

    examples: int
    tokens: int
    seconds: float
    examples_per_second: float
    tokens_per_second: float


class Training(Typed):
    """Steps, epochs and tokens of the whole training; the rates are of this launch's steps, evaluation excluded."""

    steps: int
    global_batch_size: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    epochs: float
    tokens: int
    resumed_from_step: int
    seconds: float
    examples_per_second: float | None
    tokens_per_second: float | None
    best_checkpoint: str | None


class Matrix(Typed):
    """Counts of units: a row for each true label, a column for each predicted one."""

    title: str
    labels: list[str]
    counts: list[list[Count]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(len(row) != len(self.labels) for row in (self.counts, *self.counts)):
            raise ValueError("a row and a column for each label")
        return self

    @classmethod
    def of(
        cls, label: numpy.ndarray, predicted: numpy.ndarray, names: Sequence[str], title: str = "Confusion matrix"
    ) -> "Matrix":
        """Of true and predicted labels (units,), whole numbers, with the name of each."""
        counts = numpy.bincount(label * len(names) + predicted, minlength=len(names) ** 2)
        return cls(title=title, labels=list(names), counts=counts.reshape(len(names), -1).tolist())


class Histogram(Typed):
    """Counts between edges, and a limit with its name."""

    title: str
    note: str
    edges: list[Edge]
    counts: list[Count]
    limit: Edge | None
    limit_name: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.edges) != len(self.counts) + 1 or sorted(set(self.edges)) != self.edges or not self.counts:
            raise ValueError("edges in order around every count")
        return self

    @classmethod
    def of(cls, values: numpy.ndarray, title: str, note: str, limit: float, limit_name: str) -> "Histogram":
        """Whole numbers (n,) in at most 40 bins of one width."""
        width = max(1, math.ceil((int(values.max()) + 1) / 40))
        edges = numpy.arange(0, int(values.max()) + width + 1, width)
        counts = numpy.histogram(values, edges)[0].tolist()
        return cls(title=title, note=note, edges=edges.tolist(), counts=counts, limit=limit, limit_name=limit_name)


class Table(Typed):
    """Figures of several variants of one experiment, a row for each.

    Attributes:
        title: What the variants are.
        columns: The figures' names.
        rows: The name of each variant and its figures; None where one is no number.
        ends: Which columns, by place, are ends of intervals within one seed, which no mean over seeds has.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[float | None]]]
    ends: list[int] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(len(values) != len(self.columns) for _, values in self.rows):
            raise ValueError("a figure for each column")
        return self

    @classmethod
    def with_spread(cls, title: str, columns: list[str], rows: list[tuple[str, list[float | None]]]) -> "Table":
        """With rows of the variants' mean and of their standard deviation (n - 1)."""
        every = [values if None not in values else [math.nan] for values in zip(*(row for _, row in rows), strict=True)]
        means = [float(numpy.mean(values)) for values in every]
        spreads = [float(numpy.std(values, ddof=1)) if len(values) > 1 else math.nan for values in every]
        last = [("mean", means), ("standard deviation", spreads)]
        known = [(name, [value if math.isfinite(value) else None for value in values]) for name, values in last]
        return cls(title=title, columns=columns, rows=rows + known)


class Benchmark(Typed):
    """The benchmark that the data is a part of.

    Attributes:
        name: What its authors call it.
        task: What they call this part.
        metrics: Whose mean is this part's score.
        tasks: All parts, in the order of its authors; its score is the mean over them.
    """

    name: str
    task: str
    metrics: Annotated[list[str], Field(min_length=1)]
    tasks: list[str]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.task not in self.tasks:
            raise ValueError("the task is one of the tasks")
        return self


class Measurement(Typed):
    """What a task found out.

    Attributes:
        evaluated_on: The part that `metrics` are of.
        metrics: By name.
        validation: The same figures on the validation part, at the weights that were measured; None if unknown, or if
            `metrics` are of that part.
        baseline: What costs nothing to know: by metric, by name.
        notes: Sentences that belong next to the figures.
        facts: Further figures for the record, by name.
        benchmark: What the figures count for; None if they do for nothing.
        tables: Figures of variants of the experiment that were measured next to each other.
        codes: Of texts, each decoded again.
    """

    evaluated_on: EvaluatedOn
    metrics: dict[str, Figure]
    validation: dict[str, float] | None = None
    baseline: Baseline = {}
    notes: list[str] = []
    data: Data
    parameters: Parameters
    evaluation: Pass
    training: Training | None = None
    facts: dict[str, int | float | str] = {}
    matrix: Matrix | None = None
    histogram: Histogram | None = None
    benchmark: Benchmark | None = None
    tables: list[Table] = []
    codes: list[Code] = []


class Header(BaseModel):
    """What readers look at of a resolved experiment, whatever its task."""

    task: str
    question: str | None = None
    source: str | None = None
    cost: str | None = None
    reference: dict[str, tuple[float, float] | str | None] | None = None


class Result(Measurement):
    """The content of metrics.json: what was measured, of which experiment, and where it comes from.

    Attributes:
        experiment: The resolved experiment of one seed.
        read: sha256 of the local files that it read, by what they are.
        command: What makes the same again.
    """

    version: Literal[2] = VERSION
    experiment: dict[str, Any]
    read: dict[str, str]
    command: str
    provenance: Provenance

    @field_validator("experiment")
    @classmethod
    def _check(cls, experiment: dict[str, Any]) -> dict[str, Any]:
        Header.model_validate(experiment)
        return experiment


def read_result(folder: Path) -> Result:
    """The content of a folder's metrics.json.

    Raises:
        UserError: If it is damaged, or of another version.
    """
    file = folder / "metrics.json"
    try:
        content = read_json(file)
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{file}: is damaged; run the seed again with --force") from None
    version = content.get("version", 1) if isinstance(content, dict) else None
    if version != VERSION:
        other = f"was written by another version of nutshell (layout {version}, this one reads {VERSION})"
        raise UserError(f"{file}: {other if version else 'is damaged'}; run the seed again with --force")
    try:
        return Result.model_validate(content)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{file}: is damaged at {key}; run the seed again with --force") from None
