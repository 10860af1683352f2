"""New texts: from a file or standard input, row by row, each with all of its columns."""

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nutshell.data.parts import Part
from nutshell.data.readers import rows as readers
from nutshell.data.readers.files import TEXT_SUFFIXES
from nutshell.data.readers.table import Table, text_of
from nutshell.machine.errors import UserError
from nutshell.runs.finished.application import Application

CHUNK = 32_768  # rows that are in memory, and sorted by length, at once
LINES = "lines"
FORMATS = (*(suffix.removeprefix(".") for suffix in readers.READERS), LINES)


def read(name: str, form: str | None = None) -> Table:
    """The table of a file, or of standard input.

    Args:
        name: The file; `-` is standard input.
        form: One of FORMATS; None: what the suffix says, and plain lines for a text file and standard input.

    Raises:
        UserError: If there is no such file, or nothing says how it is to be read.
    """
    if name == "-":
        form = form or LINES
        return readers.lines(sys.stdin.buffer) if form == LINES else readers.read_stream(sys.stdin.buffer, f".{form}")
    file = Path(name)
    if not os.path.exists(file):  # before 3.14 Path.exists raises for a name that is too long
        raise UserError(f"{file}: no such file")
    suffix = readers.suffix(file).lower()
    form = form or (LINES if suffix in TEXT_SUFFIXES else suffix.removeprefix("."))
    if form == LINES:
        return readers.lines(file)
    if form not in FORMATS:
        raise UserError(f"{file}: its suffix does not say how to read it; name --format, one of {', '.join(FORMATS)}")
    return readers.READERS[f".{form}"](readers.sources.of_file(file))


def columns_of(table: Table, application: Application, stated: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of a table that hold the texts: those that are stated, those that the model was trained on, or the
    only one.

    Raises:
        UserError: If one is missing, or one of the table has the name of an answer.
    """
    expected = tuple(stated) or application.columns
    if len(expected) != len(application.columns):
        raise UserError(f"--column: the model reads {len(application.columns)}: {', '.join(application.columns)}")
    if not table.columns:
        raise UserError(f"{table.place} is empty")
    if not stated and len(expected) == len(table.columns) == 1:
        expected = tuple(table.columns)
    if missing := [column for column in expected if column not in table.columns]:
        instead = "another one with --column" if len(expected) == 1 else "others with --column, given once for each"
        names = readers.names(table.columns)
        raise UserError(f"{table.place} has no column {readers.names(missing)}; it has {names}; name {instead}")
    if taken := [name for name in application.adds if name in table.columns]:
        raise UserError(f"{table.place} has column {taken[0]} already, which is written next to it; rename it")
    return expected


def chunks(
    table: Table, columns: Sequence[str], may_be_empty: bool
) -> Iterator[tuple[Part, list[tuple[str, dict[str, Any]]]]]:
    """The texts of at most CHUNK rows at a time, and those rows with their places.

    Raises:
        UserError: With its place, at a row that lacks a text or a column.
    """
    named = {*table.columns}
    while group := list(islice(table.rows, CHUNK)):
        for place, row in group:
            if row.keys() != named:
                raise UserError(f"{place} has columns {readers.names([*row])}; expected {readers.names(table.columns)}")
        texts = [tuple(text_of(place, row, name, may_be_empty) for name in columns) for place, row in group]
        yield Part(texts), group


def part(texts: Sequence[str | Sequence[str]], application: Application) -> Part:
    """Texts that a program has, as `chunks` gives them.

    Raises:
        UserError: With its place in the list, at one that is no text, or not as many as the model reads; or if it is no
            list, but a text, whose characters would each be answered.
    """
    if isinstance(texts, str):
        raise UserError("texts: expected a list of texts, not a text")
    rows = []
    for number, text in enumerate(texts):
        row = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, list | tuple) else (text,)
        if len(row) != len(application.columns):
            expected = ", ".join(application.columns)
            raise UserError(f"texts[{number}]: {len(row)} of them, but the model reads {expected}")
        named, place = dict(zip(application.columns, row, strict=True)), f"texts[{number}]:"
        rows.append(tuple(text_of(place, named, column, application.may_be_empty) for column in named))
    return Part(rows)
