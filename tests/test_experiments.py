"""Every experiment file: found, counted, loaded, run two steps on a tiny model."""

import pyarrow
import pyarrow.parquet
import pytest

from nutshell.data import sources
from nutshell.experiment import load
from nutshell.schema import LabelledData
from tests.conftest import ROOT

FILES = sorted((ROOT / "experiments").rglob("*.yaml"))


@pytest.fixture(scope="module")
def local_copies(tmp_path_factory):
    """A little MRPC and IMDB in their original layouts, made of the embedded samples."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mrpc").mkdir()
    (folder / "imdb").mkdir()
    pairs, reviews = (sources.load(LabelledData(name=f"sample_{kind}")) for kind in ("pairs", "reviews"))
    for name, part in (("train", pairs.train), ("dev", pairs.validation)):
        lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        lines += [f"{y}\t1\t2\t{a}\t{b}" for (a, b), y in zip(part.texts[:24], part.labels[:24], strict=True)]
        (folder / "mrpc" / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, part in (("train", reviews.train), ("test", reviews.test)):
        columns = {"text": [text for (text,) in part.texts[:24]], "label": part.labels[:24]}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "imdb" / f"{name}.parquet")
    return folder


def test_all_are_found():
    assert len(FILES) == 8
    assert len({load(file).place for file in FILES}) == 8


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_two_steps(file, tiny, local_copies, nutshell, result, monkeypatch):
    monkeypatch.setenv("NUTSHELL_DATA", str(local_copies))
    experiment = load(file)
    smaller = {
        "model.name": tiny,
        "model.revision": "null",
        "model.trainable": "last_1" if experiment.model.trainable.startswith("last") else experiment.model.trainable,
        "data.max_tokens": 32,
        "data.train_examples": 12,
        "training.max_steps": 2,
        "training.per_device_train_batch_size": 2,
        "data.validation_examples": 4 if experiment.data.validation_examples else "null",
    }
    words = [f"{key}={value}" for key, value in smaller.items()]
    code, out, err = nutshell("run", file, *words, "--seed", experiment.seeds[0])
    assert code == 0, err
    found = result(str(experiment.place), experiment.seeds[0])
    assert found["training"]["steps"] == 2
    for name in experiment.reference.bands() if experiment.reference else ():
        assert name in out
    for key in experiment.training.keys() - {"per_device_train_batch_size"}:
        assert found["experiment"]["training"][key] == experiment.training[key]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_each_says_its_question_source_and_cost(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("# ") and ":" in line[:12]] == [
        "# Question",
        "# Source",
        "# Cost",
    ]
    assert 20 <= len(lines) <= 40
