"""Streams, blocks and windows, by brute force; what the collator makes of them; the cache of tokens."""

import json
import re
import shutil

import numpy
import pytest
import torch
from huggingface_hub import constants
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from nutshell.data.encoding import tokens, vocabularies
from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.text import stretches, windows
from nutshell.machine.errors import UserError
from nutshell.runs.trainer.language import TextCollator
from nutshell.runs.trainer.order import PADDING
from tests.conftest import TEXT_YAML, text_part

BYTES = vocabularies.of_bytes()
END = BYTES.end_of_text
TEXTS = [
    "Über den Fluß,\r\n\tging 猫 — und 🐈\u200d⬛!\n",
    "Nul \0, \ufeffMarke, e\u0301 und \u2028.",
    "  zwei  Leerzeichen  ",
]
COUNTING = Vocabulary(None, "", -1)  # of a stream that counts up from 0
SPELLED = "Es endet <|endoftext|> nicht.<|endoftext|>"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of tokens."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    (tmp_path / "nutshell").mkdir()
    return tmp_path / "nutshell"


def normalized(normalizer) -> Vocabulary:
    tokenizer = vocabularies.of_bytes().tokenizer
    tokenizer.normalizer = normalizer
    return Vocabulary(tokenizer, f"digest of {normalizer!r}", END)


# The stream


def test_each_document_is_followed_by_the_end_of_text(cache):
    stream = windows.stream(text_part(["ab", "", "ß"]), BYTES)
    a, b, *sharp = BYTES.tokenizer.encode("abß").ids
    assert stream.tolist() == [END, a, b, END, END, *sharp, END] and stream.dtype == numpy.int32
    assert isinstance(stream, numpy.memmap)


def test_documents_are_in_order_however_many_there_are(cache):
    many = [f"{number}\n" for number in range(2 * tokens.CHUNK + 3)]
    stream = windows.stream(text_part(many), BYTES).tolist()
    assert BYTES.tokenizer.decode(stream, skip_special_tokens=True) == "".join(many)
    assert stream.count(END) == len(many) + 1


@pytest.mark.parametrize("text", [*TEXTS, SPELLED])
@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_the_text_can_be_had_back(text, kind, cache):
    vocabulary = BYTES if kind == "bytes" else vocabularies.trained(text_part([*TEXTS, SPELLED]), 270)
    stream = windows.stream(text_part([text, "."]), vocabulary).tolist()
    end = vocabulary.end_of_text
    assert [place for place, token in enumerate(stream) if token == end] == [0, len(stream) - 3, len(stream) - 1]
    assert vocabulary.tokenizer.decode(stream[1:-3], skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("normalizer", "text", "message"),
    [
        (normalizers.Lowercase(), "es war Einmal.", '"Einmal." comes back as "einmal."'),
        (normalizers.NFC(), "das Cafe\u0301 hier", '"e\u0301 hier" comes back as "é hier"'),
        (normalizers.Strip(left=False), "es war \n", '" \\n" comes back as ""'),
        pytest.param(
            normalizers.Replace(Regex("$"), "?"),
            "es war",
            '"" comes back as "?"',
        ),
    ],
)
def test_a_tokenizer_that_does_not_keep_the_text_is_refused_with_the_place(normalizer, text, message, cache):
    with pytest.raises(UserError) as error:
        windows.stream(text_part(["nichts.", text]), normalized(normalizer))
    assert f"the tokenizer does not keep the text: {message}; bits per byte need one that does" in str(error.value)
    assert not [*cache.iterdir()]


def test_a_checkpoint_whose_tokenizer_lower_cases_is_refused(causal, write, nutshell, tmp_path):
    folder = shutil.copytree(causal["gpt2"], tmp_path / "checkpoint")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(content | {"normalizer": {"type": "Lowercase"}}))
    code, _, err = nutshell("show", write(TEXT_YAML), f"model.name={folder}")
    assert code == 2 and 'the tokenizer does not keep the text: "Story' in err and 'comes back as "story' in err


def test_a_token_that_ends_a_text_and_is_in_it_is_refused(cache):
    ends = BYTES.tokenizer.token_to_id("&")
    vocabulary = Vocabulary(BYTES.tokenizer, BYTES.digest, ends, END)
    assert windows.stream(text_part(["salt", "pepper"]), vocabulary).tolist().count(ends) == 3
    with pytest.raises(UserError) as error:
        windows.stream(text_part(["salt", "salt & pepper"]), vocabulary)
    message = (
        f'config.json ends a text with eos_token_id {ends}, the token "&", the tokenizer with eos_token_id {END}, '
    )
    assert str(error.value).startswith(f'{message}the token "<|endoftext|>": the text has that token')


