"""Metrics against scikit-learn and by hand; their intervals."""

import math
import shutil
from dataclasses import replace

import numpy
import pytest
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

from nutshell.bits.figures import statistics
from nutshell.bits.figures.metrics import OF_NUMBERS, Metric, evaluation_module, of_classes
from nutshell.data.encoding import vocabularies
from nutshell.data.text import windows
from nutshell.tasks import language_model
from tests.conftest import TEXT_YAML, text_part

RNG = numpy.random.default_rng(0)
LABELS = RNG.integers(0, 2, 400)
PREDICTED = numpy.where(RNG.random(400) < 0.8, LABELS, 1 - LABELS)
NATS = RNG.exponential(0.5, 400)
ANSWERS = {"label": LABELS, "predicted": PREDICTED, "nats": NATS, "confidence": numpy.exp(-NATS / 4)}
CLASSIFIED = of_classes(2)
ACCURACY, F1, *_, BITS, _ = CLASSIFIED


def values(figures, columns) -> dict[str, float | None]:
    return {metric.name: metric.value(columns) for metric in figures}


def intervals(figures, columns) -> dict[str, tuple[float, float] | None]:
    return {metric.name: metric.interval(columns) for metric in figures}


def test_against_scikit_learn():
    figures = values(CLASSIFIED, ANSWERS)
    assert figures["accuracy"] == accuracy_score(LABELS, PREDICTED)
    assert figures["f1"] == f1_score(LABELS, PREDICTED)
    assert figures["label_bits"] == pytest.approx(NATS.sum() / 400 / math.log(2))


def test_by_hand():
    columns = {"predicted": numpy.array([1, 1, 0, 0]), "label": numpy.array([1, 0, 1, 0])}
    columns |= {"nats": numpy.full(4, math.log(2)), "confidence": numpy.full(4, 0.75)}
    expected = {"accuracy": 0.5, "f1": 0.5, "macro_f1": 0.5, "matthews": 0.0, "label_bits": 1.0}
    assert values(CLASSIFIED, columns) == pytest.approx(expected | {"calibration_error": 0.25})


def test_the_same_figures_through_evaluate():
    """In batches, as evaluate gathers them."""
    module = evaluation_module(CLASSIFIED)
    for first in range(0, 400, 64):
        module.add_batch(**{name: column[first : first + 64] for name, column in ANSWERS.items()})
    assert module.compute() == values(CLASSIFIED, ANSWERS)


def test_no_positive_at_all():
    nothing = numpy.zeros(5, dtype=int)
    columns = {"predicted": nothing, "label": nothing}
    assert F1.value(columns) is None and F1.interval(columns) is None


def test_intervals():
    """Around the value; for accuracy as wide as the normal approximation says; the same every time."""
    figures, ends = values(CLASSIFIED, ANSWERS), intervals(CLASSIFIED, ANSWERS)
    assert all(ends[name][0] < figures[name] < ends[name][1] for name in figures)
    share = figures["accuracy"]
    width = 2 * 1.96 * math.sqrt(share * (1 - share) / 400)
    assert ends["accuracy"][1] - ends["accuracy"][0] == pytest.approx(width, rel=0.05)
    assert ends == intervals(CLASSIFIED, ANSWERS)


def test_an_interval_keeps_to_the_values_there_can_be():
    assert ACCURACY.cut((-0.5, 1.5)) == (0, 1) and BITS.cut((-0.5, 1.5)) == (0, 1.5)
    pearson, _, error = OF_NUMBERS
    assert pearson.cut((-1.5, 1.5)) == (-1, 1) and error.cut((-0.5, 1.5)) == (0, 1.5)


def test_nothing_over_nothing_is_no_figure():
    empty = {"nats": numpy.zeros(3), "tokens": numpy.zeros(3, dtype=int)}
    ratio = Metric("mean_nats", "nats per token", None, statistics.ratio, ("nats", "tokens"))
    assert ratio.value(empty) is None
    assert ratio.figure(empty).interval_95 is None


# Of some units only

