"""The compressors' figures against the command-line tools of the same names, and decoded; the majority's by hand."""

import bz2
import gzip
import hashlib
import itertools
import lzma
import math
import shutil
import subprocess

import numpy
import pyppmd
import pytest

from nutshell.bits import baselines
from nutshell.bits.figures.metrics import OF_NUMBERS, of_classes
from nutshell.data.datasets import TextData
from nutshell.data.text import documents

TEXTS = ["Über den Fluß ging 猫.\r\n" * 40, "und 🐈\n", "\0 ohne Ende"]
NAMES = ["gzip -9", "bzip2 -9", "xz -9e"]
BYTES = sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["short", "sample_text"])
def test_equal_to_the_command_line(name, which):
    """To the byte for bzip2; gzip's own deflate and xz's block headers may differ a little from the libraries'."""
    if not shutil.which(name.split()[0]):
        pytest.skip(f"no {name.split()[0]} here")
    texts = TEXTS if which == "short" else documents.load(TextData(name="sample_text")).test.documents
    raw = "".join(texts).encode()
    theirs = len(subprocess.run(name.split(), input=raw, capture_output=True, check=True).stdout)
    ours = baselines.compressors(texts)[name] * len(raw) / 8
    allowed = {"gzip -9": 8 + 0.002 * theirs, "bzip2 -9": 0.001, "xz -9e": 32}[name]
    assert ours == pytest.approx(theirs, abs=allowed)


def test_what_is_counted_holds_the_whole_text(monkeypatch):
    packed = {}
    for name, library in zip(NAMES, (gzip, bz2, lzma), strict=True):

        def compress(raw, *args, name=name, library=library, before=library.compress, **more):
            packed[name] = before(raw, *args, **more)
            assert library.decompress(packed[name]) == "".join(TEXTS).encode()
            return packed[name]

        monkeypatch.setattr(library, "compress", compress)
    values = baselines.compressors(TEXTS)
    assert values == {name: 8 * len(packed[name]) / BYTES for name in NAMES}


def test_the_same_every_time_and_however_the_text_is_divided():
    assert baselines.compressors(TEXTS) == baselines.compressors(["".join(TEXTS)])


def test_order_of_magnitude():
    """A repeated line costs next to nothing; English reference text about two bits."""
    assert all(bits < 0.1 for bits in baselines.compressors(["The same line again.\n" * 5000]).values())
    chapters = documents.load(TextData(name="sample_text")).train.documents
    assert all(1.5 < bits < 3.5 for bits in baselines.compressors(chapters).values())


CONTENTS = {
    "one byte": b"a",
    "text": "".join(TEXTS).encode(),
    "all bytes": bytes(range(256)) * 3,
    "zeros": bytes(5000),
    "random": numpy.random.default_rng(0).bytes(5000),
}


@pytest.mark.parametrize("word", baselines.COMPRESSORS)
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_counted_decodes(word, content):
    if word not in baselines.installed():
        pytest.skip(f"no {word} here")
    raw, compressor = CONTENTS[content], baselines.COMPRESSORS[word]
    assert compressor.decompress(compressor.compress(raw)) == raw
    code = baselines.code("a text", raw, compressor)
    assert (code.name, code.kind) == (compressor.name, "compressor")
    assert (code.text, code.text_bytes) == ("a text", len(raw))
    assert code.code_bytes == len(compressor.compress(raw)) == code.total_bytes
    assert code.text_sha256 == hashlib.sha256(raw).hexdigest()
    assert code.compress_seconds > 0 < code.decompress_seconds


def test_the_order_of_ppmd_is_the_best_one_and_in_its_bytes():
    """Against the library, called by hand."""
    raw = "".join(documents.load(TextData(name="sample_text")).test.documents).encode()
    packed = baselines.COMPRESSORS["ppmd"].compress(raw)
    sizes = {order: len(pyppmd.compress(raw, max_order=order, mem_size=256 << 20)) for order in (4, 6, 8, 12)}
    assert len(packed) == 1 + min(sizes.values()) and sizes[packed[0]] == min(sizes.values())
    assert len(set(sizes.values())) > 1


