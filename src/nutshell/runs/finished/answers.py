"""Answers to new texts, written next to the rows that they are of: all of them, or nothing."""

import contextlib
import csv
import io
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nutshell.data.readers.rows import Table
from nutshell.machine.errors import UserError, plural
from nutshell.machine.files import replacing, writing
from nutshell.machine.progress import duration
from nutshell.runs.finished.application import Application
from nutshell.runs.finished.texts import chunks

logger = logging.getLogger("nutshell")

SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".json")


def check_output(file: Path | None) -> None:
    """Passes a file that answers can be written to; None is standard output.

    Raises:
        UserError: If it cannot, or its suffix is none of CSV, TSV and JSON lines.
    """
    if file is None or not (file.exists() or file.suffix):
        return
    if file.is_dir() or not file.parent.is_dir():
        raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'its folder is not there'}; name a file")
    if file.suffix and file.suffix not in (*SEPARATORS, *JSON_LINES):
        raise UserError(f"{file}: is written as .csv, .tsv or .jsonl; name one of them")


def write(application: Application, table: Table, columns: Sequence[str], output: Path | None) -> None:
    """Writes each row with its answer, in the order of the rows, and says how fast that went.

    Args:
        application: What answers.
        table, columns: The rows, and which of their columns are the texts.
        output: A file that `check_output` has passed; None: standard output, as CSV, after the last row.

    Raises:
        UserError: At a row that cannot be answered. Nothing is written then.
    """
    start, suffix = time.monotonic(), output.suffix if output else ".csv"
    names = list(dict.fromkeys([*table.columns, *application.adds]))
    with _sink(output) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        with _unicode(table.place):
            put = _json_lines(text) if suffix in JSON_LINES else _separated(text, names, SEPARATORS.get(suffix, ","))
        count = 0
        for part, rows in chunks(table, columns, application.may_be_empty):
            answers = application.answer(part)
            for (place, row), *values in zip(rows, *answers.values(), strict=True):
                with _unicode(place):
                    put(row | dict(zip(answers, values, strict=True)))
            count += len(part)
            seconds = time.monotonic() - start
            speed = f"{count / seconds:,.0f} texts/s"
            logger.info("%s in %s, %s", plural(count, "text"), duration(seconds), speed)
        if not count:
            raise UserError(f"{table.place} holds no row")
        text.flush()
        text.detach()


@contextlib.contextmanager
def _unicode(place: str) -> Iterator[None]:
    """Names a row that is written in part of its columns with what no file can hold."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise UserError(f"{place} a column is not valid Unicode: {error.reason}") from None


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    """Where all is written before any of it is seen."""
    if output is not None and (output.is_file() or not output.exists()):
        with writing(output), replacing(output) as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as stream:
        with writing(Path(tempfile.gettempdir())):
            yield stream
        stream.seek(0)
        if output is not None:  # such as /dev/stdout
            with output.open("wb") as device:
                shutil.copyfileobj(stream, device)
            return
        shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.flush()


def _json_lines(text: TextIO) -> Callable[[Mapping[str, Any]], None]:
    def put(row: Mapping[str, Any]) -> None:
        row = {name: None if value != value else value for name, value in row.items()}  # JSON has no NaN
        text.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

    return put


def _separated(text: TextIO, names: Sequence[str], separator: str) -> Callable[[Mapping[str, Any]], None]:
    writer = csv.DictWriter(text, names, delimiter=separator, lineterminator="\n")
    writer.writeheader()

    def put(row: Mapping[str, Any]) -> None:
        writer.writerow({name: _cell(value) for name, value in row.items()})

    return put


def _cell(value: Any) -> str:
    """A value as a field: text as it is, none as nothing, numbers, lists and the like as JSON writes them."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