PLACES = numpy.arange(400)
PARTS = {"matched": PLACES % 3 == 0, "mismatched": PLACES % 3 != 0, "nowhere": PLACES < 0}
BY_PART = [replace(ACCURACY, name=f"accuracy_{name}", where=name) for name in PARTS]


def test_a_metric_of_some_units_is_that_of_a_run_of_them():
    for metric in BY_PART[:2]:
        chosen = {name: column[PARTS[metric.where]] for name, column in ANSWERS.items()}
        assert metric.figure({**ANSWERS, **PARTS}) == ACCURACY.figure(chosen)
    assert BY_PART[0].value({**ANSWERS, **PARTS}) != BY_PART[1].value({**ANSWERS, **PARTS})


def test_a_metric_of_no_unit_is_no_figure():
    figure = BY_PART[2].figure({**ANSWERS, **PARTS})
    assert figure.value is None and figure.interval_95 is None


def test_metrics_of_some_units_through_evaluate():
    module, columns = evaluation_module(BY_PART), {**ANSWERS, **PARTS}
    needed = {name: columns[name] for metric in BY_PART for name in metric.reads}
    assert module.compute(**needed) == values(BY_PART, columns)


# Language models

TEXT = "aß猫🐈"  # letters of one to four bytes
SENTENCES = ["Über den Fluß ging 猫, und 🐈 dazu.\n" * 9, "Die Katze ging.\n" * 30]
NATS_OF_WINDOWS = RNG.gamma(20.0, 1.0, 400)
TOKENS_OF_WINDOWS = RNG.integers(5, 9, 400)


def modelled(nats, tokens, size_bytes) -> dict[str, float | None]:
    columns = {"nats": numpy.asarray(nats), "tokens": numpy.asarray(tokens), "bytes": numpy.asarray(size_bytes)}
    return values(language_model.METRICS, columns | {"words": numpy.asarray(tokens)})


