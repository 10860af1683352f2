"""Labelled examples from the Hub, a local copy or this package, every row checked, divided into parts."""

import logging
import random
import re
from pathlib import Path
from typing import Any

from nutshell.data.datasets import Dataset, LabelledData, find
from nutshell.data.parts import NAMES, Part, Parts
from nutshell.data.readers import files as part_files
from nutshell.data.readers import rows as readers
from nutshell.machine.errors import UserError

logger = logging.getLogger("nutshell")

SUBSET_SEED = 0  # which examples are held out or left out is the same for every seed of a run


def load(data: LabelledData, needs_validation: bool = False) -> Parts:
    """The examples that an experiment's `data:` block asks for.

    With `validation_examples` that many are held out of the training part, and where a data set has no test
    labels its own validation part is then the test part. `train_examples` takes that many of the rest.
    Both draws are the same for every seed.

    Args:
        data: The block.
        needs_validation: Whether training evaluates between its steps.

    Raises:
        UserError: With file and row, if anything is wrong with the files; or if the Hub cannot be reached.
    """
    parts, folder, source = read(data)
    if "train" not in parts:
        raise UserError(f"{folder}: holds no training part of {data.name}; {_LAYOUTS}")
    train, validation, test = (parts.get(name) for name in NAMES)
    reported_as = "test" if test else "validation"
    held_out = data.validation_examples or 0
    if held_out + (data.train_examples or 1) > len(train):
        raise UserError(
            f"data: validation_examples {held_out} and train_examples {data.train_examples or 'unset'} ask for more "
            f"than the {len(train)} training examples of {data.name}"
        )
    if held_out or data.train_examples:
        order = random.Random(SUBSET_SEED).sample(range(len(train)), len(train))
        rows = sorted(order[held_out:][: data.train_examples])
        if held_out:
            validation, test = train.take(sorted(order[:held_out])), test or validation
        train = train.take(rows)
    if validation is None and (test is None or needs_validation):
        raise UserError(
            f"{folder}: {data.name} has no {'validation' if test else 'validation and no test'} part with labels; "
            "hold some training examples out with data.validation_examples"
            + (", or set training.eval_strategy: no" if test else "")
        )
    reported = test or validation
    if len(reported) < 2:
        raise UserError(f"{folder}: the {reported_as} part has {len(reported)} example, too few for an interval")
    train_texts = set(train.texts)
    shared = sum(text in train_texts for text in reported.texts)
    if shared:
        message = "%s: %d of the %d %s examples are in the training part too"
        logger.warning(message, data.name, shared, len(reported), reported_as)
    notes = {"shared with the training part": shared}
    return Parts(train, validation, test, source, data.from_hub, reported_as, notes)


def read(data: LabelledData, embedded: str = "sample_pairs or sample_reviews") -> tuple[dict[str, Part], Path, str]:
    """Every part that the data set itself has, with labels; the folder it was read from; where that came from.

    Args:
        data: The block.
        embedded: What to take instead without a network, for the message.
    """
    dataset = data.known
    folder, source = find(data, embedded)
    groups = part_files.labelled(folder, len(dataset.texts) == 1)
    parts = {name: part for name, group in groups.items() if (part := _part(name, group, dataset)) is not None}
    return parts, folder, source


def files(data: LabelledData) -> dict[str, list[Path]]:
    """The local files that `read` reads, by part; none for what is embedded or on the Hub, or is not there.

    Raises:
        UserError: If a part is there twice or has a gap, or a file of it is none that can be read.
    """
    folder = data.local_folder
    return part_files.labelled(folder, len(data.known.texts) == 1) if folder else {}


_LAYOUTS = (
    "known layouts: <part>.tsv, .csv, .jsonl or .parquet for the parts train, validation (dev) and test; "
    "msr_paraphrase_train.txt; aclImdb's train/pos and train/neg"
)


def _part(name: str, group: list[Path], dataset: Dataset) -> Part | None:
    """One part, every row of it checked: columns, text, label; None where its labels are not published."""
    texts, labels, columns, hidden = [], [], None, None
    for table in map(readers.read, group):
        if not table.columns:  # an empty file
            continue
        columns = columns or table.columns
        if {*table.columns} != {*columns}:
            other, first = readers.names(table.columns), readers.names(columns)
            raise UserError(f"{table.place} has columns {other}; {group[0].name} has {first}")
        unlabelled = _check_columns(table, dataset, may_lack_labels=name == "test")
        for place, row in table.rows:
            if row.keys() != {*columns}:
                other, first = readers.names([*row]), readers.names(columns)
                raise UserError(f"{place} has columns {other}; the first row has {first}")
            texts.append(tuple(_text(place, column, row[column]) for column in dataset.texts))
            if not unlabelled:
                labels.append(_label(place, row["label"], dataset))
                hidden = hidden or (place if labels[-1] == -1 else None)
    if not texts:
        raise UserError(f"{group[0]}: the {name} part is empty")
    if set(labels) <= {-1}:
        return None  # GLUE's test part, whose labels are not published
    if hidden:
        raise UserError(f"{hidden} label -1 (no label) among labelled rows")
    return Part(texts, labels)


def _check_columns(table: readers.Table, dataset: Dataset, may_lack_labels: bool) -> bool:
    """True if the rows carry no label at all, as GLUE's hidden test part may."""
    columns, expected = {*table.columns}, [*dataset.texts, "label"]
    missing = {*expected} - columns
    if columns - {*expected, *dataset.extra} or missing - {"label"} or (missing and not may_lack_labels):
        raise UserError(f"{table.place} has columns {readers.names(table.columns)}; expected {', '.join(expected)}")
    return bool(missing)


def _text(place: str, column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place} {column} is {readers.kind(value)}, expected text")
    if not value.strip():
        raise UserError(f"{place} {column} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} {column} is not valid Unicode: {error.reason}") from None
    return value


def _label(place: str, value: Any, dataset: Dataset) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value) else value
    if isinstance(number, bool) or not isinstance(number, int) or number not in range(-1, len(dataset.labels)):
        meant = ", ".join(f"{number} ({name})" for number, name in enumerate(dataset.labels))
        raise UserError(f"{place} label is {readers.shown(value)}, expected one of {meant}")
    return number
