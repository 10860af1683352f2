"""Faulty data files: one clear message with file and row, exit code 2."""

import json

import pytest

TWO_PAIRS = [
    {"sentence1": "It rained.", "sentence2": "Rain fell.", "label": 1},
    {"sentence1": "It rained.", "sentence2": "It snowed.", "label": 0},
]


def rows(*changed: dict) -> list[dict]:
    return TWO_PAIRS + [{**TWO_PAIRS[0], **row} for row in changed]


def without_a_label(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "label"}


JSON_FAULTS = {
    "missing column": (
        [without_a_label(TWO_PAIRS[0])],
        "train.jsonl: row 1: has columns sentence1, sentence2; expected sentence1, sentence2, label",
    ),
    "extra column": (
        [{**TWO_PAIRS[0], "score": 1}],
        "train.jsonl: row 1: has columns sentence1, sentence2, label, score; expected",
    ),
    "columns change": (
        rows({"idx": 3}),
        "train.jsonl: row 3: has columns sentence1, sentence2, label, idx; the first row has",
    ),
    "empty text": (rows({"sentence2": "  "}), "train.jsonl: row 3: sentence2 is empty"),
    "text that is no Unicode": (rows({"sentence1": "\ud800"}), "train.jsonl: row 3: sentence1 is not valid Unicode"),
    "label with two signs": (rows({"label": "--1"}), 'train.jsonl: row 3: label is "--1", expected one of'),
    "text that is none": (rows({"sentence1": None}), "train.jsonl: row 3: sentence1 is null, expected text"),
    "label outside the set": (rows({"label": 2}), "train.jsonl: row 3: label is 2, expected one of 0 (not_equivalent)"),
    "label in words": (rows({"label": "yes"}), 'train.jsonl: row 3: label is "yes", expected one of'),
    "label missing among others": (rows({"label": -1}), "train.jsonl: row 3: label -1 (no label)"),
    "empty part": ([], "train.jsonl: the train part is empty"),
}
TSV_HEAD = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
RAW_FAULTS = {
    "train.tsv": [
        (TSV_HEAD + "1\t1\t2\tIt rained.\n", "train.tsv: row 2: has 4 fields, the header 5"),
        (TSV_HEAD + "1\t1\t2\ta\tb\tc\n", "train.tsv: row 2: has 6 fields, the header 5"),
        (TSV_HEAD + "1\t1\t2\ta\tb\n\n1\t1\t2\ta\tb\n", "train.tsv: row 3: is blank, but rows follow it"),
        (TSV_HEAD.encode() + b"1\t1\t2\tcaf\xe9\tb\n", "train.tsv: row 2: not UTF-8 text (byte 0xe9)"),
        (TSV_HEAD, "train.tsv: the train part is empty"),
    ],
    "train.csv": [
        ("sentence1,sentence2,label,label\na,b,1,0\n", "train.csv: row 1: the header has column label twice"),
        ("sentence1,sentence2,label\na,b\n", "train.csv: row 2: has 2 fields, the header 3"),
        ('sentence1,sentence2,label\n"a,b,1\n', "train.csv: row 2: not valid CSV"),
    ],
    "train.jsonl": [
        ('{"sentence1": \n', "train.jsonl: row 1: not valid JSON"),
        ("[1, 2]\n", "train.jsonl: row 1: is a list, expected an object"),
    ],
    "train.parquet": [("not parquet", "train.parquet: not a readable parquet file")],
}


@pytest.mark.parametrize("case", JSON_FAULTS)
def test_faulty_rows(case, write, nutshell, tmp_path):
    content, message = JSON_FAULTS[case]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 2 and message in err


@pytest.mark.parametrize(
    ("name", "content", "message"), [(n, *case) for n, cases in RAW_FAULTS.items() for case in cases]
)
def test_faulty_files(name, content, message, write, nutshell, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 2 and message in err


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no training part of sample_pairs; known layouts"),
        (["train"], "has no validation and no test part"),
        (["train", "dev", "validation"], "holds the validation part more than once"),
    ],
)
def test_missing_parts(names, message, write, nutshell, tmp_path):
    for name in names:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TWO_PAIRS))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 2 and message in err


def test_more_examples_than_there_are(write, nutshell):
    code, _, err = nutshell("show", write(), "data.train_examples=500", "data.validation_examples=100")
    assert code == 2 and "more than the 420 training examples" in err


def test_data_folder_that_is_not_there(write, nutshell, monkeypatch):
    code, _, err = nutshell("show", write(), "data.path=nowhere")
    assert code == 2 and "nowhere: no such folder (data.path names it)" in err
    monkeypatch.setenv("NUTSHELL_DATA", "nowhere")
    code, _, err = nutshell("show", write(), "data.name=mrpc")
    assert code == 2 and "nowhere/mrpc: no such folder (NUTSHELL_DATA names it)" in err


def test_shared_examples_are_a_warning(write, nutshell, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TWO_PAIRS))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 0 and "2 of the 2 validation examples are in the training part too" in err


def test_one_example_to_measure_on(write, nutshell, tmp_path):
    for part, rows in (("train", TWO_PAIRS), ("test", TWO_PAIRS[:1])):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}", "training.eval_strategy=no")
    assert code == 2 and "the test part has 1 example" in err


def test_evaluation_without_a_validation_part(write, nutshell, tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TWO_PAIRS))
    for command in ("run", "show"):
        code, _, err = nutshell(command, write(), f"data.path={tmp_path}")
        assert code == 2 and "has no validation part with labels" in err and "data.validation_examples" in err
