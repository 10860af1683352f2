"""Truncation, encoding, the cache."""

import datasets
import pytest
from huggingface_hub import constants
from transformers import AutoTokenizer

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.data.encoding import tokens
from nutshell.data.parts import Part
from tests.conftest import MINILM

TEN = list(range(10))


@pytest.mark.parametrize(
    ("truncate", "budget", "expected"),
    [
        ("head", 10, TEN),
        ("head", 4, [0, 1, 2, 3]),
        ("tail", 4, [6, 7, 8, 9]),
        ("tail", 1, [9]),
        ("head_tail", 4, [0, 1, 8, 9]),
        ("head_tail", 5, [0, 1, 7, 8, 9]),
    ],
)
def test_cut(truncate, budget, expected):
    assert tokens.cut(TEN, budget, truncate) == expected


def test_head_tail_is_128_and_382_of_510():
    ids = list(range(2000))
    assert tokens.cut(ids, 510, "head_tail") == ids[:128] + ids[-382:]


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([3, 4], 10, [3, 4]),
        ([3, 20], 10, [3, 7]),
        ([20, 3], 10, [7, 3]),
        ([20, 30], 10, [5, 5]),
        ([30, 20], 11, [6, 5]),
        ([20], 10, [10]),
    ],
)
def test_the_longer_sentence_is_cut_first(lengths, budget, expected):
    assert tokens.share(lengths, budget) == expected


@pytest.mark.parametrize("name", ["sample_pairs", "sample_reviews"])
def test_encoding_is_the_stock_tokenizers(name):
    """Token for token what AutoTokenizer gives, below the limit and at it."""
    part = labelled.load(LabelledData(name=name)).test.take(list(range(40)))
    tokenizer, _ = tokens.load_tokenizer(MINILM)
    stock = AutoTokenizer.from_pretrained(MINILM)
    for limit in (512, 30):
        expected = stock(*[list(column) for column in zip(*part.texts, strict=True)], truncation=True, max_length=limit)
        for number, (input_ids, token_type_ids, _) in enumerate(tokens.encode(part, tokenizer, limit, "head")):
            assert len(input_ids) <= limit
            assert input_ids == expected["input_ids"][number]
            assert token_type_ids == expected["token_type_ids"][number]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of tokens."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nutshell"


def test_cached_by_content(cache, tmp_path):
    part = labelled.load(LabelledData(name="sample_pairs")).test
    data = LabelledData(name="sample_pairs", max_tokens=40)
    file = tokens.tokenize(part, data, MINILM)
    before = file.stat()
    assert tokens.tokenize(part, data, MINILM) == file and file.stat() == before
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "tokenizer.json").write_bytes((MINILM / "tokenizer.json").read_bytes() + b"\n")
    others = [
        tokens.tokenize(Part([("Other words.", "Quite other."), *part.texts[1:]], part.labels), data, MINILM),
        tokens.tokenize(Part(part.texts, part.labels[::-1]), data, MINILM),
        tokens.tokenize(part, LabelledData(name="sample_pairs", max_tokens=41), MINILM),
        tokens.tokenize(part, LabelledData(name="sample_pairs", max_tokens=40, truncate="tail"), MINILM),
        tokens.tokenize(part, data, checkpoint),
    ]
    assert {*cache.iterdir()} == {file, *others} and len({file, *others}) == 6


class Interrupting(list):
    """Labels that fail at the 1,500th."""

    def __getitem__(self, row):
        if row == 1500:
            raise KeyboardInterrupt
        return super().__getitem__(row)


def test_a_cut_off_write_leaves_nothing(cache):
    part = labelled.load(LabelledData(name="sample_pairs")).test
    part = Part(part.texts * 20, part.labels * 20)
    data = LabelledData(name="sample_pairs", max_tokens=39)
    with pytest.raises(KeyboardInterrupt):
        tokens.tokenize(Part(part.texts, Interrupting(part.labels)), data, MINILM)
    assert not [*cache.iterdir()]
    table = datasets.Dataset.from_file(str(tokens.tokenize(part, data, MINILM)))
    assert len(table) == len(part) and table["labels"] == part.labels and table["index"] == list(range(len(part)))
    assert table["length"] == [len(ids) for ids in table["input_ids"]]


def test_count_is_exact_once_cached():
    part = labelled.load(LabelledData(name="sample_pairs")).train
    data = LabelledData(name="sample_pairs", max_tokens=63)
    estimate, exact = tokens.count(part, data, MINILM, sample=50)
    assert not exact
    table = datasets.Dataset.from_file(str(tokens.tokenize(part, data, MINILM)))
    assert tokens.count(part, data, MINILM) == (sum(table["length"]), True)
    assert estimate == pytest.approx(sum(table["length"]), rel=0.05)


@pytest.mark.parametrize(
    ("labels", "kind"), [([1, 0], "int64"), ([0.5, 4.0], "float64"), ([float("inf"), 1e-30], "float64"), (None, None)]
)
def test_labels_of_each_kind(labels, kind, cache):
    part = Part([("One.",), ("Two.",)], labels)
    table = datasets.Dataset.from_file(str(tokens.tokenize(part, LabelledData(name="sample_reviews"), MINILM)))
    assert (table.features["labels"].dtype if "labels" in table.features else None) == kind
    if labels is not None:
        assert table["labels"] == labels
    assert table["index"] == [0, 1]
