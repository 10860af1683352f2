"""A user's own table: columns that are named, labels of any kind, parts that are held out, numbers."""

import collections
import csv
import gzip
import json
from pathlib import Path

import datasets as hugging_face
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.data.readers.examples import label_word
from nutshell.machine.errors import UserError

TEXTS = [f"Text number {number}, of its own." for number in range(12)]
WORDS = ["good", "bad", "fair"] * 4
OWN_YAML = """\
task: classify
seeds: [13]
model: {name: TINY}
data: {name: table, path: PLACE, texts: [text], label: label, max_tokens: 32, validation_examples: 3, test_examples: 3}
training: {max_steps: 2, per_device_train_batch_size: 4, eval_strategy: epoch}
"""


def load(path, **more):
    block = {"texts": ["text"], "label": "label", "validation_examples": 3} | more
    return labelled.load(LabelledData(name="table", path=str(path), **block))


def write_csv(path, columns: dict):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    return path


def labels_of(parts):
    """The names of all labels by text, whatever part they are in."""
    return {
        text: parts.labels[label]
        for part in parts.by_name().values()
        for (text,), label in zip(part.texts, part.labels, strict=True)
    }


# Columns and labels


@pytest.mark.parametrize(
    ("columns", "more", "names"),
    [
        ({"text": TEXTS, "label": WORDS}, {}, ("bad", "fair", "good")),
        (
            {"review": TEXTS, "sentiment": ["positive", "negative"] * 6},
            {"texts": ["review"], "label": "sentiment"},
            None,
        ),
        ({"Text": TEXTS, "Label": [0, 1] * 6}, {"texts": ["Text"], "label": "Label"}, ("0", "1")),
        ({"idx": range(12), "text": TEXTS, "label": [3, 10] * 6, "": range(12)}, {}, ("3", "10")),
        ({"text": TEXTS, "label": ["1.0", "0.0"] * 6}, {}, ("0", "1")),
        ({"text": TEXTS, "label": [" True", "False "] * 6}, {}, ("false", "true")),
        ({"text": TEXTS, "label": ["007", "7"] * 6}, {}, ("007", "7")),
        ({"text": TEXTS, "label": [0, 1] * 6}, {"labels": ["negative", "positive"]}, ("negative", "positive")),
        ({"text": TEXTS, "label": WORDS}, {"labels": ["good", "fair", "bad"]}, ("good", "fair", "bad")),
    ],
    ids=["words", "kaggle_cols", "upper_header", "extra_idx", "float_label", "booleans", "codes", "named", "order"],
)
def test_labels(columns, more, names, tmp_path):
    parts = load(write_csv(tmp_path / "own.csv", columns), **more)
    label = [*columns.values()][list(columns).index(more.get("label", "label"))]
    names = names or tuple(sorted(set(label)))
    assert parts.labels == names
    meant = {text: word for text, word in zip(TEXTS, map(label_word, label), strict=True)}
    if more.get("labels") == ["negative", "positive"]:
        meant = {text: ("negative", "positive")[int(word)] for text, word in meant.items()}
    assert labels_of(parts) == meant


@pytest.mark.parametrize("labels", [[True, False] * 6, [1.0, 0.0] * 6, [1, 0] * 6])
def test_labels_of_json(labels, tmp_path):
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = ("false", "true") if isinstance(labels[0], bool) else ("0", "1")
    parts = load(tmp_path / "own.jsonl")
    assert parts.labels == names
    assert labels_of(parts) == {text: names[bool(label)] for text, label in zip(TEXTS, labels, strict=True)}


