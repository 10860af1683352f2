"""A data set's parts, with or without labels."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy

from nutshell.machine.errors import UserError

NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Part:
    """The examples of one part.

    Attributes:
        texts: One string per text column of each example; a document is an example with one.
        labels: Each example's, a class or a number; None of documents, and where they are not published.
        splits: The name of what each example is measured with; None where all are measured together.
    """

    texts: list[tuple[str, ...]]
    labels: list[int] | list[float] | None = None
    splits: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def documents(self) -> list[str]:
        """The text of each example that has one."""
        return [text for (text,) in self.texts]

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return sum(len(text.encode()) for row in self.texts for text in row)

    def take(self, rows: list[int]) -> "Part":
        """The examples with these row numbers, in this order."""
        labels, splits = ([column[row] for row in rows] if column else None for column in (self.labels, self.splits))
        return Part([self.texts[row] for row in rows], labels, splits)

    def in_splits(self) -> dict[str, numpy.ndarray]:
        """For each split by its name whether each example is in it, booleans (examples,)."""
        return {split: numpy.array(self.splits) == split for split in dict.fromkeys(self.splits or ())}

    def digest(self) -> str:
        """sha256 of all texts and labels in order, 64 hexadecimal digits."""
        are_documents = self.labels is None and all(len(row) == 1 for row in self.texts)
        content = self.documents if are_documents else [self.texts, self.labels]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Origin:
    """Where the Hub keeps a data set: repository, folder in it, commit."""

    repository: str
    folder: str
    revision: str


@dataclass(frozen=True)
class Parts:
    """A data set's parts, whichever exist, and where they came from.

    Attributes:
        train, validation, test: The validation part may choose a checkpoint; the test part is for the final figure
            alone.
        source: Where they were read, for the record.
        origin: On the Hub, if they were read from there; None otherwise.
        reported_as: What the data set itself calls the reported part: its validation part may serve as the test part.
        notes: Counts that belong to the record, by what is counted.
        labels: What label 0, 1, ... means; () of documents, and where labels are numbers.
        unlabelled: The test part, if its labels are not published.
    """

    train: Part | None
    validation: Part | None
    test: Part | None
    source: str
    origin: Origin | None
    reported_as: str
    notes: dict[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    unlabelled: Part | None = None

    @property
    def reported_name(self) -> str:
        """The part that the final figure is measured on: the last one that there is."""
        return next(name for name in reversed(NAMES) if getattr(self, name))

    @property
    def reported(self) -> Part:
        """That part itself."""
        return self.by_name()[self.reported_name]

    def draw(self, count: int, seed: int, key: str) -> Part:
        """Few training examples, as many of each label, one label after the other in turns.

        None has the texts of an example of another part. Of two counts the smaller draw is the beginning of the larger
        one.

        Args:
            count: How many, of all labels together.
            seed: Which draw it is.
            key: What asks for them, for the message.

        Raises:
            UserError: If they cannot be equally many of each label, or there are not so many.
        """
        if count % len(self.labels):
            raise UserError(
                f"{key}: {count} examples cannot be as many of each label; {len(self.labels)} labels, so a multiple of "
                f"{len(self.labels)}"
            )
        others = {text for part in (self.validation, self.test) if part for text in part.texts}
        each, drawn = count // len(self.labels), []
        for number, label in enumerate(self.labels):
            rows = [
                row
                for row, (text, of_row) in enumerate(zip(self.train.texts, self.train.labels, strict=True))
                if of_row == number and text not in others
            ]
            if each > len(rows):
                raise UserError(
                    f"{key}: {count} examples are {each} of each label, but the training part has {len(rows)} that are "
                    f"{label} and in no other part"
                )
            drawn.append(numpy.random.default_rng([seed, number]).permutation(rows)[:each].tolist())
        return self.train.take([row for turn in zip(*drawn, strict=True) for row in turn])

    def by_name(self) -> dict[str, Part]:
        """The parts that exist, by name."""
        return {name: part for name in NAMES if (part := getattr(self, name)) is not None}
