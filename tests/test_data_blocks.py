"""Streams, blocks and windows, by brute force; what the collator makes of them; the cache of tokens."""

import json
import shutil

import numpy
import pytest
import torch
from tokenizers import Regex, normalizers

from nutshell.data import tokens, vocabularies
from nutshell.data import windows as blocks
from nutshell.data.documents import Documents
from nutshell.data.vocabularies import Vocabulary
from nutshell.machine.errors import UserError
from nutshell.run.order import PADDING, TextCollator
from tests.conftest import TEXT_YAML

BYTES = vocabularies.of_bytes()
END = BYTES.end_of_text
TEXTS = [
    "Über den Fluß,\r\n\tging 猫 — und 🐈\u200d⬛!\n",
    "Nul \0, \ufeffMarke, e\u0301 und \u2028.",
    "  zwei  Leerzeichen  ",
]
SPELLED = "Es endet <|endoftext|> nicht.<|endoftext|>"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of tokens."""
    monkeypatch.setattr(blocks, "cache_folder", lambda: tmp_path)
    return tmp_path


def normalized(normalizer) -> Vocabulary:
    tokenizer = vocabularies.of_bytes().tokenizer
    tokenizer.normalizer = normalizer
    return Vocabulary(tokenizer, f"digest of {normalizer!r}", END)


# The stream


def test_each_document_is_followed_by_the_end_of_text(cache):
    stream = blocks.stream(Documents(["ab", "", "ß"]), BYTES)
    a, b, *sharp = BYTES.tokenizer.encode("abß").ids
    assert stream.tolist() == [END, a, b, END, END, *sharp, END] and stream.dtype == numpy.int32
    assert isinstance(stream, numpy.memmap)


def test_documents_are_in_order_however_many_there_are(cache):
    many = [f"{number}\n" for number in range(2 * tokens.CHUNK + 3)]
    stream = blocks.stream(Documents(many), BYTES).tolist()
    assert BYTES.tokenizer.decode(stream, skip_special_tokens=True) == "".join(many)
    assert stream.count(END) == len(many) + 1


@pytest.mark.parametrize("text", [*TEXTS, SPELLED])
@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_the_text_can_be_had_back(text, kind, cache):
    vocabulary = BYTES if kind == "bytes" else vocabularies.trained(Documents([*TEXTS, SPELLED]), 270)
    stream = blocks.stream(Documents([text, "."]), vocabulary).tolist()
    end = vocabulary.end_of_text
    assert [place for place, token in enumerate(stream) if token == end] == [0, len(stream) - 3, len(stream) - 1]
    assert vocabulary.tokenizer.decode(stream[1:-3], skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("normalizer", "text", "said"),
    [
        (normalizers.Lowercase(), "es war Einmal.", "'Einmal.' comes back as 'einmal.'"),
        (normalizers.NFC(), "das Cafe\u0301 hier", "'e\u0301 hier' comes back as 'é hier'"),
        (normalizers.Strip(left=False), "es war \n", "' \\n' comes back as ''"),
        pytest.param(
            normalizers.Replace(Regex("$"), "?"),
            "es war",
            "'' comes back as '?'",
        ),
    ],
)
def test_a_tokenizer_that_does_not_keep_the_text_is_refused_with_the_place(normalizer, text, said, cache):
    with pytest.raises(UserError) as error:
        blocks.stream(Documents(["nichts.", text]), normalized(normalizer))
    assert f"the tokenizer does not keep the text: {said}; bits per byte need one that does" in str(error.value)
    assert not [*cache.iterdir()]


def test_a_checkpoint_whose_tokenizer_lower_cases_is_refused(causal, write, nutshell, tmp_path):
    folder = shutil.copytree(causal["gpt2"], tmp_path / "checkpoint")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(content | {"normalizer": {"type": "Lowercase"}}))
    code, _, err = nutshell("show", write(TEXT_YAML), f"model.name={folder}")
    assert code == 2 and "the tokenizer does not keep the text: 'Story" in err and "comes back as 'story" in err


# The cache


def test_the_second_call_reads_what_the_first_has_written(cache, monkeypatch):
    first = blocks.stream(Documents(TEXTS), BYTES)
    (file,) = cache.iterdir()
    monkeypatch.setattr(blocks, "_write", lambda *_: pytest.fail("tokenized again"))
    assert (blocks.stream(Documents([*TEXTS]), vocabularies.of_bytes()) == first).all()
    assert [*cache.iterdir()] == [file]


def test_cached_by_text_and_tokenizer(cache):
    bpe = vocabularies.trained(Documents(TEXTS), 270)
    asked = [
        (TEXTS, BYTES),
        (TEXTS[::-1], BYTES),
        (["".join(TEXTS)], BYTES),
        ([TEXTS[0] + TEXTS[1], TEXTS[2]], BYTES),
        (TEXTS, bpe),
        (TEXTS, vocabularies.trained(Documents(TEXTS), 271)),
        (TEXTS, Vocabulary(BYTES.tokenizer, BYTES.digest, 0)),
    ]
    streams = [tuple(blocks.stream(Documents(texts), vocabulary).tolist()) for texts, vocabulary in asked]
    assert len({*streams}) == len([*cache.iterdir()]) == len(asked)


def test_a_cut_off_write_leaves_nothing(cache, monkeypatch):
    def save(sink, array):
        sink.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks.numpy, "save", save)
    with pytest.raises(KeyboardInterrupt):
        blocks.stream(Documents(TEXTS), BYTES)
    assert not [*cache.iterdir()]


# Blocks and windows


def positions(windows: blocks.Windows) -> list[int]:
    """Scored positions of a stream that counts up from 0."""
    return [int(token) for ids, scored in windows for token in ids[len(ids) - scored :]]


@pytest.mark.parametrize("length", [2, 8, 9, 10, 17, 100])
def test_training_drops_no_token_and_trains_every_position(length):
    made = blocks.windows(numpy.arange(length, dtype=numpy.int32), 8, 8)
    assert positions(made) == list(range(1, length))  # predicted
    assert [int(token) for ids, _ in made for token in ids[:-1]] == list(range(length - 1))  # fed
    assert [len(ids) - 1 for ids, _ in made] == [8] * ((length - 1) // 8) + [(length - 1) % 8] * bool((length - 1) % 8)
    assert all(scored == len(ids) - 1 for ids, scored in made)


@pytest.mark.parametrize(("block", "stride"), [(8, 8), (8, 7), (8, 4), (8, 3), (8, 1), (5, 2), (1, 1), (64, 64)])
def test_every_position_but_the_first_is_scored_once_with_enough_before_it(block, stride):
    for length in range(2, 60):
        made = blocks.windows(numpy.arange(length, dtype=numpy.int32), block, stride)
        assert positions(made) == list(range(1, length))
        for number, (ids, scored) in enumerate(made):
            assert ids.tolist() == list(range(ids[0], ids[0] + len(ids))) and 2 <= len(ids) <= block + 1
            context = len(ids) - scored  # of its first scored token, the one with the least
            assert context >= (block - stride + 1 if number else 1)
            assert 0 < scored <= (stride if number else block)


def test_windows_that_do_not_overlap_share_one_token():
    made = blocks.windows(numpy.arange(10, dtype=numpy.int32), 4, 4)
    assert [(ids.tolist(), scored) for ids, scored in made] == [
        ([0, 1, 2, 3, 4], 4),
        ([4, 5, 6, 7, 8], 4),
        ([8, 9], 1),
    ]


# Batches


def test_rows_are_padded_on_the_right_and_padding_is_not_predicted():
    rows = [(numpy.array([5, 6, 7, 8], numpy.int32), 4), (numpy.array([9, END], numpy.int32), 2)]
    batch = TextCollator(END)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, END, END, END]]
    assert batch["labels"].tolist() == [[5, 6, 7, 8], [9, END, PADDING, PADDING]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert PADDING == -100 and {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_what_is_not_scored_is_no_label():
    rows = [(numpy.array([5, 6, 7, 8], numpy.int32), 1), (numpy.array([4, 3, 2, 1], numpy.int32), 3)]
    batch = TextCollator(END)(rows)
    assert batch["labels"].tolist() == [[-100, -100, -100, 8], [-100, 3, 2, 1]]
    assert "attention_mask" not in batch


@pytest.mark.parametrize("size", [1, 4, 64])
def test_labels_of_all_batches_are_the_scored_tokens(size, cache):
    stream = blocks.stream(Documents(TEXTS), BYTES)
    made = blocks.windows(stream, 16, 5)
    labels = []
    for first in range(0, len(made), size):
        batch = TextCollator(END)([made[row] for row in range(first, min(first + size, len(made)))])
        scored = batch["labels"] != PADDING
        assert (batch["labels"][scored] == batch["input_ids"][scored]).all()
        assert not scored[:, 0].any()  # the model's loss has no prediction of a row's first token
        labels += batch["labels"][scored].tolist()
    assert labels == stream[1:].tolist()


def test_stretches_by_brute_force(cache, monkeypatch):
    """Every token's nats in the stretch of its last byte, an end of text in its document's last; an empty document is
    a stretch of its own; the same stretches for another tokenizer."""
    monkeypatch.setattr(blocks, "STRETCH_BYTES", 10)
    documents = Documents([*TEXTS, "", "0123456789"])
    expected, costs = {}, []
    for number, text in enumerate(documents.texts):
        size = len(text.encode())
        for start in range(0, max(1, size), 10):
            expected[number, start] = [min(10, size - start), 0, 0.0]
        for place in [*range(size), max(0, size - 1)]:  # the last is the end of text
            costs.append(float(len(costs) + 1))
            row = expected[number, place // 10 * 10]
            row[1], row[2] = row[1] + 1, row[2] + costs[-1]
    found = blocks.stretches(documents, BYTES, blocks.stream(documents, BYTES), numpy.array(costs))
    assert {
        (row["document"], row["start_byte"]): [row["bytes"], row["tokens"], row["nats"]] for row in found
    } == expected
    trained = vocabularies.trained(Documents(TEXTS * 3), 270)
    tokens = blocks.stream(documents, trained)
    other = blocks.stretches(documents, trained, tokens, numpy.ones(len(tokens) - 1))
    keys = ("document", "start_byte", "bytes")
    assert [[row[key] for key in keys] for row in other] == [[row[key] for key in keys] for row in found]
    assert sum(row["tokens"] for row in other) == sum(row["nats"] for row in other) == len(tokens) - 1 < len(costs)