@pytest.mark.parametrize("name", ["zstd --ultra -22 --long=27", "brotli -q 11"])
def test_as_small_as_the_program_of_that_name(name):
    if not shutil.which(name.split()[0]):
        pytest.skip(f"no {name.split()[0]} here")
    raw = "".join(documents.load(TextData(name="sample_text")).train.documents).encode()
    theirs = len(subprocess.run([*name.split(), "-c"], input=raw, capture_output=True, check=True).stdout)
    assert len(baselines.COMPRESSORS[name.split()[0]].compress(raw)) == pytest.approx(theirs, abs=16)


def test_ordered_as_the_literature_has_them():
    """Context mixing before prediction by partial matching, before sorting, before dictionaries."""
    raw = "".join(documents.load(TextData(name="sample_text")).train.documents).encode()
    words = [word for word in ("zpaq", "ppmd", "bzip2", "xz", "gzip") if word in baselines.installed()]
    sizes = [len(baselines.COMPRESSORS[word].compress(raw)) for word in words]
    assert sizes == sorted(sizes)


def _fail(code: bytes) -> bytes:
    raise ValueError("is damaged")


@pytest.mark.parametrize("decompress", [lambda code: code + b"!", _fail])
def test_a_decoder_that_returns_no_text_has_no_size(decompress):
    code = baselines.code("a text", b"of this", baselines.Compressor("broken", bytes, decompress))
    assert code.code_bytes is code.total_bytes is code.bits_per_byte is None


def test_a_program_that_is_not_there_is_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert baselines.installed() == ["gzip", "bzip2", "xz", "zstd", "brotli", "ppmd"]


# The majority

LABELS = ("no", "maybe", "yes")
CLASSIFIED = of_classes(2)
ALWAYS, FREQUENCIES = "always answering maybe", "the training labels' frequencies"


def columns(*labels: int) -> dict[str, numpy.ndarray]:
    """Of a model that is always right and sure of it, which the baseline never looks at."""
    return {"label": numpy.array(labels), "predicted": numpy.array(labels), "nats": numpy.zeros(len(labels))}


def test_the_majority_by_hand():
    """Of eight training labels five are 1; half of what is measured is."""
    train = numpy.array([1, 1, 0, 1, 2, 1, 1, 2])
    assert baselines.majority(CLASSIFIED, train, columns(1, 0, 2, 1), LABELS) == {
        "accuracy": {ALWAYS: 0.5},
        "f1": {ALWAYS: 2 * 2 / (4 + 2)},
        "macro_f1": {ALWAYS: pytest.approx(2 * 2 / (4 + 2) / 3)},  # matthews is undefined
        "label_bits": {FREQUENCIES: pytest.approx((2 * math.log2(8 / 5) + math.log2(8) + math.log2(8 / 2)) / 4)},
    }


def test_a_label_that_training_has_not_costs_no_finite_number_of_bits():
    values = baselines.majority(CLASSIFIED, numpy.array([1, 1, 0]), columns(0, 1, 2), LABELS)
    assert "label_bits" not in values
    assert values["accuracy"] == {ALWAYS: 1 / 3} and values["f1"] == {ALWAYS: 2 / 4}


def test_equally_frequent_labels_are_each_a_baseline():
    values = baselines.majority(CLASSIFIED, numpy.array([0, 2, 2, 0, 1]), columns(2, 0, 0), LABELS)
    assert values["accuracy"] == {"always answering no": 2 / 3, "always answering yes": 1 / 3}


def test_a_label_that_is_measured_nowhere_may_be_missing_in_training():
    values = baselines.majority(CLASSIFIED, numpy.array([1, 1, 0]), columns(0, 1), LABELS)
    assert values["label_bits"] == {FREQUENCIES: pytest.approx((math.log2(3) + math.log2(3 / 2)) / 2)}


def test_the_majority_against_scikit_learn():
    from sklearn.dummy import DummyClassifier
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    random = numpy.random.default_rng(0)
    train, labels = random.choice(2, 300, p=[0.4, 0.6]), random.choice(2, 200, p=[0.5, 0.5])
    dummy = DummyClassifier(strategy="prior").fit(numpy.zeros((300, 1)), train)
    predicted, chances = dummy.predict(numpy.zeros((200, 1))), dummy.predict_proba(numpy.zeros((200, 1)))
    values = baselines.majority(CLASSIFIED, train, columns(*labels), ("no", "yes"))
    assert values["accuracy"] == {"always answering yes": accuracy_score(labels, predicted)}
    assert values["f1"] == {"always answering yes": f1_score(labels, predicted)}
    assert values["label_bits"] == {FREQUENCIES: pytest.approx(log_loss(labels, chances) / math.log(2))}


