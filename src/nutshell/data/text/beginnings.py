"""The beginning of a text, in bytes: what a codec is given."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from nutshell.data.datasets import TEXT, TEXTS, Registered, Text, TextData
from nutshell.data.parts import Parts
from nutshell.data.text import documents
from nutshell.experiment.blocks import Positive, Word
from nutshell.machine.errors import UserError


class Beginning(Registered):
    """`data:` which text, and how many bytes of its beginning; several numbers are several beginnings."""

    name: Literal[tuple(TEXTS)]
    column: Word | None = None
    part: Literal["validation", "test"] | None = None  # None: test, or validation where there is no other
    bytes: Annotated[list[Positive], Field(min_length=1)]

    @field_validator("bytes", mode="before")
    @classmethod
    def _check_bytes(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @property
    def known(self) -> Text:
        return TEXTS[self.name]

    @property
    def example_tokens(self) -> int:
        return max(self.bytes)

    @property
    def title(self) -> str:
        """What the text is called."""
        return self.local[0].name if self.name == TEXT else self.name

    @property
    def whole(self) -> TextData:
        """The text that it is the beginning of."""
        return TextData(name=self.name, path=self.path, revision=self.revision, column=self.column)


def load(data: Beginning) -> tuple[Parts, str, list[bytes]]:
    """All parts, the name of the one that is asked for, and its beginnings, the shortest first: documents with a line
    feed between them, cut where no character is in two.

    Raises:
        UserError: If there is no such part, or less of it; and as text.documents has it.
    """
    parts = documents.load(data.whole, trains=False)
    name = data.part or parts.reported_name
    part = parts.by_name().get(name)
    if part is None:
        raise UserError(f"data.part: {data.name} from {parts.source} has no {name} part; it has {parts.reported_name}")
    text = "\n".join(part.documents).encode()
    if len(text) < max(data.bytes):
        raise UserError(f"data.bytes: {max(data.bytes):,} is more than the {name} part has, {len(text):,}")
    return parts, name, [text[:size].decode(errors="ignore").encode() for size in sorted({*data.bytes})]