@pytest.mark.parametrize("layout", ["csv", "csv.gz", "tsv", "jsonl", "json lines", "json array", "parquet", "arrow"])
def test_every_layout_gives_the_same(layout, tmp_path):
    file = tmp_path / f"own.{layout.split()[0]}"
    rows = [{"text": text, "label": word} for text, word in zip(TEXTS, WORDS, strict=True)]
    table = pyarrow.table({"text": TEXTS, "label": WORDS})
    if "json" in layout:
        file.write_text(json.dumps(rows) if "array" in layout else "\n".join(map(json.dumps, rows)))
    elif layout == "parquet":
        pyarrow.parquet.write_table(table, file)
    elif layout == "arrow":
        hugging_face.Dataset.from_dict({"text": TEXTS, "label": WORDS}).save_to_disk(tmp_path / "saved")
        file = tmp_path / "saved"
    elif layout == "tsv":
        file.write_text("\n".join(["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in rows)]) + "\n\n")
    else:
        plain = write_csv(tmp_path / "plain.csv", {"text": TEXTS, "label": WORDS}).read_bytes()
        file.write_bytes(gzip.compress(plain) if layout.endswith("gz") else plain + b"\n")
    expected = load(write_csv(tmp_path / "expected.csv", {"text": TEXTS, "label": WORDS}))
    parts = load(file)
    assert parts.by_name() == expected.by_name() and parts.labels == expected.labels


def test_a_folder_with_parts(tmp_path):
    (tmp_path / "data").mkdir()
    for part, rows in (("train", slice(0, 6)), ("validation", slice(6, 9)), ("test", slice(9, 12))):
        table = pyarrow.table({"text": TEXTS[rows], "label": WORDS[rows]})
        pyarrow.parquet.write_table(table, tmp_path / "data" / f"{part}-00000-of-00001.parquet")
    parts = load(tmp_path, validation_examples=None)
    assert [len(part) for part in parts.by_name().values()] == [6, 3, 3] and parts.reported_as == "test"
    with pytest.raises(UserError, match="has a test part of its own"):
        load(tmp_path, test_examples=2)


def test_a_test_part_without_labels_is_kept_apart(tmp_path):
    write_csv(tmp_path / "train.csv", {"text": TEXTS, "label": WORDS})
    for columns in ({"text": TEXTS[:3]}, {"text": TEXTS[:3], "label": [-1, -1, -1]}):
        write_csv(tmp_path / "test.csv", columns)
        parts = load(tmp_path)
        assert parts.test is None and parts.unlabelled.texts == [(text,) for text in TEXTS[:3]]
        assert parts.unlabelled.labels is None


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ({"text": TEXTS, "label": ["good"] * 12}, {}, "every training example has the label good"),
        ({"text": TEXTS, "label": ["Good", "bad", "good"] * 4}, {}, r'row 4: label "good" differs from "Good" only in'),
        ({"text": TEXTS, "label": ["a", ""] * 6}, {}, "row 3: label is empty"),
        ({"text": TEXTS, "label": [0, 1, -1] * 4}, {"labels": ["no", "yes"]}, r"row 4: label -1 \(no label\) among"),
        (
            {"text": TEXTS, "label": [0, 2] * 6},
            {"labels": ["no", "yes"]},
            r"row 3: label is \"2\", expected one of 0 \(no",
        ),
        (
            {"text": TEXTS, "label": WORDS},
            {"label": "Lable"},
            "has no column Lable, but text, label; did you mean label",
        ),
        (
            {"text": TEXTS, "label": WORDS},
            {"texts": ["Text"]},
            "has no column Text, but text, label; did you mean text",
        ),
        ({"text": [*TEXTS[:11], " "], "label": WORDS}, {}, "row 13: text is empty"),
        ({"text": TEXTS, "label": WORDS}, {"target": "number"}, 'row 2: label is "good", expected a number'),
        ({"text": TEXTS, "label": ["nan"] * 12}, {"target": "number"}, 'row 2: label is "nan", expected a number'),
        ({"text": TEXTS, "label": ["1_0"] * 12}, {"target": "number"}, 'row 2: label is "1_0", expected a number'),
        (
            {"text": TEXTS * 4, "label": [number + 0.5 for number in range(48)]},
            {},
            "48 different labels in 48 training examples; if it is a number to be predicted, state data.target: number",
        ),
    ],
)
def test_faults(columns, more, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load(write_csv(tmp_path / "own.csv", columns), **more)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_number_that_is_not_whole_is_no_class_unless_it_is_stated(form, tmp_path):
    file, values = tmp_path / f"own.{form}", [0.5, 1, 1.5, 2] * 3
    if form == "csv":
        write_csv(file, {"text": TEXTS, "label": values})
    else:
        rows = [{"text": text, "label": value} for text, value in zip(TEXTS, values, strict=True)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = "row 2" if form == "csv" else "row 1"
    with pytest.raises(UserError, match=rf"{first}: label is 0.5, no class; .* state data.target: number"):
        load(file)
    assert load(file, labels=[0.5, 1, 1.5, 2]).labels == ("0.5", "1", "1.5", "2")
    with pytest.raises(
        UserError, match=r'label is "?1"?, expected one of 0.5, 1.5, 2.5'
    ):  # it does not mean the second
        load(file, labels=[0.5, 1.5, 2.5])


def test_a_label_that_is_no_unicode(tmp_path):
    rows = [{"text": text, "label": f"{word}\ud800"} for text, word in zip(TEXTS, WORDS, strict=True)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"row 1: label is not valid Unicode"):
        load(tmp_path / "own.jsonl")


def test_only_columns_that_are_named_are_in_every_row(tmp_path):
    rows = [{"text": text, "label": word} for text, word in zip(TEXTS, WORDS, strict=True)]
    rows[3]["note"] = "of one row"

    def write(name: str, *lines: dict):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    write("train-0-of-2.jsonl", *rows[:6])
    write("train-1-of-2.jsonl", *({"id": number, **row} for number, row in enumerate(rows[6:])))
    assert len(load(tmp_path).train) == 9
    for name, lines, place in (
        (
            "dev",
            [rows[0], {"text": "Without a label."}],
            r"dev.jsonl: row 2: has columns text; the first row has text, l",
        ),
        ("test", [{"text": "Without a label."}, rows[0]], r"test.jsonl: row 2: has columns text, label; the first row"),
    ):
        write(f"{name}.jsonl", *lines)
        with pytest.raises(UserError, match=place):
            load(tmp_path)
        (tmp_path / f"{name}.jsonl").unlink()


def test_a_folder_without_a_training_part(tmp_path):
    write_csv(tmp_path / "test.csv", {"text": TEXTS, "label": WORDS})
    with pytest.raises(UserError, match=r"holds no training part of table"):
        load(tmp_path)


def test_a_class_without_a_training_example_is_named(tmp_path, caplog):
    """Stated, but nowhere; or all of it is held out."""
    file = write_csv(tmp_path / "own.csv", {"text": TEXTS, "label": [1, 2] * 6})
    load(file, labels=["bad", "fair", "good"])
    assert [record.message for record in caplog.records] == ["table: no training example has the label bad"]
    caplog.clear()
    load(write_csv(file, {"text": TEXTS, "label": ["rare"] + ["b"] * 11}), validation_examples=11)
    assert len(caplog.records) == 1 and "no training example has the label" in caplog.text
    caplog.clear()
    load(write_csv(file, {"text": TEXTS, "label": WORDS}))
    assert not caplog.records


def test_a_label_that_training_lacks_is_named_with_its_row(tmp_path):
    write_csv(tmp_path / "train.csv", {"text": TEXTS, "label": WORDS})
    write_csv(tmp_path / "dev.csv", {"text": TEXTS[:3], "label": ["good", "bad", "awful"]})
    with pytest.raises(
        UserError, match=r'dev\.csv: row 4: label is "awful", which no training example has; .*bad, fair'
    ):
        load(tmp_path)


# Held-out parts


def test_held_out_parts_have_the_proportions_of_the_whole(tmp_path):
    file = write_csv(
        tmp_path / "own.csv",
        {"text": [f"t{n}" for n in range(1000)], "label": ["a" if n % 10 else "b" for n in range(1000)]},
    )
    parts = load(file, validation_examples=50, test_examples=200)
    counts = {name: collections.Counter(part.labels) for name, part in parts.by_name().items()}
    assert counts == {"train": {0: 675, 1: 75}, "validation": {0: 45, 1: 5}, "test": {0: 180, 1: 20}}
    texts = [text for part in parts.by_name().values() for text in part.texts]
    assert len(set(texts)) == len(texts) == 1000
    assert parts.test.texts == load(file, validation_examples=400, test_examples=200, train_examples=9).test.texts
    assert parts.reported_as == "test"


def test_equal_texts_stay_on_one_side(tmp_path):
    texts = [f"t{n % 40}" for n in range(100)] + [f"single {n}" for n in range(60)]
    file = write_csv(tmp_path / "own.csv", {"text": texts, "label": [n % 2 for n in range(160)]})
    parts = load(file, validation_examples=31, test_examples=32)
    sides = [{*part.texts} for part in parts.by_name().values()]
    assert [len(part) for part in parts.by_name().values()] == [97, 31, 32]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert parts.notes == {"shared with the training part": 0}


def test_one_text_throughout_cannot_be_held_out(tmp_path):
    file = write_csv(tmp_path / "own.csv", {"text": ["the same"] * 12, "label": WORDS})
    with pytest.raises(UserError, match=r"validation_examples: 3 cannot be held out: equal texts stay together"):
        load(file)


def test_numbers(tmp_path):
    numbers = [0.25 * n for n in range(12)]
    parts = load(write_csv(tmp_path / "own.csv", {"text": TEXTS, "label": numbers}), target="number")
    assert parts.labels == ()
    pairs = [(*text, y) for part in parts.by_name().values() for text, y in zip(part.texts, part.labels, strict=True)]
    assert sorted(pairs) == sorted(zip(TEXTS, numbers, strict=True))


# Through the command line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path=null"], "data.path is missing"),
        (["data.texts=null"], "data.texts is missing"),
        (["data.label=text"], "data.label: text is one of data.texts"),
        (["data.repository=a/b"], "data.revision is missing: the commit of data.repository"),
        (
            ["data.repository=a/b", "data.revision=" + "a" * 40, "data.path=/a.csv"],
            "data.path: /a.csv leads out of data.repository",
        ),
        (["data.repository=a/b", "data.path=data/../../a.csv"], "leads out of data.repository, in which it is a file"),
        (["data.path=" + 300 * "a"], "aaa: no such file or folder (data.path names it)"),
        (["data.revision=" + "a" * 40], "data.revision is a commit of data.repository, which is not stated"),
        (["data.target=number", "data.labels=[a, b]"], "data.labels: a number has none"),
        (["data.labels=[a, a]"], "one of them is in it twice"),
        (["data.name=sample_reviews", "data.path=null"], "data.texts: sample_reviews has its own"),
        (["data.target=number", "loss={class_weights: balanced}"], "loss.class_weights: a number has no classes"),
        (["data.target=number", "training.label_smoothing_factor=0.1"], "training.label_smoothing_factor: a number is"),
        (["loss={class_weights: [1, 2]}"], "loss.class_weights: 2 numbers for 3 classes"),
        (["training.metric_for_best_model=f1"], "f1 is no metric of 3 labels, which are bad, fair, good"),
        (["reference={f1: [0.1, 0.2], part: test, source: nobody}"], "f1 is no metric of 3 labels"),
    ],
)
def test_refusals(overrides, message, write, nutshell, tmp_path):
    table = write_csv(tmp_path / "own.csv", {"text": TEXTS, "label": WORDS})
    code, _, err = nutshell("show", write(OWN_YAML.replace("PLACE", str(table))), *overrides)
    assert code == 2 and message in err and "Traceback" not in err


def test_a_table_on_the_hub_is_pinned_and_named(write, nutshell, tmp_path, result, monkeypatch):
    """Through a cache that is filled already, as a first run leaves it; the card names the repository."""

    revision = "abcdef0123" * 4
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = Path(constants.HF_HUB_CACHE) / "datasets--someone--reviews" / "snapshots" / revision / "data"
    snapshot.mkdir(parents=True)
    pyarrow.parquet.write_table(
        pyarrow.table({"text": TEXTS, "label": WORDS}), snapshot / "train-00000-of-00001.parquet"
    )
    file = write(OWN_YAML.replace("path: PLACE", f"repository: someone/reviews, revision: {revision}"))
    code, _, err = nutshell("run", file)
    assert code == 0, err
    assert result()["data"]["repository"] == "someone/reviews" and result()["data"]["revision"] == revision
    card = (tmp_path / "outputs/finetune/pairs/seed-13/model/README.md").read_text(encoding="utf-8")
    assert "someone/reviews" in card


def test_the_validation_part_may_be_reported_next_to_a_labelled_test_part(tmp_path):
    """As GLUE's tables are of its validation parts, and the Hub's MRPC has test labels."""
    for part, rows in (("train", slice(0, 6)), ("validation", slice(6, 9)), ("test", slice(9, 12))):
        write_csv(tmp_path / f"{part}.csv", {"text": TEXTS[rows], "label": WORDS[rows]})
    parts = load(tmp_path, validation_examples=None, reported="validation")
    assert parts.reported_name == parts.reported_as == "validation" and parts.test is None
    assert parts.unlabelled.texts == [(text,) for text in TEXTS[9:]] and parts.unlabelled.labels is None
