"""The file layouts that examples come in, one reader each: rows with their place, for the messages."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from nutshell.data.readers import sources
from nutshell.data.readers.columnar import arrow_table, parquet_table
from nutshell.data.readers.json_rows import json_lines_table, json_table
from nutshell.data.readers.separated import csv_table, lines_table, tsv_table
from nutshell.data.readers.table import Table, kind, names, shown
from nutshell.machine.errors import UserError

__all__ = ["READERS", "Table", "check_table", "kind", "lines", "names", "read", "read_stream", "shown"]

MICROSOFT = {"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"}
REVIEW_LABELS = ("neg", "pos")  # the folders of aclImdb, whose files hold one review each
READERS: dict[str, Callable[[sources.Source], Table]] = {
    ".csv": csv_table,
    ".tsv": tsv_table,
    ".jsonl": json_lines_table,
    ".json": json_table,
    ".parquet": parquet_table,
    ".arrow": arrow_table,
}
ENDINGS = f"{', '.join(READERS)}, each also with .gz"


def suffix(file: Path) -> str:
    """The suffix that says how a file is read: that before .gz, if it is compressed."""
    return (file.with_suffix("") if file.suffix == ".gz" else file).suffix.lower()


def check_table(file: Path) -> None:
    """Passes the name of a file that `read` can read as a table.

    Raises:
        UserError: Saying in what such a name ends.
    """
    if suffix(file) not in READERS:
        raise UserError(f"{file}: is no table by its name, which would end in {ENDINGS}")


def read(
    file: Path,
    quotes_are_text: bool = False,
    columns: Sequence[str] = (),
    torn: Callable[[], None] | None = None,
) -> Table:
    """The table in a file, by its suffix, with or without .gz; `.txt` is Microsoft's paraphrase corpus, or a review of
    aclImdb's.

    Args:
        file: The file.
        quotes_are_text: Whether every quote in a TSV is known to be text; otherwise a quoted field is refused.
        columns: The names of the columns of a TSV that has no header.
        torn: Called for each row of a TSV that has too few fields and is left out; None: such a row is refused.

    Raises:
        UserError: With file and row, if it is no such table. Rows are read, and refused, one by one as they are taken.
    """
    if file.suffix == ".txt" and file.parent.name in REVIEW_LABELS:
        row = {"text": _review(file), "label": REVIEW_LABELS.index(file.parent.name)}
        return Table(f"{file}:", [*row], iter([(f"{file}:", row)]))
    source = sources.of_file(file)
    if suffix(file) == ".tsv" or file.name in MICROSOFT.values():
        return tsv_table(source, quotes_are_text, columns, torn)
    check_table(file)
    return READERS[suffix(file)](source)


def read_stream(stream: BinaryIO, form: str, name: str = "standard input") -> Table:
    """The table that comes from a stream of bytes, as `read` reads it from a file.

    Args:
        stream: The bytes.
        form: The suffix of a file that holds the same.
        name: What messages call it.

    Raises:
        UserError: With name and row, if it is no such table.
    """
    return READERS[form](sources.of_stream(stream, name))


def lines(origin: Path | BinaryIO, name: str = "standard input") -> Table:
    """A text on each line, as column `text`; a blank line is a row with an empty text, except at the end.

    Args:
        origin: A file, which may be compressed, or a stream of bytes.
        name: What messages call a stream.

    Raises:
        UserError: With row, if a line is no UTF-8 text. Rows are read, and refused, as they are taken.
    """
    source = sources.of_file(origin) if isinstance(origin, Path) else sources.of_stream(origin, name)
    return lines_table(source)


def _review(file: Path) -> str:
    with sources.of_file(file).lines("") as stream:
        return stream.read()
