"""The Hub: names and pinned revisions resolve from its cache off line; away, it is named with what helps."""

import shutil

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants, errors

from nutshell.data import labelled
from nutshell.data.datasets import DATASETS, TEXTS, LabelledData
from nutshell.experiment.load import load
from nutshell.tasks.task import tasks
from tests.conftest import ROOT

MRPC = ROOT / "experiments" / "finetune" / "mrpc.yaml"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub's, and no way to the Hub itself."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def snapshot(cache, kind: str, name: str, revision: str):
    folder = cache / f"{kind}--{name.replace('/', '--')}" / "snapshots" / revision
    folder.mkdir(parents=True)
    return folder


def test_from_the_cache_by_name_and_revision(cache, tiny, nutshell, result):
    model = load(MRPC, [], tasks()).model
    shutil.copytree(tiny, snapshot(cache, "models", model.name, model.revision), dirs_exist_ok=True)
    glue = DATASETS["mrpc"].origin
    folder = snapshot(cache, "datasets", glue.repository, glue.revision) / "mrpc"
    folder.mkdir()
    for part, rows in (("train", 12), ("validation", 6), ("test", 4)):
        columns = {
            "sentence1": [f"{part} sentence {row}" for row in range(rows)],
            "sentence2": [f"another {part} sentence {row}" for row in range(rows)],
            "label": [-1 if part == "test" else row % 2 for row in range(rows)],
            "idx": list(range(rows)),
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{part}-00000-of-00001.parquet")
    code, _, err = nutshell("run", MRPC, "training.max_steps=2", "--seed", 13)
    assert code == 0, err
    found = result("finetune/mrpc")
    assert found["data"]["source"] == f"Hub nyu-mll/glue@{glue.revision}"
    assert found["data"]["examples"] == {"train": 12, "validation": 6}
    assert found["evaluated_on"]["text"].endswith("part, which serves as test part; it chose nothing")


def test_imdb_from_the_cache(cache):
    imdb = DATASETS["imdb"].origin
    folder = snapshot(cache, "datasets", imdb.repository, imdb.revision) / "plain_text"
    folder.mkdir()
    for part in ("train", "test", "unsupervised"):
        columns = {"text": [f"{part} film", f"{part} flop"], "label": [-1, -1] if part == "unsupervised" else [1, 0]}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{part}-00000-of-00001.parquet")
    parts = labelled.load(LabelledData(name="imdb"))
    assert parts.train.texts[0] == ("train film",) and parts.test.texts[1] == ("test flop",)


def test_not_in_the_cache(cache, nutshell):
    code, _, err = nutshell("run", MRPC)
    assert code == 2 and "the Hub cannot be reached and its local cache does not hold it" in err
    assert "model.name" in err and "minilm" in err
    code, _, err = nutshell("run", MRPC, "model.name=minilm", "model.revision=null")
    assert code == 2 and "nyu-mll/glue" in err and "data.path" in err and "sample_pairs" in err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no route to host"), "the Hub cannot be reached (no route to host)"),
        (errors.HFValidationError("bad name"), "is neither a folder nor a name on the Hub"),
    ],
)
def test_other_answers(error, message, nutshell, monkeypatch):
    def snapshot_download(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    code, _, err = nutshell("run", MRPC)
    assert code == 2 and message in err


def test_gpt2_and_wikitext_from_the_cache(cache, causal, nutshell, result):
    file = ROOT / "experiments" / "language_model" / "gpt2_wikitext2_zero_shot.yaml"
    model, wikitext = load(file, [], tasks()).model, TEXTS["wikitext2"].origin
    shutil.copytree(causal["gpt2"], snapshot(cache, "models", model.name, model.revision), dirs_exist_ok=True)
    folder = snapshot(cache, "datasets", wikitext.repository, wikitext.revision) / wikitext.folder
    folder.mkdir()
    for part in ("train", "validation", "test"):
        table = pyarrow.table({"text": ["", f" = {part} = \n", "", " A line of text . \n"]})
        pyarrow.parquet.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    code, _, err = nutshell("run", file, "data.block_tokens=16", "evaluation.stride=16")
    assert code == 0, err
    found = result("language_model/gpt2_wikitext2_zero_shot")
    assert found["data"]["source"] == f"Hub Salesforce/wikitext@{wikitext.revision}"
    assert found["facts"]["bytes measured"] == len("\n\n = test = \n\n\n\n\n A line of text . \n")
