"""Rows as lines: CSV, TSV, and plain texts."""

import csv
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nutshell.data.readers.sources import Source
from nutshell.data.readers.table import Table, check_columns_differ
from nutshell.machine.errors import UserError

MRPC = "#1 String"  # the column by which Microsoft's and GLUE's files of MRPC are known
# What their columns are called here; None is not read.
MRPC_COLUMNS = {
    **{MRPC: "sentence1", "#2 String": "sentence2", "Quality": "label"},
    **dict.fromkeys(("#1 ID", "#2 ID", "index")),
}
WHOLE_FIELDS = re.compile(r'(?:(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*)?,)*')  # of a CSV record, up to a fault
QUOTED = re.compile(r'"(?:[^"]|"")*"')  # a field as CSV quotes it

Records = Iterator[tuple[int, list[str]]]  # the row that each begins in, and its fields


def csv_table(source: Source) -> Table:
    """A CSV file: fields with commas between them, in quotes where they hold a comma, a line end or a quote."""
    return _table(source.name, _csv_records(source))


def tsv_table(
    source: Source,
    quotes_are_text: bool = False,
    columns: Sequence[str] = (),
    torn: Callable[[], None] | None = None,
) -> Table:
    """A file of lines whose fields are divided by tabs, with quotes that are text, as GLUE has them.

    pandas and R write such files with quotes that are not text: around a field, those in it doubled. No rule tells that
    from a text that is a quotation as a whole, so a field that is quoted like this is refused, unless the caller knows
    that quotes are text. MRPC's header says it.

    Args:
        source: The file.
        quotes_are_text: Whether every quote is known to be text.
        columns: The names of the columns of a file that has no header.
        torn: Called for each row with too few fields, which is left out; None: such a row is refused.
    """
    return _table(source.name, _tsv_records(source, quotes_are_text), columns, torn)


def lines_table(source: Source) -> Table:
    """A text on each line, as column `text`; a blank line is a row with an empty text, except at the end."""

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        blank = 0
        for number, line in enumerate(source.lines("\n"), 1):
            if not (line := line.rstrip("\r\n")):
                blank += 1
                continue
            for empty in range(number - blank, number):
                yield f"{source.name}: row {empty}:", {"text": ""}
            blank = 0
            yield f"{source.name}: row {number}:", {"text": line}

    return Table(f"{source.name}:", ["text"], rows())


def _csv_records(source: Source) -> Records:
    csv.field_size_limit(sys.maxsize)
    start, records = 1, csv.reader(source.lines(""), strict=True)
    try:
        for fields in records:
            yield start, fields
            start = records.line_num + 1
    except csv.Error as error:
        record = "".join(itertools.islice(source.lines(""), start - 1, None))  # "" if it came from standard input
        row = start + len(re.findall(r"\r\n|\r|\n", WHOLE_FIELDS.match(record)[0]))
        fault = f'closes in row {records.line_num} with text after it; a quote inside quotes is written twice ("")'
        if "unexpected end" in str(error):
            fault = "is never closed"
        raise UserError(f"{source.name}: row {row}: not valid CSV: a quote opens here and {fault}") from None


def _tsv_records(source: Source, quotes_are_text: bool) -> Records:
    for number, line in enumerate(source.lines("\n"), 1):
        line = line.rstrip("\r\n")
        fields = line.split("\t") if line else []
        quotes_are_text = quotes_are_text or (number == 1 and MRPC in fields)
        if not quotes_are_text and '"' in line:
            _check_quotes(f"{source.name}: row {number}:", fields)
        yield number, fields


def _check_quotes(place: str, fields: list[str]) -> None:
    """Passes fields that are not quoted as CSV has it; a lone one that opens with a quote may close in another row."""
    for number, field in enumerate(fields, 1):
        if field.startswith('"') and (len(fields) == 1 or QUOTED.fullmatch(field)):
            raise UserError(
                f"{place} field {number} is in quotes, which a TSV file may have around its text or in it; save the "
                "table as CSV or JSON lines"
            )


def _table(name: str, records: Records, columns: Sequence[str] = (), torn: Callable[[], None] | None = None) -> Table:
    """The table of records, the first of which names the columns unless they are known."""
    if columns:
        return Table(f"{name}:", [*columns], _rows(name, [*columns], records, torn))
    place, fields = f"{name}: row 1: the header", next(records, (1, []))[1]
    if not fields and any(others for _, others in records):
        raise UserError(f"{place} is blank")
    header = [MRPC_COLUMNS.get(field, field) for field in fields] if MRPC in fields else fields
    columns = [column for column in header if column is not None]
    check_columns_differ(place, columns)
    return Table(place, columns, _rows(name, header, records, torn))


def _rows(
    name: str, header: list[str | None], records: Records, torn: Callable[[], None] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record with its place; blank lines at the end are none."""
    blank, width, left_out = None, len(header), None in header
    for number, fields in records:
        if not fields:
            blank = blank or number
            continue
        if blank:
            raise UserError(f"{name}: row {blank}: is blank, but rows follow it")
        if torn and len(fields) < width:
            torn()
            continue
        if len(fields) != width:
            raise UserError(f"{name}: row {number}: has {len(fields)} fields, the header {width}")
        # Their lengths were compared: strict=True would take half as long again.
        row = dict(zip(header, fields))  # noqa: B905
        if left_out:
            del row[None]
        yield f"{name}: row {number}:", row
