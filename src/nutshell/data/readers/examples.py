"""Rows become labelled examples: every text and every label is checked, with its row for the messages."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nutshell.data.parts import Part
from nutshell.data.readers.rows import read, suffix
from nutshell.data.readers.table import Table, kind, names, shown, text_of
from nutshell.machine.errors import UserError

HIDDEN = "-1"  # the label of an example whose true one is not published
WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})(\.0*)?")  # not 007, which is a name
FEW = 20  # labels of which more are taken for classes only if they repeat
MOST = 1000  # labels


@dataclass(frozen=True)
class Layout:
    """What the columns of labelled examples are.

    Attributes:
        texts: The columns that hold text, in the order a model reads them.
        labels: What label 0, 1, ... means; () where it is a number; None where the training part tells.
        label: The column that holds it.
        extra: Further columns that its published files have, which are not read.
        strict: Whether any other column is refused. In a user's own table others are not read.
        aliases: The columns that some of its files name otherwise, and what they are called here.
        header: The columns of its TSV files of train and validation, if these have no header line.
        splits: By part the names of what is measured apart, each with the ends of its file names
            (`dev_matched.tsv`, `validation_matched-00000-of-00001.parquet`); none where a part is one file.
        flawed: Whether its published files have rows with an empty text, which are read, and torn rows with too few
            fields, which every reader of them leaves out.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    label: str = "label"
    extra: tuple[str, ...] = ()
    strict: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    flawed: bool = False


@dataclass(frozen=True)
class Examples:
    """What the files of a data set hold.

    Attributes:
        parts: Those with labels, by name.
        labels: What label 0, 1, ... means; () where labels are numbers.
        unlabelled: The test part, if its labels are not published.
        torn: Rows that were left out.
    """

    parts: dict[str, Part]
    labels: tuple[str, ...]
    unlabelled: Part | None
    torn: int


def read_examples(layout: Layout, groups: Mapping[str, Sequence[Path]]) -> Examples:
    """Every part of a data set, the training part first: the others may have no label that it lacks.

    Args:
        layout: Of its files.
        groups: The files of each part, or of each split of it (`validation_matched`).

    Raises:
        UserError: With file and row, if anything is wrong.
    """
    reader = _Reader(layout)
    raw = {name: reader.part(name, groups[name]) for name in sorted(groups, key=lambda name: name != "train")}
    labels, order = reader.labels()
    parts, unlabelled = {}, None
    for name in ("train", "validation", "test"):
        members = {split: raw[key] for split in layout.splits if (key := f"{name}_{split}") in raw}
        members = {"": raw[name]} if name in raw else members
        if name != "train" and members and len(members) < len(layout.splits):
            lacking = next(split for split in layout.splits if split not in members)
            raise UserError(f"the {name} part of this data set lacks {lacking}, next to {', '.join(members)}")
        texts = [text for texts, _ in members.values() for text in texts]
        numbers = [number for _, numbers in members.values() for number in numbers]
        splits = [split for split, (texts, _) in members.items() for _ in texts] if {*members} - {""} else None
        if not members:
            continue
        if None in numbers and {*numbers} != {None}:
            hidden = next(split for split, (_, own) in members.items() if None in own)
            raise UserError(f"the {name} part of this data set has labels, but not those of {hidden}")
        if None not in numbers:
            parts[name] = Part(texts, [order[number] for number in numbers] if order else numbers, splits)
        elif name == "test":
            unlabelled = Part(texts, None, splits)
    return Examples(parts, labels, unlabelled, reader.torn)


