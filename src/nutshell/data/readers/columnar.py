"""Files that hold columns: parquet and Arrow."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from nutshell.data.readers.sources import Source
from nutshell.data.readers.table import Table, check_columns_differ
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line

ROWS = 1000  # that become Python's values at once


def parquet_table(source: Source) -> Table:
    """A parquet file; what is not a number is null."""

    def _open(stream: BinaryIO) -> tuple[list[str], Iterable[Any]]:
        from pyarrow.parquet import ParquetFile  # read_table would make columns of folders named key=value

        file = ParquetFile(stream)
        return file.schema_arrow.names, file.iter_batches(ROWS)

    return _table(source, "parquet", _open)


def arrow_table(source: Source) -> Table:
    """An Arrow file, or a stream such as `Dataset.save_to_disk` writes; what is not a number is null."""

    def _open(stream: BinaryIO) -> tuple[list[str], Iterable[Any]]:
        from pyarrow import ipc

        if stream.read(6) == b"ARROW1":
            file = ipc.open_file(stream)
            return file.schema.names, map(file.get_batch, range(file.num_record_batches))
        stream.seek(0)
        batches = ipc.open_stream(stream)
        return batches.schema.names, batches

    return _table(source, "Arrow", _open)


def _table(source: Source, kind: str, open_table: Callable[[BinaryIO], tuple[list[str], Iterable[Any]]]) -> Table:
    import pyarrow

    def refused(error: Exception) -> UserError:
        return UserError(f"{source.name}: not a readable {kind} file: {first_line(error)}")

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        try:
            for batch in batches:
                for first in range(0, batch.num_rows, ROWS):
                    columns = map(_values, batch.slice(first, ROWS).columns)
                    for row in zip(*columns, strict=True):
                        number += 1
                        yield f"{source.name}: row {number}:", dict(zip(names, row, strict=True))
        except faults as error:
            raise refused(error) from None

    faults = (pyarrow.ArrowException, OSError, EOFError, zlib.error, ValueError)
    stream = source.open()
    try:
        names, batches = open_table(stream)
    except faults as error:
        raise refused(error) from None
    check_columns_differ(f"{source.name}:", names)
    return Table(f"{source.name}:", names, rows())


def _values(column: Any) -> list[Any]:
    import pyarrow

    values = column.to_pylist()
    return [None if value != value else value for value in values] if pyarrow.types.is_floating(column.type) else values
