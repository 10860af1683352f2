"""Metrics against scikit-learn and by hand; their intervals."""

import math
import shutil

import numpy
import pytest
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

from nutshell.bits import metrics
from nutshell.data import vocabularies
from nutshell.data import windows as blocks
from nutshell.data.documents import Documents
from tests.conftest import TEXT_YAML

RNG = numpy.random.default_rng(0)
LABELS = RNG.integers(0, 2, 400)
PREDICTED = numpy.where(RNG.random(400) < 0.8, LABELS, 1 - LABELS)
NATS = RNG.exponential(0.5, 400)
NAMES = ["accuracy", "f1", "label_bits"]


def test_against_scikit_learn():
    values = metrics.classification(NAMES, PREDICTED, LABELS, NATS)
    assert values["accuracy"] == accuracy_score(LABELS, PREDICTED)
    assert values["f1"] == f1_score(LABELS, PREDICTED)
    assert values["label_bits"] == pytest.approx(NATS.sum() / 400 / math.log(2))


def test_by_hand():
    values = metrics.classification(
        NAMES, numpy.array([1, 1, 0, 0]), numpy.array([1, 0, 1, 0]), numpy.full(4, math.log(2))
    )
    assert values == {"accuracy": 0.5, "f1": 0.5, "label_bits": pytest.approx(1.0)}


def test_no_positive_at_all():
    nothing = numpy.zeros(5, dtype=int)
    assert metrics.classification(["f1"], nothing, nothing, NATS[:5]) == {"f1": 0.0}
    assert metrics.intervals(["f1"], nothing, nothing, NATS[:5]) == {"f1": [0.0, 0.0]}


def test_intervals():
    """Around the value; for accuracy as wide as the normal approximation says; the same every time."""
    values = metrics.classification(NAMES, PREDICTED, LABELS, NATS)
    ranges = metrics.intervals(NAMES, PREDICTED, LABELS, NATS)
    assert all(ranges[name][0] < values[name] < ranges[name][1] for name in NAMES)
    share = values["accuracy"]
    width = 2 * 1.96 * math.sqrt(share * (1 - share) / 400)
    assert ranges["accuracy"][1] - ranges["accuracy"][0] == pytest.approx(width, rel=0.05)
    assert ranges == metrics.intervals(NAMES, PREDICTED, LABELS, NATS)


def test_confusion_matrix():
    """Rows are true classes: one positive was taken for a negative."""
    assert metrics.confusion(numpy.array([0, 0, 1]), numpy.array([0, 1, 1]), 2) == [[1, 0], [1, 1]]


# Language models

TEXT = "aß猫🐈"  # letters of one to four bytes
SENTENCES = ["Über den Fluß ging 猫, und 🐈 dazu.\n" * 9, "Die Katze ging.\n" * 30]
NATS_OF_WINDOWS = RNG.gamma(20.0, 1.0, 400)
TOKENS_OF_WINDOWS = RNG.integers(5, 9, 400)


@pytest.mark.parametrize("shape", [(11,), (1, 11), (11, 1)])
def test_a_model_that_knows_nothing(shape):
    """Each of 257 tokens alike: ten bytes and the end of the text cost ln 257 each, spread over ten bytes."""
    stream = blocks.stream(Documents([TEXT]), vocabularies.of_bytes())
    assert len(stream) - 1 == 11 and Documents([TEXT]).size_bytes == 10
    values = metrics.causal(numpy.full(shape, math.log(257), numpy.float32), 11, 10)
    assert values == {
        "loss": pytest.approx(math.log(257)),
        "perplexity": pytest.approx(257, rel=1e-5),
        "bits_per_byte": pytest.approx(11 * math.log2(257) / 10),
    }