class _Reader:
    """Reads parts, and learns from the first one which labels there are, unless the layout states them."""

    def __init__(self, layout: Layout):
        self.layout, self.named = layout, {*layout.texts, layout.label}
        self.numbers = {label: number for number, label in enumerate(layout.labels or ())}
        self.first: dict[str, str] = {}  # where each label of the training part was met first
        self.torn, self.rows, self.minus_one = 0, 0, False  # whether a training example's number is -1
        self.positions = not any(_is_number(label) for label in self.numbers)  # whether 0 may mean labels[0]

    def part(self, name: str, group: Sequence[Path]) -> tuple[list[tuple[str, ...]], list[int | float | None]]:
        """Texts and labels of one part; labels None where all of them are hidden."""
        layout, texts, labels, columns, hidden = self.layout, [], [], None, None
        for file in group:
            table = self._table(name, file)
            if not table.columns:  # an empty file
                continue
            columns = columns or table.columns
            if self._read(table.columns) != self._read(columns):
                other, first = names(table.columns), names(columns)
                raise UserError(f"{table.place} has columns {other}; {group[0].name} has {first}")
            unlabelled = self._check_columns(table, may_lack_labels=name.startswith("test"))
            alike = self._read(columns)
            for place, row in table.rows:
                if self._read(row) != alike:
                    other, first = names([*row]), names(columns)
                    raise UserError(f"{place} has columns {other}; the first row has {first}")
                texts.append(tuple(text_of(place, row, column, layout.flawed) for column in layout.texts))
                label = None if unlabelled else self._label(place, row[layout.label], name == "train")
                hidden = hidden or (place if label is None else None)
                labels.append(label)
        if not texts:
            raise UserError(f"{group[0]}: the {name} part is empty")
        if hidden and any(label is not None for label in labels):
            raise UserError(f"{hidden} label -1 (no label) among labelled rows")
        if hidden and name == "train":
            raise UserError(f"{hidden} label -1 (no label) in the training part")
        if name == "train":
            self.rows = len(texts)
        return texts, labels

    def labels(self) -> tuple[tuple[str, ...], dict[int, int]]:
        """What label 0, 1, ... means, and the final number of each, by the order in which training has them; {} where
        they need none."""
        if self.layout.labels is not None:
            return self.layout.labels, {}
        words, column = [*self.numbers], f"data.label: {self.layout.label}"
        if len(words) == 1:
            raise UserError(
                f"{column}: every training example has the label {words[0]}; there is nothing to tell apart"
            )
        if len(words) > MOST or (len(words) > FEW and 2 * len(words) > self.rows):
            number = all(_is_number(word) for word in words)
            hint = (
                "if it is a number to be predicted, state data.target: number" if number else "is it the right column?"
            )
            raise UserError(f"{column} has {len(words):,} different labels in {self.rows:,} training examples; {hint}")
        alike: dict[str, str] = {}
        for word in words:
            if _is_number(word) and not float(word).is_integer():
                raise UserError(
                    f"{self.first[word]} {self.layout.label} is {word}, no class; if it is a number to be predicted, "
                    "state data.target: number; if it is one, state all of them in data.labels"
                )
            other = alike.setdefault(" ".join(word.split()).casefold(), word)
            if other != word:
                raise UserError(
                    f"{self.first[word]} label {shown(word)} differs from {shown(other)} only in case or spaces; make "
                    "them one, or state both in data.labels"
                )
        whole = all(WHOLE.fullmatch(word) for word in words)
        ordered = sorted(words, key=int) if whole else sorted(words)
        return tuple(ordered), {self.numbers[word]: number for number, word in enumerate(ordered)}

    def _table(self, name: str, file: Path) -> Table:
        layout = self.layout
        if layout.strict and suffix(file) == ".tsv":
            hidden = name.startswith("test")  # has a header; its rows are answered by number, so none is left out
            header = () if hidden else layout.header
            table = read(file, True, header, self._tear if layout.flawed and not hidden else None)
        else:
            table = read(file)
        if not {*table.columns} & {*layout.aliases}:
            return table
        renamed = [layout.aliases.get(column, column) for column in table.columns]

        def rows() -> Iterator[tuple[str, dict[str, Any]]]:
            for place, row in table.rows:
                yield place, dict(zip(renamed, row.values(), strict=True))

        return Table(table.place, renamed, rows())

    def _read(self, columns: Iterable[str]) -> set[str]:
        """Those that every row of a part has, or none: all; of a user's own table the ones that are read."""
        return {*columns} if self.layout.strict else self.named.intersection(columns)

    def _tear(self) -> None:
        self.torn += 1

    def _check_columns(self, table: Table, may_lack_labels: bool) -> bool:
        """True if the rows carry no label at all, as a hidden test part may."""
        layout, columns = self.layout, {*table.columns}
        expected = [*layout.texts, layout.label]
        missing = {*expected} - columns
        wrong = missing - {layout.label} or (missing and not may_lack_labels)
        if layout.strict and (wrong or columns - {*expected, *layout.extra}):
            raise UserError(f"{table.place} has columns {names(table.columns)}; expected {', '.join(expected)}")
        if wrong:
            absent = next(column for column in expected if column in missing)
            near = difflib.get_close_matches(absent.casefold(), [column.casefold() for column in columns], 1)
            meant = [column for column in columns if [column.casefold()] == near]
            hint = f"; did you mean {meant[0]}?" if meant else ""
            raise UserError(f"{table.place} has no column {absent}, but {names(table.columns)}{hint}")
        return bool(missing)

    def _label(self, place: str, value: Any, trains: bool) -> int | float | None:
        """A label's number; None where it says that the true one is not published."""
        if self.layout.labels == ():
            return self._number(place, value, trains)
        word, column = label_word(value), self.layout.label
        if self.layout.labels is None and (not isinstance(word, str) or not word):
            raise UserError(f"{place} {column} is {'empty' if word == '' else f'{kind(value)}, expected a label'}")
        if trains and self.layout.labels is None:
            if word not in self.numbers:
                self.first[word] = place
                text_of(place, {column: word}, column)  # which names it in files
            return self.numbers.setdefault(word, len(self.numbers))
        if isinstance(word, str):
            if word in self.numbers:
                return self.numbers[word]
            if word == HIDDEN:
                return None
            if (
                self.layout.labels
                and self.positions
                and WHOLE.fullmatch(word)
                and int(word) in range(len(self.numbers))
            ):
                return int(word)
        if self.layout.labels is None:
            known = ", ".join(sorted(self.numbers)[:FEW])
            raise UserError(f"{place} label is {shown(value)}, which no training example has; training has {known}")
        meant = ", ".join(
            f"{number} ({name})" if self.positions else name for number, name in enumerate(self.layout.labels)
        )
        raise UserError(f"{place} label is {shown(value)}, expected one of {meant}")

    def _number(self, place: str, value: Any, trains: bool) -> float | None:
        try:
            # Python would read 1_000 as a number, and true as 1.
            number = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{place} {self.layout.label} is {shown(value)}, expected a number")
        if number == -1 and not trains and not self.minus_one:
            return None
        self.minus_one |= trains and number == -1
        return number


def label_word(value: Any) -> Any:
    """A label as text: true and false in small letters, a whole number without sign, zeros or point, another number as
    Python writes it; anything else that is no text as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        word = value.strip()
        if word.lower() in ("true", "false"):
            return word.lower()
        return str(int(word.split(".")[0])) if WHOLE.fullmatch(word) else word
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value) if isinstance(value, float) and math.isfinite(value) else value


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
