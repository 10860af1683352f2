"""Labelled examples from the Hub, a local copy, a user's own table or this package, divided into parts."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nutshell.data.datasets import TABLE, LabelledData, find
from nutshell.data.parts import NAMES, Part, Parts
from nutshell.data.readers import files as part_files
from nutshell.data.readers.examples import Examples, read_examples
from nutshell.machine.errors import UserError

logger = logging.getLogger("nutshell")

SUBSET_SEED = 0  # which examples are held out or left out is the same for every seed of a run


def load(data: LabelledData, needs_validation: bool = False) -> Parts:
    """The examples that an experiment's `data:` block asks for.

    With `validation_examples` that many are held out of the training part, and where a data set has no test
    labels its own validation part is then the test part. With `test_examples` that many are held out for the test,
    before the others. Held-out examples have the labels in the proportions of the training part, and equal texts stay
    on one side. `train_examples` takes that many of the rest, `reported_examples` that many of the reported part, in
    its own proportions. All draws are the same for every seed.

    Args:
        data: The block.
        needs_validation: Whether training evaluates between its steps.

    Raises:
        UserError: With file and row, if anything is wrong with the files; or if the Hub cannot be reached.
    """
    folder, source = find(data, "sample_pairs or sample_reviews")
    groups = _groups(data, folder)
    if "train" not in groups:  # before the other parts' labels are looked up in it
        raise UserError(f"{folder}: holds no training part of {data.name}; {_LAYOUTS}")
    states = [(file, file.stat().st_mtime_ns, file.stat().st_size) for files in groups.values() for file in files]
    key = repr((data, needs_validation, states))
    if key not in _last:  # a check, the plan and each seed read the same
        parts = _divided(data, read_examples(data.known.layout, groups), folder, source, needs_validation)
        _last.clear()
        _last[key] = parts
    return _last[key]


_last: dict[str, Parts] = {}


def _divided(data: LabelledData, examples: Examples, folder: Path, source: str, needs_validation: bool) -> Parts:
    """Examples as the parts that an experiment asks for."""
    train, validation, test = (examples.parts.get(name) for name in NAMES)
    unlabelled = examples.unlabelled
    if data.reported == "validation" and test:
        test, unlabelled = None, replace(test, labels=None)
    if data.test_examples and (test or unlabelled):
        raise UserError(f"data.test_examples: {folder} has a test part of its own; leave it out")
    sizes = {"test_examples": data.test_examples, "validation_examples": data.validation_examples}
    if sum(size or 0 for size in sizes.values()) + (data.train_examples or 1) > len(train):
        asked = ", ".join(f"{key} {size}" for key, size in sizes.items() if size)
        raise UserError(
            f"data: {asked + ' and ' if asked else ''}train_examples {data.train_examples or 'unset'} ask for more "
            f"than the {len(train)} training examples of {data.name}"
        )
    rest = random.Random(SUBSET_SEED).sample(range(len(train)), len(train))
    held_out = {}
    for key, size in sizes.items():
        if size:
            rest, rows = _hold_out(train, rest, size, key)
            held_out[key] = train.take(sorted(rows))
    test = held_out.get("test_examples", test)
    if "validation_examples" in held_out:
        validation, test = held_out["validation_examples"], test or validation
    if held_out or data.train_examples:
        train = train.take(sorted(rest[: data.train_examples]))
    own_test = "test" in examples.parts and data.reported != "validation"
    reported_as = "test" if own_test or data.test_examples else "validation"
    if validation is None and (test is None or needs_validation):
        splits = data.known.layout.splits
        instead = "hold some training examples out with data.validation_examples"
        if splits:  # which no held-out example is in
            instead = f"its files would be called {' and '.join(f'validation_{split}' for split in splits)}, or dev_..."
        raise UserError(
            f"{folder}: {data.name} has no {'validation' if test else 'validation and no test'} part with labels; "
            f"{instead}{', or set training.eval_strategy: no' if test else ''}"
        )
    reported, left_out = test or validation, 0
    if size := data.reported_examples:
        if size > len(reported):
            raise UserError(f"data.reported_examples: {size} of a {reported_as} part with {len(reported)} examples")
        left_out = len(reported) - size
        order = random.Random(SUBSET_SEED).sample(range(len(reported)), len(reported))
        reported = reported.take(sorted(_hold_out(reported, order, size, "reported_examples")[1]))
        validation, test = (validation, reported) if test else (reported, None)
    if len(reported) < 2:
        raise UserError(f"{folder}: the {reported_as} part has {len(reported)} example, too few for an interval")
    trained = {*train.labels}
    if untrained := [label for number, label in enumerate(examples.labels) if number not in trained]:
        logger.warning("%s: no training example has the label %s", data.name, ", ".join(untrained))
    train_texts = set(train.texts)
    shared = sum(text in train_texts for text in reported.texts)
    if shared:
        message = "%s: %d of the %d %s examples are in the training part too"
        logger.warning(message, data.name, shared, len(reported), reported_as)
    notes = {"shared with the training part": shared}
    if left_out:
        notes[f"left out of the {reported_as} part"] = left_out
    if examples.torn:
        notes["torn rows left out"] = examples.torn
    return Parts(
        train,
        validation,
        test,
        source,
        data.from_hub,
        reported_as,
        notes,
        labels=examples.labels,
        unlabelled=unlabelled,
    )


def read(data: LabelledData, embedded: str) -> tuple[dict[str, Part], str]:
    """Every part with labels that the data set itself has, and where it came from.

    Args:
        data: The block.
        embedded: What to take instead without a network, for the message.
    """
    folder, source = find(data, embedded)
    return read_examples(data.known.layout, _groups(data, folder)).parts, source


def files(data: LabelledData) -> dict[str, list[Path]]:
    """The local files that are read, by part; none for what is embedded or on the Hub, or is not there.

    Raises:
        UserError: If a part is there twice or has a gap, or a file of it is none that can be read.
    """
    folder = data.local_folder
    return _groups(data, folder) if folder else {}


_LAYOUTS = (
    "known layouts: <part>.tsv, .csv, .jsonl, .json or .parquet for the parts train, validation (dev) and test; "
    "msr_paraphrase_train.txt; aclImdb's train/pos and train/neg"
)


def _groups(data: LabelledData, folder: Path) -> dict[str, list[Path]]:
    """The files of each part, or of each split of it."""
    layout = data.known.layout
    if data.name == TABLE:
        return part_files.table(folder)
    if not layout.splits:
        return part_files.labelled(folder, len(layout.texts) == 1)
    names = {"train": part_files.PART_NAMES["train"]}
    for part in ("validation", "test"):
        for split in layout.splits:
            names[f"{part}_{split}"] = tuple(f"{word}_{split}" for word in part_files.PART_NAMES[part])
    return part_files.table(folder, names)


def _hold_out(train: Part, order: Sequence[int], size: int, key: str) -> tuple[list[int], list[int]]:
    """Rows that stay, and `size` rows that are held out, both in the given order.

    Each label has its share, by the largest remainder; numbers are not divided by label. Examples with equal texts go
    together, as long as so many are still needed.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in order:
        groups.setdefault(train.texts[row], []).append(row)
    classes = {row: train.labels[row] if isinstance(train.labels[row], int) else 0 for row in order}
    counts: dict[int, int] = {}
    for row in order:
        counts[classes[row]] = counts.get(classes[row], 0) + 1
    exact = {label: size * count / len(order) for label, count in sorted(counts.items())}
    wanted = {label: int(share) for label, share in exact.items()}
    remainders = sorted(exact, key=lambda label: wanted[label] - exact[label])
    for label in remainders[: size - sum(wanted.values())]:
        wanted[label] += 1
    out: set[int] = set()
    for by_label in (True, False):  # then whatever still fits, where texts that are there often were too many
        for rows in groups.values():
            label, missing = classes[rows[0]], size - len(out)
            if rows[0] not in out and len(rows) <= (min(wanted[label], missing) if by_label else missing):
                out.update(rows)
                wanted[label] -= len(rows)
    if len(out) < size:
        raise UserError(
            f"data.{key}: {size} cannot be held out: equal texts stay together, and the smallest group of them that is "
            f"left has {min(len(rows) for rows in groups.values() if rows[0] not in out)} examples"
        )
    return [row for row in order if row not in out], [row for row in order if row in out]