def test_a_model_that_knows_nothing_from_start_to_end(causal, write, nutshell, result, tmp_path):
    """A checkpoint of zeros gives each token the same logit."""
    folder = shutil.copytree(causal["gpt2"], tmp_path / "zeros")
    weights = load_file(folder / "model.safetensors")
    save_file({name: 0 * tensor for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    for part, text in (("train", "x\n"), ("test", TEXT)):
        (tmp_path / f"{part}.txt").write_text(text, encoding="utf-8")
    file = write(TEXT_YAML, "language_model/zeros.yaml")
    words = [f"model.name={folder}", f"data.path={tmp_path}", "data.block_tokens=8"]
    code, _, err = nutshell("run", file, *words, "training={num_train_epochs: 0, per_device_eval_batch_size: 8}")
    assert code == 0, err
    found = result("language_model/zeros")
    assert found["measured"] | {"nats": None} == {
        "nats": None,
        "tokens": 11,
        "bytes": 10,
        "windows": 2,
        "block_tokens": 8,
        "stride": 8,
    }
    assert found["measured"]["nats"] == pytest.approx(11 * math.log(257))
    assert found["metrics"]["perplexity"]["value"] == pytest.approx(257)
    assert found["metrics"]["perplexity"]["interval_95"] == pytest.approx([257, 257])
    assert found["metrics"]["bits_per_byte"]["value"] == pytest.approx(11 * math.log2(257) / 10)


def test_bytes_are_the_text_s_whatever_the_tokenizer():
    """What the scored tokens spell, the ends of documents left out, has as many bytes as the documents."""
    text = Documents(SENTENCES)
    lengths = []
    for vocabulary in (vocabularies.of_bytes(), vocabularies.trained(text, 280)):
        windows = blocks.windows(blocks.stream(text, vocabulary), 16, 7)
        scored = [token for ids, number in windows for token in ids[len(ids) - number :].tolist()]
        spelled = [vocabulary.tokenizer.id_to_token(token) for token in scored if token != vocabulary.end_of_text]
        assert sum(map(len, spelled)) == text.size_bytes == sum(len(sentence.encode()) for sentence in SENTENCES)
        assert len(scored) - len(spelled) == len(SENTENCES)
        lengths.append(len(scored))
    assert lengths[1] < lengths[0] == text.size_bytes + len(SENTENCES)


def test_perplexity_is_of_tokens_and_bits_are_of_bytes():
    values = metrics.causal(numpy.array([[0.5, 1.5], [2.0, 0.0]]), 3, 8)  # one of the four is not scored
    assert values == {
        "loss": pytest.approx(4 / 3),
        "perplexity": pytest.approx(math.exp(4 / 3)),
        "bits_per_byte": pytest.approx(4 / math.log(2) / 8),
    }
    assert metrics.causal(numpy.array([2.0, 1.0, 1.0]), 6, 8)["bits_per_byte"] == values["bits_per_byte"]


def test_small_costs_are_not_lost_in_a_long_sum():
    nats = numpy.full(3_000_000, 0.1, dtype=numpy.float32)
    assert metrics.causal(nats, len(nats), 1)["loss"] == pytest.approx(float(numpy.float32(0.1)), rel=1e-12)


def test_a_perplexity_beyond_all_floats_is_a_number():
    assert math.isfinite(metrics.causal(numpy.array([9999.0]), 1, 1)["perplexity"])


def test_intervals_of_a_language_model():
    """Around the value, as wide as the normal approximation says, the same every time, and both of one resampling."""
    tokens, size = int(TOKENS_OF_WINDOWS.sum()), 9000
    values = metrics.causal(NATS_OF_WINDOWS, tokens, size)
    ranges = metrics.causal_intervals(NATS_OF_WINDOWS, TOKENS_OF_WINDOWS, size)
    assert all(ranges[name][0] < values[name] < ranges[name][1] for name in ("perplexity", "bits_per_byte"))
    loss = values["loss"]
    error = (NATS_OF_WINDOWS - loss * TOKENS_OF_WINDOWS).std() * math.sqrt(400) / tokens
    low, high = (math.log(end) for end in ranges["perplexity"])
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert ranges["bits_per_byte"] == pytest.approx([end * tokens / math.log(2) / size for end in (low, high)])
    assert ranges == metrics.causal_intervals(NATS_OF_WINDOWS, TOKENS_OF_WINDOWS, size)


def test_more_windows_make_the_interval_smaller():
    widths = []
    for windows in (10, 100, 400):
        nats, tokens = NATS_OF_WINDOWS[:windows], TOKENS_OF_WINDOWS[:windows]
        low, high = metrics.causal_intervals(nats, tokens, 1000)["perplexity"]
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 2 * widths[2]


def test_one_window_has_no_interval():
    one = metrics.causal_intervals(NATS_OF_WINDOWS[:1], TOKENS_OF_WINDOWS[:1], 1000)
    assert one == {"perplexity": None, "bits_per_byte": None}


# Generated text


@pytest.mark.parametrize(
    ("texts", "length", "share"),
    [
        ([[1, 2, 3, 4]], 1, 1.0),
        ([[1, 2, 1, 2]], 1, 2 / 4),
        ([[1, 2, 1, 2]], 2, 2 / 3),  # 12, 21, 12
        ([[1, 2], [1, 2], [2, 1]], 2, 2 / 3),
        ([[1, 2], [3, 1]], 2, 1.0),  # no pair from one text to the next
        ([[1], [2]], 2, 0.0),
        ([], 1, 0.0),
    ],
)
def test_distinct(texts, length, share):
    assert metrics.distinct(texts, length) == pytest.approx(share)


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        ([[1, 2, 3, 4, 5]], 0.0),
        ([[7] * 10], 6 / 7),  # seven 4-grams, one of them new
        ([[1, 2, 3, 4, 1, 2, 3, 4]], 1 / 5),
        ([[7] * 5, [1, 2, 3, 4]], (1 / 2 + 0) / 2),  # the mean over texts, not over 4-grams
        ([[1, 2, 3, 4], [1, 2, 3, 4]], 0.0),  # what another text says is no repetition
        ([[7] * 5, [1, 2, 3]], 1 / 2),  # too short to have any
        ([[1, 2, 3]], 0.0),
        ([], 0.0),
    ],
)
def test_repetition(texts, share):
    assert metrics.repetition(texts) == pytest.approx(share)
