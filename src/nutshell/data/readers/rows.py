"""The file layouts that examples come in, one reader each: rows with their place, for the messages."""

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nutshell.machine.errors import UserError
from nutshell.machine.files import reading

MRPC_COLUMNS = {
    **{"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
    **dict.fromkeys(("#1 ID", "#2 ID", "index")),  # which are not read
}
MICROSOFT = {"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"}
REVIEW_LABELS = ("neg", "pos")  # the folders of aclImdb, whose files hold one review each
WHOLE_FIELDS = re.compile(r'(?:(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*)?,)*')  # of a CSV record, up to a fault
LONGEST_SHOWN = 40  # characters of a user's own text in a message


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        place: Where its columns are named, for the messages.
        columns: Their names in the file's order; none if the file is empty.
        rows: Each row with its place.
    """

    place: str
    columns: list[str]
    rows: Iterator[tuple[str, dict[str, Any]]]


def read(file: Path) -> Table:
    """The table in a file, by its suffix; `.txt` is Microsoft's paraphrase corpus, or a review of aclImdb's.

    Raises:
        UserError: With file and row, if it is no such table. Rows are read, and refused, one by one as they are taken.
    """
    if file.suffix == ".txt" and file.name not in MICROSOFT.values():
        row = {"text": _decode(file), "label": REVIEW_LABELS.index(file.parent.name)}
        return Table(f"{file}:", [*row], iter([(f"{file}:", row)]))
    return READERS[file.suffix](file)


def check_regular(file: Path) -> None:
    """Passes a regular file, a link to one, and a file that is not there.

    Raises:
        UserError: Saying what it is instead. A pipe or a device would be waited for, or never end.
    """
    with reading(file):
        if file.is_file():
            return
        if file.is_symlink() and not file.exists():
            raise UserError(f"{file}: is a link to nothing")
        if file.is_dir():
            raise UserError(f"{file}: is a folder, expected a file")
        if file.exists():
            raise UserError(f"{file}: is not a regular file, but a pipe, a device or the like")


def read_bytes(file: Path) -> bytes:
    """A regular file's bytes.

    Raises:
        UserError: If it is something else, or cannot be read.
    """
    check_regular(file)
    with reading(file):
        return file.read_bytes()


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


def _decode(file: Path) -> str:
    """A file's text; a byte-order mark is dropped."""
    raw = read_bytes(file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = len(raw) - len(error.object) + error.start  # which counts from after a byte-order mark
        row = raw.count(b"\n", 0, at) + 1
        raise UserError(f"{file}: row {row}: not UTF-8 text (byte {raw[at]:#04x})") from None
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file}: row {row}: not UTF-8 text (a byte 0x00, as UTF-16 has them)")
    return text


def _tsv(file: Path) -> Table:
    """Microsoft's and GLUE's tab-separated files: quotes are text there, and a row may end in CR LF."""
    text = _decode(file).rstrip("\r\n")
    lines = (line.rstrip("\r") for line in (text.split("\n") if text else []))
    records = ((number, line.split("\t") if line else []) for number, line in enumerate(lines, 1))
    return _with_header(file, records, MRPC_COLUMNS)


def _csv(file: Path) -> Table:
    return _with_header(file, _csv_records(file), {})


def _csv_records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Each record's fields, with the row that it starts in."""
    csv.field_size_limit(sys.maxsize)
    text, start = _decode(file).rstrip("\r\n"), 1
    records = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in records:
            yield start, fields
            start = records.line_num + 1
    except csv.Error as error:
        rest = "".join(list(io.StringIO(text, newline=""))[start - 1 :])
        row = start + len(re.findall(r"\r\n|\r|\n", WHOLE_FIELDS.match(rest)[0]))
        fault = f'closes in row {records.line_num} with text after it; a quote inside quotes is written twice ("")'
        if "unexpected end" in str(error):
            fault = "is never closed"
        raise UserError(f"{file}: row {row}: not valid CSV: a quote opens here and {fault}") from None


def _with_header(file: Path, records: Iterator[tuple[int, list[str]]], aliases: dict[str, str | None]) -> Table:
    """The table of records whose first one names the columns; one whose alias is None is left out."""
    place, fields = f"{file}: row 1: the header", next(records, (1, None))[1]
    if fields == []:
        raise UserError(f"{place} is blank")
    header = [aliases.get(name, name) for name in fields or []]
    columns = [name for name in header if name is not None]
    _check_columns_differ(place, columns)
    return Table(place, columns, _rows(file, header, records))


def _rows(
    file: Path, header: list[str | None], records: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, fields in records:
        place = f"{file}: row {number}:"
        if not fields:
            raise UserError(f"{place} is blank, but rows follow it")
        if len(fields) != len(header):
            raise UserError(f"{place} has {len(fields)} fields, the header {len(header)}")
        yield place, {name: text for name, text in zip(header, fields, strict=True) if name is not None}


def _check_columns_differ(place: str, columns: list[str]) -> None:
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise UserError(f"{place} has column {names(twice)} twice")


def _jsonl(file: Path) -> Table:
    lines = enumerate(_decode(file).split("\n"), 1)
    rows = ((place := f"{file}: row {number}:", _json_object(place, line)) for number, line in lines if line.strip())
    place, first = next(rows, (f"{file}:", {}))
    return Table(place, [*first], itertools.chain([(place, first)] if first else [], rows))


def _json_object(place: str, line: str) -> dict[str, Any]:
    """One line's object, whose keys are all different."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise UserError(f"{place} has the key {shown(twice)} twice in one object")
        return row

    try:
        row = json.loads(line, object_pairs_hook=unique)
    except RecursionError:
        raise UserError(f"{place} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{place} not valid JSON: {error.msg} (character {error.pos + 1})") from None
    except ValueError:  # Python's own limit
        raise UserError(f"{place} has a number of more than {sys.get_int_max_str_digits():,} digits") from None
    if not isinstance(row, dict):
        raise UserError(f"{place} is {kind(row)}, expected an object with columns")
    if not row:
        raise UserError(f"{place} is an object without columns")
    return row


def _parquet(file: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    check_regular(file)
    try:
        table = pyarrow.parquet.ParquetFile(file).read()  # read_table would make columns of folders named key=value
        columns = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "its values cannot be read")
        raise UserError(f"{file}: not a readable parquet file: {reason}") from None
    _check_columns_differ(f"{file}:", table.column_names)
    rows = enumerate(zip(*columns, strict=True), 1)
    named = ((f"{file}: row {number}:", dict(zip(table.column_names, row, strict=True))) for number, row in rows)
    return Table(f"{file}:", table.column_names, named)


READERS: dict[str, Callable[[Path], Table]] = {
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".txt": _tsv,
}