@pytest.mark.parametrize("command", ["show", "run"])
@pytest.mark.parametrize(("ends", "reason"), [(END + 1, "which is no token"), (None, 'the token "&"')])
def test_a_checkpoint_that_ends_a_text_wrongly_is_refused_before_it_is_trained(
    ends, reason, command, causal, write, nutshell, tmp_path
):
    ends = ends or BYTES.tokenizer.token_to_id("&")
    folder = shutil.copytree(causal["gpt2"], tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": ends}), encoding="utf-8")
    (tmp_path / "a.txt").write_text("salt & pepper\n" * 20, encoding="utf-8")
    code, _, err = nutshell(command, write(TEXT_YAML), f"model.name={folder}", f"data.path={tmp_path / 'a.txt'}")
    assert code == 2 and "Traceback" not in err and not [*tmp_path.rglob("metrics.json"), *tmp_path.rglob("*.partial")]
    assert f"eos_token_id {ends}, {reason}" in err and f'eos_token_id {END}, the token "<|endoftext|>"' in err


# The cache


def test_the_second_call_reads_what_the_first_has_written(cache):
    first = windows.stream(text_part(TEXTS), BYTES)
    (file,) = cache.iterdir()
    no_tokenizer = Vocabulary(None, vocabularies.of_bytes().digest, END)
    assert (windows.stream(text_part([*TEXTS]), no_tokenizer) == first).all()
    assert [*cache.iterdir()] == [file]


def test_cached_by_text_and_tokenizer(cache):
    bpe = vocabularies.trained(text_part(TEXTS), 270)
    requests = [
        (TEXTS, BYTES),
        (TEXTS[::-1], BYTES),
        (["".join(TEXTS)], BYTES),
        ([TEXTS[0] + TEXTS[1], TEXTS[2]], BYTES),
        (TEXTS, bpe),
        (TEXTS, vocabularies.trained(text_part(TEXTS), 271)),
        (TEXTS, Vocabulary(BYTES.tokenizer, BYTES.digest, BYTES.tokenizer.token_to_id("Q"))),
    ]
    streams = [tuple(windows.stream(text_part(texts), vocabulary).tolist()) for texts, vocabulary in requests]
    assert len({*streams}) == len([*cache.glob("*.npy")]) == len(requests)


def test_a_cut_off_write_leaves_nothing(cache, monkeypatch):
    def save(sink, array):
        sink.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(numpy, "save", save)
    with pytest.raises(KeyboardInterrupt):
        windows.stream(text_part(TEXTS), BYTES)
    assert not [*cache.iterdir()]


# Blocks and windows


def positions(spans: windows.Windows) -> list[int]:
    """Scored positions of a stream that counts up from 0."""
    return [int(token) for ids, scored in spans for token in ids[len(ids) - scored :]]


@pytest.mark.parametrize("length", [2, 8, 9, 10, 17, 100])
def test_training_drops_no_token_and_trains_every_position(length):
    spans = windows.windows(numpy.arange(length, dtype=numpy.int32), COUNTING, 8, 8)
    assert positions(spans) == list(range(1, length))  # predicted
    assert [int(token) for ids, _ in spans for token in ids[:-1]] == list(range(length - 1))  # fed
    assert [len(ids) - 1 for ids, _ in spans] == [8] * ((length - 1) // 8) + [(length - 1) % 8] * bool((length - 1) % 8)
    assert all(scored == len(ids) - 1 for ids, scored in spans)


@pytest.mark.parametrize(("block", "stride"), [(8, 8), (8, 7), (8, 4), (8, 3), (8, 1), (5, 2), (1, 1), (64, 64)])
def test_every_position_but_the_first_is_scored_once_with_enough_before_it(block, stride):
    for length in range(2, 60):
        spans = windows.windows(numpy.arange(length, dtype=numpy.int32), COUNTING, block, stride)
        assert positions(spans) == list(range(1, length))
        for number, (ids, scored) in enumerate(spans):
            assert ids.tolist() == list(range(ids[0], ids[0] + len(ids))) and 2 <= len(ids) <= block + 1
            context = len(ids) - scored  # of its first scored token, the one with the least
            assert context >= (block - stride + 1 if number else 1)
            assert 0 < scored <= (stride if number else block)


def test_windows_that_do_not_overlap_share_one_token():
    spans = windows.windows(numpy.arange(10, dtype=numpy.int32), COUNTING, 4)
    assert [(ids.tolist(), scored) for ids, scored in spans] == [
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
    stream = windows.stream(text_part(TEXTS), BYTES)
    spans = windows.windows(stream, BYTES, 16, 5)
    labels = []
    for first in range(0, len(spans), size):
        batch = TextCollator(END)([spans[row] for row in range(first, min(first + size, len(spans)))])
        scored = batch["labels"] != PADDING
        assert (batch["labels"][scored] == batch["input_ids"][scored]).all()
        assert not scored[:, 0].any()  # the model's loss has no prediction of a row's first token
        labels += batch["labels"][scored].tolist()
    assert labels == stream[1:].tolist()


def test_stretches_by_brute_force(cache, monkeypatch):
    """Every token's nats in the stretch of its last byte, an end of text in its document's last; an empty document is
    a stretch of its own; the same stretches for another tokenizer."""
    monkeypatch.setattr(stretches, "STRETCH_BYTES", 10)
    part = text_part([*TEXTS, "", "0123456789"])
    every = [
        (number, start, min(10, len(text.encode()) - start))
        for number, text in enumerate(part.documents)
        for start in range(0, max(1, len(text.encode())), 10)
    ]
    counts = []
    for vocabulary in (BYTES, vocabularies.trained(text_part(TEXTS * 3), 270)):
        nats, tokens, stream = (
            dict.fromkeys(every, 0.0),
            dict.fromkeys(every, 0),
            windows.stream(part, vocabulary),
        )
        costs = numpy.random.default_rng(0).exponential(size=len(stream) - 1)
        number, end = 0, 0  # of the document, and of the token in its bytes
        for token, cost in zip(stream[1:].tolist(), costs, strict=True):
            ends = token == vocabulary.end_of_text
            end += 0 if ends else len(vocabulary.tokenizer.id_to_token(token))
            place = next(key for key in every if key[0] == number and max(0, end - 1) < key[1] + 10)
            nats[place], tokens[place] = nats[place] + cost, tokens[place] + 1
            number, end = (number + 1, 0) if ends else (number, end)
        columns = stretches.sums(part, vocabulary, windows.windows(stream, vocabulary, 8), costs)
        assert [*zip(*(columns[key].tolist() for key in ("document", "start_byte", "bytes")), strict=True)] == every
        assert columns["tokens"].tolist() == [*tokens.values()]
        assert columns["nats"] == pytest.approx([*nats.values()])
        counts.append(columns["tokens"].sum())
    assert counts[1] < counts[0] == part.size_bytes + len(part)


def test_tokens_that_are_not_bytes_leave_one_stretch(cache, caplog):
    """The whole text: its figure holds, and has no interval."""
    letters = {"[a]": 0, "ß": 1, "<end>": 2}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<end>"))
    tokenizer.normalizer = normalizers.Replace("a", "[a]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\[a\]|ß"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("[a]", "a"), decoders.Fuse()])
    vocabulary, part = Vocabulary(tokenizer, "letters", 2), text_part(["aß", "ßa"])
    stream = windows.stream(part, vocabulary)
    columns = stretches.sums(part, vocabulary, windows.windows(stream, vocabulary, 8), numpy.arange(6.0))
    assert {name: column.tolist() for name, column in columns.items()} == {
        "document": [0],
        "start_byte": [0],
        "bytes": [6],
        "words": [2],
        "tokens": [6],
        "nats": [15.0],
    }
    assert "the tokenizer's tokens are not bytes: no interval" in caplog.text


def test_small_costs_are_not_lost_in_a_long_sum(cache):
    part = text_part(["x" * 3_000_000])
    stream = windows.stream(part, BYTES)
    costs = numpy.full(len(stream) - 1, 0.1, dtype=numpy.float32)
    nats = stretches.sums(part, BYTES, windows.windows(stream, BYTES, 8), costs)["nats"].sum()
    assert nats == pytest.approx(len(costs) * float(numpy.float32(0.1)), rel=1e-12)


def test_words_are_those_of_lm_evaluation_harness(monkeypatch, cache):
    """One more than there are runs of white space; each in the stretch that it begins in."""
    monkeypatch.setattr(stretches, "STRETCH_BYTES", 4)
    texts = ["ab  cd", "", " x", "abc ", "né\u3000猫\n\n", "abcd\u2003", *TEXTS]
    for text in texts:
        assert len(stretches.words(text)) == len(re.split(r"\s+", text))
    assert stretches.words("né\u3000猫\n\n").tolist() == [0, 6, 11]
    part = text_part(texts)
    assert stretches.sizes(part)["words"] == sum(len(re.split(r"\s+", text)) for text in texts)
    stream = windows.stream(part, BYTES)
    columns = stretches.sums(part, BYTES, windows.windows(stream, BYTES, 8), numpy.zeros(len(stream) - 1))
    by_document = [columns["words"][columns["document"] == number].tolist() for number in range(6)]
    assert by_document == [[1, 1], [1], [2], [2], [1, 1, 1], [1, 1]]
    assert columns["words"].sum() == stretches.sizes(part)["words"]


# Documents apart, ends, the last window


def lm_eval_windows(ids: list[int], prefix: int, block: int, context: int) -> list[tuple[list[int], list[int]]]:
    """(fed, predicted) of each window of a document, as lm-evaluation-harness documents its rolling windows: the first
    predicts `block` tokens after the prefix; each later one block - context + 1, or what is left, with all the context
    that fits."""
    fed, predicted = [], min(block, len(ids))
    if ids:
        fed.append(([prefix, *ids[: predicted - 1]], ids[:predicted]))
    while predicted < len(ids):
        count = min(len(ids) - predicted, block - context + 1)
        end = predicted + count
        fed.append((ids[end - block - 1 : end - 1], ids[end - count : end]))
        predicted = end
    return fed


STARTED = Vocabulary(BYTES.tokenizer, BYTES.digest, END, start=BYTES.tokenizer.token_to_id("Ā"))  # of a byte 0
AROUND = pytest.mark.parametrize("vocabulary", [BYTES, STARTED], ids=["one token", "two tokens"])


@AROUND
@pytest.mark.parametrize(("block", "stride"), [(8, None), (8, 8), (8, 3), (8, 1), (1, 1), (64, 5)])
def test_windows_of_lm_evaluation_harness(vocabulary, block, stride):
    """A stride of block - context + 1 tokens is its `context_len`, 1 in `loglikelihood_rolling`."""
    texts = ["x" * length for length in (0, 1, 7, 8, 9, 16, 17, 50)]
    rows = windows.encode(texts, vocabulary)
    every = windows.windows(
        windows.join(rows, vocabulary), vocabulary, block, stride, "separate", count_ends=False, last_window="full"
    )
    expected = [
        window
        for ids in rows
        for window in lm_eval_windows(ids, vocabulary.start_of_text, block, block - (stride or block) + 1)
    ]
    ours = [(ids[:-1].tolist(), ids[len(ids) - scored :].tolist()) for ids, scored in every]
    assert sorted(ours) == sorted(expected)
    assert [len(fed) for fed, _ in ours] == sorted((len(fed) for fed, _ in ours), reverse=True)
    assert every.scored.sum() == sum(map(len, rows))


@AROUND
@pytest.mark.parametrize("stride", [None, 5, 1])
@pytest.mark.parametrize("last_window", ["short", "full"])
@pytest.mark.parametrize("count_ends", [True, False])
@pytest.mark.parametrize("documents", ["joined", "separate"])
def test_every_token_that_counts_is_predicted_once_with_its_context(
    documents, count_ends, last_window, stride, vocabulary
):
    rows = windows.encode(["", "ab", "c" * 20, "", "d" * 8, "e" * 9], vocabulary)
    tokens = windows.join(rows, vocabulary)
    every = windows.windows(tokens, vocabulary, 8, stride, documents, count_ends, last_window)
    times = numpy.zeros(len(tokens), int)
    for start, end, scored in every.spans:
        times[end - scored : end] += 1
        assert 2 <= end - start <= 9
        if documents == "separate":
            assert vocabulary.end_of_text not in tokens[start + 1 : end - 1]
    assert times.max() == 1 and not times[0]
    counted = tokens != vocabulary.start_of_text
    if vocabulary is BYTES:
        counted = numpy.arange(len(tokens)) > 0
    if not count_ends:
        counted &= tokens != vocabulary.end_of_text
    assert (every.scored == counted[1:]).all() and (times[counted] == 1).all()
    assert every.scored.sum() == sum(map(len, rows)) + count_ends * len(rows)
    if last_window == "full" and documents == "joined":
        assert {end - start for start, end, _ in every.spans} == {9}


def test_a_start_of_text_is_between_documents_and_not_predicted(cache):
    stream, start = windows.stream(text_part(["a", "", "b"]), STARTED), STARTED.start_of_text
    a, b = BYTES.tokenizer.encode("ab").ids
    assert stream.tolist() == [start, a, END, start, END, start, b, END]
    every = windows.windows(stream, STARTED, 100)
    assert every.only_fed == (start,) and every.scored.tolist() == [True, True, False, True, False, True, True]
    labels = TextCollator(END, every.only_fed)([every[0]])["labels"][0].tolist()
    assert labels == [-100, a, END, -100, END, -100, b, END]
    columns = stretches.sums(text_part(["a", "", "b"]), STARTED, every, numpy.array([1, 2, 0, 4, 0, 8, 16.0]))
    assert columns["tokens"].tolist() == [2, 1, 2] and columns["nats"].tolist() == [3, 4, 24]


def test_a_text_with_the_token_that_begins_one_is_refused(cache):
    with pytest.raises(UserError) as error:
        windows.stream(text_part(["salt", "a \0 byte"]), STARTED)
    assert 'begins a text with bos_token_id 188, the token "Ā": the text has that token' in str(error.value)
