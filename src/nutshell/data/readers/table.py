"""What a file of rows holds, and the words in which a message shows a value of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nutshell.machine.errors import UserError

LONGEST_SHOWN = 40  # characters of a user's own text in a message


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        place: Where its columns are named, for the messages.
        columns: Their names in the file's order, "" where one has no name; none if the file is empty.
        rows: Each row with its place.
    """

    place: str
    columns: list[str]
    rows: Iterator[tuple[str, dict[str, Any]]]


def shown(value: Any) -> str:
    """A value as its file has it, at most LONGEST_SHOWN characters, or its kind if it is no single value."""
    if value is None or isinstance(value, (str, bool, int, float)):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
    return kind(value)


def kind(value: Any) -> str:
    """What a value is, in words: text, a number, null and so on."""
    if value is None or value != value:
        return "null" if value is None else "NaN"
    kinds = {bool: "true or false", (int, float): "a number", str: "text", list: "a list", dict: "an object"}
    return next((words for types, words in kinds.items() if isinstance(value, types)), "neither text nor number")


def names(columns: list[str]) -> str:
    """The names of columns, for a message; one that has none is called so, and of many only the first are named."""
    more = [f"{len(columns) - 12} more"] if len(columns) > 12 else []
    return ", ".join([(name if name.strip() else "(no name)")[:LONGEST_SHOWN] for name in columns[:12]] + more)


def check_columns_differ(place: str, columns: list[str]) -> None:
    """Passes columns of which no two have the same name; any number may have none.

    Raises:
        UserError: Naming those that are there twice.
    """
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise UserError(f"{place} has column {names(twice)} twice")


def text_of(place: str, row: dict[str, Any], column: str, may_be_empty: bool = False) -> str:
    """The text that a row has in a column.

    Raises:
        UserError: Naming the place, if there is none, or a value that is no text, or an empty one that may not be.
    """
    if column not in row:
        raise UserError(f"{place} has columns {names([*row])}; expected {column}")
    value = row[column]
    if not isinstance(value, str):
        raise UserError(f"{place} {column} is {kind(value)}, expected text")
    if not may_be_empty and not value.strip():
        raise UserError(f"{place} {column} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} {column} is not valid Unicode: {error.reason}") from None
    return value
