"""What a run measured of each unit, in one file that also names the figures and what computes them."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy

from nutshell.bits.figures.metrics import Columns, Figure, Metric
from nutshell.bits.figures.statistics import STATISTICS
from nutshell.machine.errors import UserError
from nutshell.machine.files import write_bytes

VERSION = 1  # counted up when the layout of the file changes
NAME = "units.parquet"


@dataclass(frozen=True)
class Units:
    """The units of one run.

    Attributes:
        kind: What a unit is, in the plural, such as "examples".
        metrics: The figures that follow from the columns.
        columns: By name; arrays (units,), or (units, ...), or lists of one list for each unit.
    """

    kind: str
    metrics: tuple[Metric, ...]
    columns: Columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def figures(self) -> dict[str, Figure]:
        """Every metric's value and interval, by name."""
        return {metric.name: metric.figure(self.columns) for metric in self.metrics}

    def write(self, folder: Path) -> None:
        """Writes `units.parquet` into a folder, whole or not at all: a row for each unit, the metrics as metadata."""
        import pyarrow
        from pyarrow import parquet

        metrics = [asdict(metric) | {"statistic": metric.statistic.__name__} for metric in self.metrics]
        about = {"version": VERSION, "units": self.kind, "metrics": metrics}
        columns = {name: _column(values) for name, values in self.columns.items()}
        table = pyarrow.table(columns).replace_schema_metadata({"nutshell": json.dumps(about)})
        stream = io.BytesIO()
        parquet.write_table(table, stream)
        write_bytes(folder / NAME, stream.getvalue())


def read(folder: Path) -> Units:
    """The units in a run's folder.

    Raises:
        UserError: If the file is missing or damaged, or names a statistic that no installed task knows.
    """
    import pyarrow
    from pyarrow import parquet

    file = folder / NAME
    try:
        table = parquet.read_table(file)
        about = json.loads(table.schema.metadata[b"nutshell"])
        columns = {name: _array(table[name]) for name in table.column_names}
        metrics = []
        for entry in about["metrics"]:
            if entry["statistic"] not in STATISTICS:
                raise UserError(f"{file}: its statistic {entry['statistic']} is not known here; install its task")
            lists = {key: tuple(entry[key]) for key in ("columns", "given", "bounds")}
            metrics.append(Metric(**entry | lists | {"statistic": STATISTICS[entry["statistic"]]}))
        return Units(about["units"], tuple(metrics), columns)
    except (OSError, pyarrow.ArrowException, ValueError, KeyError, TypeError):
        raise UserError(f"{file}: is missing or damaged; run the experiment again with --force") from None


def _column(values: numpy.ndarray | Sequence):
    """As Arrow has it: (units, k) numbers as lists of a fixed size, by which they are known when they are read."""
    import pyarrow

    if not isinstance(values, numpy.ndarray):
        return pyarrow.array([list(row) for row in values])
    array = pyarrow.array(values.ravel())
    for size in reversed(values.shape[1:]):
        array = pyarrow.FixedSizeListArray.from_arrays(array, size)
    return array


def _array(column) -> numpy.ndarray | list:
    import pyarrow

    if pyarrow.types.is_list(column.type):
        return column.to_pylist()
    shape, column = [len(column)], column.combine_chunks()
    while pyarrow.types.is_fixed_size_list(column.type):
        shape.append(column.type.list_size)
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).reshape(shape)
