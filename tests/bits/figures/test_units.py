"""The file of units: written and read back, and refused where it cannot be what it says."""

import json
from dataclasses import replace

import numpy
import pyarrow.parquet
import pytest

from nutshell.bits.figures import units
from nutshell.bits.figures.metrics import Metric, of_classes
from nutshell.bits.figures.statistics import STATISTICS, mean, statistic
from nutshell.bits.figures.units import Units
from nutshell.machine.errors import UserError
from nutshell.tasks import language_model

COLUMNS = {
    "label": numpy.array([0, 1, 1]),
    "predicted": numpy.array([0, 1, 0]),
    "nats": numpy.array([0.1, 0.25, 1e-17]),
    "confidence": numpy.array([0.9, 0.8, 0.6]),
    "probabilities": numpy.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
}
CLASSIFIED = of_classes(2)


def test_written_and_read_back(tmp_path):
    Units("examples", CLASSIFIED, COLUMNS).write(tmp_path)
    again = units.read(tmp_path)
    assert again.kind == "examples" and len(again) == 3
    assert again.metrics == CLASSIFIED
    for name, column in COLUMNS.items():
        assert numpy.array_equal(again.columns[name], column)
    assert again.figures() == Units("examples", CLASSIFIED, COLUMNS).figures()


def test_anyone_can_read_it(tmp_path):
    """Without this package: a parquet file, with the metrics in its metadata."""
    columns = {"nats": [2.0], "tokens": [3], "bytes": [4]}
    Units("stretches of text", language_model.METRICS, {k: numpy.array(v) for k, v in columns.items()}).write(tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "units.parquet")
    assert table.to_pydict() == columns
    assert b"bits_per_byte" in table.schema.metadata[b"nutshell"]


def test_texts_of_different_lengths(tmp_path):
    texts = [[1, 2, 3], [], [7]]
    Units("continuations", (), {"ids": texts}).write(tmp_path)
    assert units.read(tmp_path).columns["ids"] == texts


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_damage(tmp_path, damage):
    Units("examples", (), COLUMNS).write(tmp_path)
    file = tmp_path / "units.parquet"
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    else:
        pyarrow.parquet.write_table(pyarrow.table({"nats": [1.0]}), file)
    with pytest.raises(
        UserError, match=r"units\.parquet: is missing or damaged; run the experiment again with --force"
    ):
        units.read(tmp_path)


def test_a_statistic_of_another_task(tmp_path):
    @statistic
    def harmonic(values, axis=-1):
        return 1 / (1 / values).mean(axis)

    metric = Metric("harmonic", "nats", False, harmonic, ("nats",))
    try:
        Units("examples", (metric,), COLUMNS).write(tmp_path)
        assert units.read(tmp_path).metrics == (metric,)
    finally:
        del STATISTICS["harmonic"]
    with pytest.raises(UserError, match="its statistic harmonic is not known here; install its task"):
        units.read(tmp_path)


def test_a_metric_of_every_kind_of_value(tmp_path):
    """No direction, no bounds, no interval: read back as they are."""
    metric = Metric("mean", "nats", None, mean, ("nats",), resampled=False, bounds=(None, None))
    Units("examples", (metric,), COLUMNS).write(tmp_path)
    assert units.read(tmp_path).metrics == (metric,)


def test_a_metric_of_some_units(tmp_path):
    metric = replace(CLASSIFIED[0], name="accuracy_matched", where="matched")
    matched = numpy.array([True, False, True])
    Units("examples", (CLASSIFIED[0], metric), {**COLUMNS, "matched": matched}).write(tmp_path)
    again = units.read(tmp_path)
    assert again.metrics == (CLASSIFIED[0], metric)
    assert again.columns["matched"].dtype == bool and numpy.array_equal(again.columns["matched"], matched)
    assert again.figures()["accuracy_matched"].value == 0.5


def test_a_file_of_before_metrics_were_of_some_units(tmp_path):
    Units("examples", CLASSIFIED, COLUMNS).write(tmp_path)
    file = tmp_path / "units.parquet"
    table = pyarrow.parquet.read_table(file)
    about = json.loads(table.schema.metadata[b"nutshell"])
    for metric in about["metrics"]:
        assert metric.pop("where") is None
    pyarrow.parquet.write_table(table.replace_schema_metadata({"nutshell": json.dumps(about)}), file)
    assert units.read(tmp_path).metrics == CLASSIFIED
