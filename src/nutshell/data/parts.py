"""A data set's parts, with or without labels."""

import hashlib
import json
from dataclasses import dataclass, field

NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Part:
    """The examples of one part.

    Attributes:
        texts: One string per text column of each example; a document is an example with one.
        labels: Each example's; None of documents.
    """

    texts: list[tuple[str, ...]]
    labels: list[int] | None = None

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
        return Part([self.texts[row] for row in rows], self.labels and [self.labels[row] for row in rows])

    def digest(self) -> str:
        """sha256 of all texts and labels in order, 64 hexadecimal digits."""
        content = self.documents if self.labels is None else [self.texts, self.labels]
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
    """

    train: Part | None
    validation: Part | None
    test: Part | None
    source: str
    origin: Origin | None
    reported_as: str
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def reported_name(self) -> str:
        """The part that the final figure is measured on: test, or validation where there is no test part."""
        return "test" if self.test else "validation"

    @property
    def reported(self) -> Part:
        """That part itself."""
        return self.by_name()[self.reported_name]

    def by_name(self) -> dict[str, Part]:
        """The parts that exist, by name."""
        return {name: part for name in NAMES if (part := getattr(self, name)) is not None}
