"""Examples from the Hub, a local copy or this package, every row checked; the parts they are divided into."""

import hashlib
import json
import logging
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nutshell.data.datasets import DATASETS, Dataset, Text
from nutshell.data.readers import READERS, acl_imdb
from nutshell.experiment.blocks import LabelledData, TextData
from nutshell.machine import hub
from nutshell.machine.errors import UserError

logger = logging.getLogger("nutshell")

# What each part's files may be called; the Hub's shards carry a suffix, `train-00000-of-00001.parquet`.
PART_NAMES = {"train": ("train",), "validation": ("validation", "dev", "valid"), "test": ("test",)}
MICROSOFT = {"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"}
SUBSET_SEED = 0  # which examples are held out or left out is the same for every seed of a run


@dataclass(frozen=True)
class Part:
    """The examples of one part: `texts[i]` has one string per text column, `labels[i]` its label."""

    texts: list[tuple[str, ...]]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: list[int]) -> "Part":
        """The examples with these row numbers, in this order."""
        return Part([self.texts[row] for row in rows], [self.labels[row] for row in rows])

    def digest(self) -> str:
        """sha256 of all texts and labels in order, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps([self.texts, self.labels]).encode()).hexdigest()


@dataclass(frozen=True)
class Parts:
    """A data set's parts, whichever exist, and where they came from.

    Attributes:
        train, validation, test: The examples. The validation part may choose an epoch; the test part is
            for the final figure alone.
        source: Where they were read, for the record.
        reported_as: What the data set itself calls the reported part: its validation part may serve as the test part.
        shared: How many of the reported part's examples stand in the training part too.
    """

    train: Part
    validation: Part | None
    test: Part | None
    source: str
    reported_as: str
    shared: int

    @property
    def reported(self) -> str:
        """The part that the final figure is measured on: test, or validation where no test labels exist."""
        return "test" if self.test else "validation"

    def by_name(self) -> dict[str, Part]:
        """The parts that exist, by name."""
        return {name: part for name in PART_NAMES if (part := getattr(self, name)) is not None}


def load(data: LabelledData, needs_validation: bool = False) -> Parts:
    """The examples that an experiment's `data:` block asks for.

    With `validation_examples` that many are held out of the training part, and where a data set has no test
    labels its own validation part then serves as the test part. `train_examples` takes that many of the rest.
    Both draws are the same for every seed.

    Args:
        data: The block.
        needs_validation: Whether training evaluates as it goes.

    Raises:
        UserError: With file and row, for whatever is wrong with the files; or if the Hub cannot be reached.
    """
    parts, folder, source = read(data)
    if "train" not in parts:
        raise UserError(f"{folder}: holds no training part of {data.name}; {_LAYOUTS}")
    train, validation, test = (parts.get(name) for name in PART_NAMES)
    reported_as = "test" if test else "validation"
    held_out = data.validation_examples or 0
    if held_out + (data.train_examples or 1) > len(train):
        raise UserError(
            f"data: validation_examples {held_out} and train_examples {data.train_examples or 'unset'} ask for more "
            f"than the {len(train)} training examples of {data.name}"
        )
    if held_out or data.train_examples:
        order = random.Random(SUBSET_SEED).sample(range(len(train)), len(train))
        kept = sorted(order[held_out:][: data.train_examples])
        if held_out:
            validation, test = train.take(sorted(order[:held_out])), test or validation
        train = train.take(kept)
    if validation is None and (test is None or needs_validation):
        raise UserError(
            f"{folder}: {data.name} has no {'validation' if test else 'validation and no test'} part with labels; "
            "hold some training examples out with data.validation_examples"
            + (", or set training.eval_strategy: no" if test else "")
        )
    reported = test or validation
    if len(reported) < 2:
        raise UserError(f"{folder}: the {reported_as} part has {len(reported)} example; no interval can be had of it")
    seen = set(train.texts)
    shared = sum(text in seen for text in reported.texts)
    if shared:
        message = "%s: %d of the %d %s examples stand in the training part too"
        logger.warning(message, data.name, shared, len(reported), reported_as)
    return Parts(train, validation, test, source, reported_as, shared)


def read(data: LabelledData) -> tuple[dict[str, Part], Path, str]:
    """Every part that the data set itself has, with labels; the folder it was read from; where that came from."""
    dataset = DATASETS[data.name]
    folder, source = find(data, dataset, "sample_pairs or sample_reviews")
    try:
        parts = {name: part for name in PART_NAMES if (part := _read(folder, name, dataset)) is not None}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from None
    return parts, folder, source


_LAYOUTS = (
    "known layouts: <part>.tsv, .csv, .jsonl or .parquet for the parts train, validation (dev) and test; "
    "msr_paraphrase_train.txt; aclImdb's train/pos and train/neg"
)


def find(data: LabelledData | TextData, dataset: Dataset | Text, embedded: str) -> tuple[Path, str]:
    """The folder to read and its description: the stated path, the NUTSHELL_DATA folder, this package, the Hub.

    Args:
        data: Its name, path and revision.
        dataset: Where the Hub keeps it.
        embedded: What to take instead without a network, for the message.
    """
    if data.path:
        folder, said = Path(data.path).expanduser(), "data.path"
    elif not dataset.repository:
        return Path(__file__).parent / data.name, "embedded in nutshell"
    elif os.environ.get("NUTSHELL_DATA"):
        folder, said = Path(os.environ["NUTSHELL_DATA"]).expanduser() / data.name, "NUTSHELL_DATA"
    else:
        revision = data.revision or dataset.revision
        instead = (
            f"without a network, name a local copy in data.path or put it in $NUTSHELL_DATA/{data.name}, "
            f"or take the embedded {embedded}"
        )
        folder = hub.fetch(dataset.repository, revision, [f"{dataset.folder}/*.parquet"], "dataset", instead)
        return folder / dataset.folder, f"Hub {dataset.repository}@{revision}"
    if data.revision:
        raise UserError("data.revision names a commit on the Hub, but NUTSHELL_DATA names a local copy: unset one")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder ({said} names it)")
    return folder, "local copy"


def _read(folder: Path, name: str, dataset: Dataset) -> Part | None:
    """One part from whichever layout the folder has; None where there is no such part, or no labels in it."""
    if all((folder / name / label).is_dir() for label in ("pos", "neg")) and len(dataset.texts) == 1:
        return _part(folder / name, name, acl_imdb(folder / name), dataset)
    files = sorted(
        file
        for stem in PART_NAMES[name]
        for suffix in READERS
        for file in [folder / f"{stem}{suffix}", *folder.glob(f"{stem}-*{suffix}")]
        if file.is_file()
    )
    if not files and name in MICROSOFT and (folder / MICROSOFT[name]).is_file():  # GLUE's script leaves them beside
        files.append(folder / MICROSOFT[name])
    if len({file.name.split("-")[0] for file in files}) > 1:
        raise UserError(f"{folder}: holds the {name} part more than once: {', '.join(file.name for file in files)}")
    rows: list[tuple[str, dict]] = []
    for file in files:
        rows += READERS[file.suffix if file.name not in MICROSOFT.values() else ".tsv"](file)
        if not rows:
            raise UserError(f"{file}: the {name} part is empty")
    return _part(files[0], name, iter(rows), dataset) if files else None


def _part(file: Path, name: str, rows: Iterator[tuple[str, dict]], dataset: Dataset) -> Part | None:
    """Checks every row: columns, text, label."""
    texts, labels, columns, hidden = [], [], None, None
    for place, row in rows:
        if columns is None:
            columns = set(row)
            unlabelled = _check_columns(place, columns, dataset, may_lack_labels=name == "test")
        elif set(row) != columns:
            raise UserError(f"{place}: columns {sorted(row)} differ from the first row's {sorted(columns)}")
        for column in dataset.texts:
            if not isinstance(row[column], str) or not row[column].strip():
                raise UserError(f"{place}: {column} is empty: {row[column]!r}")
            try:
                row[column].encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{place}: {column} is not valid Unicode: {error.reason}") from None
        texts.append(tuple(row[column] for column in dataset.texts))
        if not unlabelled:
            labels.append(_label(place, row["label"], dataset))
            hidden = hidden or (place if labels[-1] == -1 else None)
    if not texts:
        raise UserError(f"{file}: the part is empty")
    if unlabelled or set(labels) == {-1}:
        return None  # GLUE's test part, whose labels are kept back
    if hidden:
        raise UserError(f"{hidden}: label -1 (no label) among labelled rows")
    return Part(texts, labels)


def _check_columns(place: str, columns: set[str], dataset: Dataset, may_lack_labels: bool) -> bool:
    """True if the rows carry no label at all, as GLUE's hidden test part may."""
    wanted = {*dataset.texts, "label"}
    if extra := columns - wanted - {*dataset.extra}:
        raise UserError(f"{place}: extra column {', '.join(sorted(extra))}; expected {', '.join(sorted(wanted))}")
    missing = wanted - columns
    if missing and not (may_lack_labels and missing == {"label"}):
        raise UserError(f"{place}: missing column {', '.join(sorted(missing))}; found {', '.join(sorted(columns))}")
    return bool(missing)


def _label(place: str, value: Any, dataset: Dataset) -> int:
    allowed = range(-1, len(dataset.labels))
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        meant = ", ".join(f"{number} ({name})" for number, name in enumerate(dataset.labels))
        raise UserError(f"{place}: label {value!r} is outside the set {meant}")
    return value
