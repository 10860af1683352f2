"""Truncation, encoding, the cache."""

import datasets
import pytest
from transformers import AutoTokenizer

from nutshell.data import labelled as sources
from nutshell.data import tokens
from nutshell.experiment.blocks import LabelledData
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
    """Below the limit, token for token what AutoTokenizer gives; at the limit too for one text."""
    part = sources.load(LabelledData(name=name)).test.take(list(range(40)))
    tokenizer, _ = tokens.load_tokenizer(MINILM)
    stock = AutoTokenizer.from_pretrained(MINILM)
    for limit in (512, 30):
        expected = stock(*[list(column) for column in zip(*part.texts, strict=True)], truncation=True, max_length=limit)
        for number, (input_ids, token_type_ids, _) in enumerate(tokens.encode(part, tokenizer, limit, "head")):
            assert len(input_ids) <= limit
            if limit == 512 or name == "sample_reviews":
                assert input_ids == expected["input_ids"][number]
                assert token_type_ids == expected["token_type_ids"][number]


def test_cached_by_content(tmp_path, monkeypatch):
    part = sources.load(LabelledData(name="sample_pairs")).test
    data = LabelledData(name="sample_pairs", max_tokens=40)
    file = tokens.tokenize(part, data, MINILM)
    monkeypatch.setattr(tokens, "encode", lambda *_: pytest.fail("tokenized again"))
    assert tokens.tokenize(part, data, MINILM) == file
    changed = sources.Part([("Other words.", "Quite other."), *part.texts[1:]], part.labels)
    _, digest = tokens.load_tokenizer(MINILM)
    others = [
        tokens.cached(changed, data, digest),
        tokens.cached(sources.Part(part.texts, part.labels[::-1]), data, digest),
        tokens.cached(part, LabelledData(name="sample_pairs", max_tokens=41), digest),
        tokens.cached(part, LabelledData(name="sample_pairs", max_tokens=40, truncate="tail"), digest),
        tokens.cached(part, data, "0" * 64),
    ]
    assert len({file, *others}) == 6


def test_a_cut_off_write_leaves_nothing(monkeypatch):
    part = sources.load(LabelledData(name="sample_pairs")).test
    data = LabelledData(name="sample_pairs", max_tokens=39)
    encode = tokens.encode

    def interrupted(*args):
        for number, row in enumerate(encode(*args)):
            if number == 5:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(tokens, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tokens.tokenize(part, data, MINILM)
    monkeypatch.undo()
    file = tokens.cached(part, data, tokens.load_tokenizer(MINILM)[1])
    assert not file.exists() and not list(file.parent.glob(f"{file.stem}*"))
    table = datasets.Dataset.from_file(str(tokens.tokenize(part, data, MINILM)))
    assert len(table) == len(part) and table["labels"] == part.labels and table["index"] == list(range(len(part)))
    assert table["length"] == [len(ids) for ids in table["input_ids"]]


def test_count_is_exact_once_cached():
    part = sources.load(LabelledData(name="sample_pairs")).train
    data = LabelledData(name="sample_pairs", max_tokens=63)
    estimate, exact = tokens.count(part, data, MINILM, sample=50)
    assert not exact
    table = datasets.Dataset.from_file(str(tokens.tokenize(part, data, MINILM)))
    assert tokens.count(part, data, MINILM) == (sum(table["length"]), True)
    assert estimate == pytest.approx(sum(table["length"]), rel=0.05)