def test_the_training_mean():
    """Correlations with a constant are undefined."""
    from sklearn.dummy import DummyRegressor
    from sklearn.metrics import mean_squared_error

    train, label = numpy.array([0.0, 1.0, 5.0, 4.2]), numpy.array([1.0, 2.0, 3.5])
    dummy = DummyRegressor().fit(numpy.zeros((4, 1)), train)
    error = mean_squared_error(label, dummy.predict(numpy.zeros((3, 1))))
    values = baselines.training_mean(OF_NUMBERS, train, {"label": label, "predicted": label})
    assert values == {"squared_error": {"always answering the training mean": pytest.approx(error)}}


# Learned from few labels

GOOD, BAD = ["a fine film", "fine, warm and fine again", "warm film"], ["a dull film", "dull and cold", "cold film"]
KNOWN, KNOWN_LABELS = [(text,) for text in GOOD + BAD], numpy.array([1, 1, 1, 0, 0, 0])


def test_a_bag_of_words_by_hand():
    """Words and neighbours weigh (ln(count) + 1) (ln((1 + n) / (1 + texts with it)) + 1), to length 1; then the
    probabilities minimise the summed nats plus |w|^2 / (2 C)."""
    from scipy.optimize import minimize

    def terms(text):
        words = [word for word in text.lower().replace(",", "").split() if len(word) > 1]
        return words + [f"{a} {b}" for a, b in itertools.pairwise(words)]

    vocabulary = sorted({term for (text,) in KNOWN for term in terms(text)})
    holding = numpy.array([sum(term in terms(text) for (text,) in KNOWN) for term in vocabulary])

    def vector(text):
        counts = numpy.array([terms(text).count(term) for term in vocabulary])
        weights = numpy.where(counts, numpy.log(numpy.maximum(counts, 1)) + 1, 0)
        weights = weights * (numpy.log((1 + len(KNOWN)) / (1 + holding)) + 1)
        return weights / numpy.linalg.norm(weights)

    known = numpy.array([vector(text) for (text,) in KNOWN])
    signs = 2 * KNOWN_LABELS - 1

    def cost(w):
        return numpy.logaddexp(0, -signs * (known @ w[1:] + w[0])).sum() + (w[1:] ** 2).sum() / 20

    w = minimize(cost, numpy.zeros(1 + len(vocabulary)), tol=1e-12).x
    texts = ["warm and cold film", "fine fine dull"]
    expected = [1 / (1 + math.exp(-(vector(text) @ w[1:] + w[0]))) for text in texts]
    chances = baselines.bag_of_words(KNOWN, KNOWN_LABELS, [(text,) for text in texts])
    assert chances[:, 1] == pytest.approx(expected, abs=1e-3) and chances.sum(1) == pytest.approx([1, 1])


def test_two_texts_are_told_apart_by_what_they_share():
    """Neither text says anything alone: the same are 1, different ones 0."""
    words = ["ox", "cat", "dog", "hen", "rat", "bee"]
    pairs = [(a, b) for a in words for b in words]
    label = numpy.array([int(a == b) for a, b in pairs])
    chances = baselines.bag_of_words(pairs, label, [("cat", "cat"), ("cat", "bee"), ("bee", "cat")])
    assert chances[0, 1] > 0.5 > chances[1, 1] == pytest.approx(chances[2, 1], abs=1e-9)
    dense = numpy.random.default_rng(0).normal(size=(2, 30, 4))
    features = numpy.concatenate([abs(dense[0] - dense[1]), dense[0] * dense[1]], 1)
    label = (features[:, 4] > 0).astype(int)
    from sklearn.linear_model import LogisticRegression

    theirs = LogisticRegression(C=10, max_iter=1000).fit(features, label).predict_proba(features)
    assert baselines.regression([*dense], label, [*dense]) == pytest.approx(theirs, abs=1e-3)


def test_more_labels_than_two():
    label = numpy.array([2, 2, 1, 0, 0, 1])
    chances = baselines.bag_of_words(KNOWN, label, KNOWN)
    assert chances.shape == (6, 3) and chances.argmax(1).tolist() == label.tolist()
