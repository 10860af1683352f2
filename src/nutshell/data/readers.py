"""The file layouts that examples come in, one reader each: rows with their place, for the messages."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from nutshell.machine.errors import UserError

MRPC_COLUMNS = {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"}
MRPC_IDS = {"#1 ID", "#2 ID", "index"}


def _decode(file: Path) -> str:
    """A file's text; a byte-order mark is dropped."""
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = len(raw) - len(error.object) + error.start  # which counts from after a byte-order mark
        row = raw.count(b"\n", 0, at) + 1
        raise UserError(f"{file}: row {row}: not UTF-8 text (byte {raw[at]:#04x})") from None


def _tsv(file: Path) -> Iterator[tuple[str, dict]]:
    """Microsoft's and GLUE's tab-separated files: quotes are text there, and a row may end in CR LF."""
    lines = _decode(file).split("\n")
    header = [MRPC_COLUMNS.get(name, name) for name in lines[0].rstrip("\r").split("\t")]
    _check_header(file, header)
    kept = [number for number, name in enumerate(header) if name not in MRPC_IDS]
    for number, line in enumerate(lines[1:], 2):
        if line or number < len(lines):
            fields = line.rstrip("\r").split("\t")
            place = f"{file}: row {number}"
            if len(fields) != len(header):
                raise UserError(f"{place}: has {len(fields)} fields, the header {len(header)}")
            yield place, {header[column]: fields[column] for column in kept}


def _check_header(file: Path, header: list[str]) -> None:
    if twice := {name for name in header if header.count(name) > 1}:
        raise UserError(f"{file}: row 1: column {', '.join(sorted(twice))} stands in it twice")


def _csv(file: Path) -> Iterator[tuple[str, dict]]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(io.StringIO(_decode(file), newline=""), strict=True)
    try:
        header = next(rows, [])
        _check_header(file, header)
        for fields in rows:
            place = f"{file}: row {rows.line_num}"
            if len(fields) != len(header):
                raise UserError(f"{place}: has {len(fields)} fields, the header {len(header)}")
            yield place, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise UserError(f"{file}: row {rows.line_num}: not valid CSV: {error}") from None


def _jsonl(file: Path) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(_decode(file).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{file}: row {number}: not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise UserError(f"{file}: row {number}: expected an object with columns, not {line[:40]!r}")
            yield f"{file}: row {number}", row


def _parquet(file: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
        columns = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a readable parquet file: {error}") from None
    for number, values in enumerate(zip(*columns, strict=True), 1):
        yield f"{file}: row {number}", dict(zip(table.column_names, values, strict=True))


def acl_imdb(folder: Path) -> Iterator[tuple[str, dict]]:
    for label, name in enumerate(("neg", "pos")):
        for file in sorted((folder / name).glob("*.txt")):
            yield str(file), {"text": _decode(file), "label": label}


READERS: dict[str, Callable[[Path], Iterator[tuple[str, dict]]]] = {
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