def test_a_model_that_knows_nothing():
    """Each of 257 tokens alike: ten bytes and the end of the text cost ln 257 each, spread over ten bytes."""
    stream = windows.stream(text_part([TEXT]), vocabularies.of_bytes())
    assert len(stream) - 1 == 11 and text_part([TEXT]).size_bytes == 10
    assert modelled(numpy.full(11, math.log(257)), numpy.ones(11), numpy.array([10] + [0] * 10)) == {
        "perplexity": pytest.approx(257, rel=1e-5),
        "word_perplexity": pytest.approx(257, rel=1e-5),
        "byte_perplexity": pytest.approx(257**1.1),
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
    measured = result("language_model/zeros")
    facts = {
        name: measured["facts"][name] for name in ("tokens measured", "bytes measured", "windows", "stride, tokens")
    }
    assert [*facts.values()] == [11, 10, 2, 8]
    assert measured["facts"]["nats measured"] == pytest.approx(11 * math.log(257))
    assert measured["metrics"]["perplexity"]["value"] == pytest.approx(257)
    assert measured["metrics"]["perplexity"]["interval_95"] is None  # a single stretch of text
    assert measured["metrics"]["bits_per_byte"]["value"] == pytest.approx(11 * math.log2(257) / 10)


def test_bytes_are_the_text_s_whatever_the_tokenizer():
    """What the scored tokens spell, the ends of documents left out, has as many bytes as the documents."""
    text = text_part(SENTENCES)
    lengths = []
    for vocabulary in (vocabularies.of_bytes(), vocabularies.trained(text, 280)):
        spans = windows.windows(windows.stream(text, vocabulary), vocabulary, 16, 7)
        scored = [token for ids, number in spans for token in ids[len(ids) - number :].tolist()]
        spelled = [vocabulary.tokenizer.id_to_token(token) for token in scored if token != vocabulary.end_of_text]
        assert sum(map(len, spelled)) == text.size_bytes == sum(len(sentence.encode()) for sentence in SENTENCES)
        assert len(scored) - len(spelled) == len(SENTENCES)
        lengths.append(len(scored))
    assert lengths[1] < lengths[0] == text.size_bytes + len(SENTENCES)


def test_perplexity_is_of_tokens_and_bits_are_of_bytes():
    figures = modelled([2.0, 2.0], [2, 1], [5, 3])
    assert figures == {
        "perplexity": pytest.approx(math.exp(4 / 3)),
        "word_perplexity": pytest.approx(math.exp(4 / 3)),
        "byte_perplexity": pytest.approx(math.exp(4 / 8)),
        "bits_per_byte": pytest.approx(4 / math.log(2) / 8),
    }
    assert modelled([3.0, 1.0], [4, 2], [1, 7])["bits_per_byte"] == figures["bits_per_byte"]


def test_a_perplexity_beyond_all_floats_is_a_number():
    assert math.isfinite(modelled([9999.0], [1], [1])["perplexity"])


def test_intervals_of_a_language_model():
    """Around the value, as wide as the normal approximation says, and the same every time."""
    columns = {"nats": NATS_OF_WINDOWS, "tokens": TOKENS_OF_WINDOWS, "bytes": 3 * TOKENS_OF_WINDOWS}
    columns["words"] = TOKENS_OF_WINDOWS // 2
    figures, ends = values(language_model.METRICS, columns), intervals(language_model.METRICS, columns)
    assert all(ends[name][0] < figures[name] < ends[name][1] for name in figures)
    loss, tokens = math.log(figures["perplexity"]), TOKENS_OF_WINDOWS.sum()
    error = (NATS_OF_WINDOWS - loss * TOKENS_OF_WINDOWS).std() * math.sqrt(400) / tokens
    low, high = (math.log(end) for end in ends["perplexity"])
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert ends["bits_per_byte"] == pytest.approx([end / math.log(2) / 3 for end in (low, high)])
    assert ends == intervals(language_model.METRICS, columns)


def test_more_stretches_make_the_interval_smaller():
    widths = []
    for count in (10, 100, 400):
        columns = {"nats": NATS_OF_WINDOWS[:count], "tokens": TOKENS_OF_WINDOWS[:count]}
        low, high = language_model.METRICS[1].interval(columns)
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 2 * widths[2]


def test_one_stretch_has_no_interval():
    one = {"nats": NATS_OF_WINDOWS[:1]} | dict.fromkeys(("tokens", "bytes", "words"), TOKENS_OF_WINDOWS[:1])
    assert [*intervals(language_model.METRICS, one).values()] == 4 * [None]


# Generated text


@pytest.mark.parametrize(
    ("texts", "length", "share"),
    [
        ([[1, 2, 3, 4]], 1, 1.0),
        ([[1, 2, 1, 2]], 1, 2 / 4),
        ([[1, 2, 1, 2]], 2, 2 / 3),  # 12, 21, 12
        ([[1, 2], [1, 2], [2, 1]], 2, 2 / 3),
        ([[1, 2], [3, 1]], 2, 1.0),  # no pair from one text to the next
        ([[1], [2]], 2, math.nan),
        ([], 1, math.nan),
    ],
)
def test_distinct(texts, length, share):
    statistic = {1: statistics.distinct_1, 2: statistics.distinct_2}[length]
    assert statistic(texts) == pytest.approx(share, nan_ok=True)


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        ([[1, 2, 3, 4, 5]], 0.0),
        ([[7] * 10], 6 / 7),  # seven 4-grams, one of them new
        ([[1, 2, 3, 4, 1, 2, 3, 4]], 1 / 5),
        ([[7] * 5, [1, 2, 3, 4]], (1 / 2 + 0) / 2),  # the mean over texts, not over 4-grams
        ([[1, 2, 3, 4], [1, 2, 3, 4]], 0.0),  # what another text says is no repetition
        ([[7] * 5, [1, 2, 3]], 1 / 2),  # too short to have any
        ([[1, 2, 3]], math.nan),
        ([], math.nan),
    ],
)
def test_repetition(texts, share):
    assert statistics.repetition_4(texts) == pytest.approx(share, nan_ok=True)
