"""The same rows out of every layout; the parts; the embedded samples."""

import csv
import json
import re

import pyarrow
import pyarrow.parquet
import pytest
from sklearn.linear_model import LogisticRegression

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.machine.errors import UserError

PAIRS = [
    ('He called it "odd, and wet".', "It was “odd”, he said.", 1),
    ("Ten came — café, 東京.", "Two came.", 0),
    ("A\u2028line separator stays.", "It stays.", 1),
]
TSV = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"


def tsv(rows=PAIRS) -> str:
    return "\ufeff" + "\r\n".join([TSV, *(f"{label}\t1\t2\t{a}\t{b}" for a, b, label in rows)]) + "\n"


def load(folder, **more):
    return labelled.load(LabelledData(name="mrpc", path=str(folder), **more))


def write(folder, layout: str):
    if layout == "glue":
        (folder / "train.tsv").write_bytes(tsv().encode())
        (folder / "dev.tsv").write_bytes(tsv().encode())
        (folder / "test.tsv").write_text("index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\thidden\tlabel\n")
    elif layout == "microsoft":
        (folder / "msr_paraphrase_train.txt").write_bytes(tsv().encode())
        (folder / "msr_paraphrase_test.txt").write_bytes(tsv().encode())
    for part in ("train", "validation"):
        if layout == "parquet":
            a, b, label = (list(column) for column in zip(*PAIRS, strict=True))
            columns = {"sentence1": a, "sentence2": b, "label": label, "idx": [0, 1, 2]}
            pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{part}-00000-of-00001.parquet")
        elif layout == "csv":
            with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("sentence1", "sentence2", "label"), *PAIRS])
        elif layout == "jsonl":
            lines = [json.dumps({"label": y, "sentence2": b, "sentence1": a}, ensure_ascii=False) for a, b, y in PAIRS]
            (folder / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("layout", ["glue", "microsoft", "parquet", "csv", "jsonl"])
def test_layouts(layout, tmp_path):
    write(tmp_path, layout)
    parts = load(tmp_path)
    assert parts.train.texts == [(a, b) for a, b, _ in PAIRS]
    assert parts.train.labels == [1, 0, 1]
    assert parts.reported_name == ("test" if layout == "microsoft" else "validation")
    assert parts.notes == {"shared with the training part": 3} and parts.source == "local copy"


def test_acl_imdb(tmp_path):
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for number in (1, 0):
                (folder / f"{number}_9.txt").write_text(f"{part} {label} {number}<br />é", encoding="utf-8")
    parts = labelled.load(LabelledData(name="imdb", path=str(tmp_path)))
    assert parts.train.texts == [(f"train {label} {n}<br />é",) for label in ("neg", "pos") for n in (0, 1)]
    assert parts.train.labels == [0, 0, 1, 1] and parts.reported_name == "test" and len(parts.test) == 4
    (tmp_path / "train" / "neg" / "2_1.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"2_1\.txt: row 1: not UTF-8"):
        labelled.load(LabelledData(name="imdb", path=str(tmp_path)))


def test_a_local_copy_by_environment(tmp_path, monkeypatch):
    (tmp_path / "mrpc").mkdir()
    write(tmp_path / "mrpc", "glue")
    monkeypatch.setenv("NUTSHELL_DATA", str(tmp_path))
    assert len(labelled.load(LabelledData(name="mrpc")).train) == 3
    with pytest.raises(UserError, match="unset one"):
        labelled.load(LabelledData(name="mrpc", revision="a" * 40))
    assert labelled.load(LabelledData(name="sample_pairs")).source == "embedded in nutshell"


def test_held_out_examples():
    """Held out of training, the same whatever else is requested; the data set's own validation part is then for the end."""
    everything = labelled.load(LabelledData(name="sample_pairs"))
    held = labelled.load(LabelledData(name="sample_pairs", validation_examples=50, train_examples=100))
    assert (len(held.train), len(held.validation), held.test.texts) == (100, 50, everything.test.texts)
    assert not {*held.train.texts} & {*held.validation.texts}
    assert {*held.train.texts, *held.validation.texts} <= {*everything.train.texts}
    rest = labelled.load(LabelledData(name="sample_pairs", validation_examples=50))
    assert rest.validation.texts == held.validation.texts and len(rest.train) == len(everything.train) - 50


def test_fewer_reported_examples():
    """The same ones whatever else is requested, in the part's own proportions, equal texts together."""
    everything = labelled.load(LabelledData(name="sample_reviews"))
    some = labelled.load(LabelledData(name="sample_reviews", reported_examples=31))
    again = labelled.load(LabelledData(name="sample_reviews", reported_examples=31, train_examples=9))
    assert (some.test.texts, some.test.labels) == (again.test.texts, again.test.labels)
    assert len(some.test) == 31 and 15 <= sum(some.test.labels) <= 16 and some.reported_name == "test"
    assert {*some.test.texts} < {*everything.test.texts} and some.train.texts == everything.train.texts
    assert some.validation.texts == everything.validation.texts
    assert some.notes == {**everything.notes, "left out of the test part": len(everything.test) - 31}
    with pytest.raises(UserError, match=r"data\.reported_examples: 81 of a test part with 80 examples"):
        labelled.load(LabelledData(name="sample_reviews", reported_examples=81))


def test_fewer_of_a_validation_part_that_is_reported(tmp_path):
    write(tmp_path, "glue")
    parts = load(tmp_path, reported_examples=2)
    assert parts.test is None and len(parts.validation) == len(parts.reported) == 2 and len(parts.train) == 3


def test_the_validation_part_becomes_the_test_part(tmp_path):
    write(tmp_path, "jsonl")
    parts = load(tmp_path, validation_examples=1)
    assert (len(parts.train), len(parts.validation), len(parts.test), parts.reported_name) == (2, 1, 3, "test")


@pytest.mark.parametrize("name", ["sample_pairs", "sample_reviews"])
def test_samples_are_whole(name):
    parts = labelled.load(LabelledData(name=name))
    rows = [text for part in parts.by_name().values() for text in part.texts]
    labels = [label for part in parts.by_name().values() for label in part.labels]
    assert len(rows) >= 300 and len(set(rows)) == len(rows) and sum(labels) * 2 == len(labels)
    sentences = [{sentence for text in part.texts for sentence in text} for part in parts.by_name().values()]
    assert not sentences[0] & sentences[1] and not sentences[0] & sentences[2] and not sentences[1] & sentences[2]


def test_word_overlap_alone_does_not_solve_the_pairs():
    def overlaps(part):
        words = [[set(re.findall(r"\w+", sentence.lower())) for sentence in pair] for pair in part.texts]
        return [[len(a & b) / len(a | b), len(a & b) / min(len(a), len(b))] for a, b in words]

    parts = labelled.load(LabelledData(name="sample_pairs"))
    baseline = LogisticRegression().fit(overlaps(parts.train), parts.train.labels)
    assert baseline.score(overlaps(parts.test), parts.test.labels) < 0.6
    negatives = [row for row, label in zip(overlaps(parts.train), parts.train.labels, strict=True) if label == 0]
    assert sum(row[0] for row in negatives) / len(negatives) > 0.6  # most words are shared


def test_few_labels_are_drawn_from_the_training_part(tmp_path):
    """As many of each label, a function of the seed alone, the smaller draw the beginning of the larger one."""
    parts = labelled.load(LabelledData(name="sample_reviews"))
    drawn = parts.draw(64, 13, "examples")
    assert drawn.labels == [0, 1] * 32 and len({*drawn.texts}) == 64 and {*drawn.texts} <= {*parts.train.texts}
    assert parts.draw(16, 13, "examples").texts == drawn.texts[:16] == parts.draw(64, 13, "examples").texts[:16]
    assert parts.draw(64, 21, "examples").texts != drawn.texts


def test_no_reported_text_is_drawn(tmp_path):
    """Although the training part has it too."""
    train = [{"text": f"review {n}", "label": n % 2} for n in range(12)]
    for name, rows in (("train", train), ("test", train[:6])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parts = labelled.load(LabelledData(name="imdb", path=str(tmp_path)))
    assert parts.notes["shared with the training part"] == 6
    assert {*parts.draw(6, 1, "x").texts} == {(f"review {n}",) for n in range(6, 12)}
    with pytest.raises(UserError, match="x: 8 examples are 4 of each label, but the training part has 3 that are neg"):
        parts.draw(8, 1, "x")
    with pytest.raises(UserError, match="x: 5 examples cannot be as many of each label; 2 labels, so a multiple of 2"):
        parts.draw(5, 1, "x")
