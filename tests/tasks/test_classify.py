"""What a classifier's figures are worth: the majority's next to them, and a note where one answer was given only."""

import numpy
import pytest

from nutshell.bits import baselines
from nutshell.bits.figures import units
from nutshell.bits.figures.metrics import OF_ANY
from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.report.results.result import read_result
from tests.conftest import SMALL_YAML


@pytest.fixture
def folder(write, nutshell, tmp_path):
    """A complete run that learned nothing."""
    code, printed, errors = nutshell("run", write(SMALL_YAML), "training.learning_rate=1e-9")
    assert code == 0, errors
    return tmp_path / "outputs/finetune/pairs/seed-13", " ".join(printed.split())


def test_the_majority_is_that_of_the_training_part(folder, small):
    """Its figures on the measured part, from the training labels alone, against a computation by hand."""
    parts = labelled.load(LabelledData(name="sample_pairs", path=str(small)))
    train, test = numpy.array(parts.train.labels), numpy.array(parts.test.labels)
    names, share = ("not_equivalent", "equivalent"), numpy.array([(train == 0).mean(), (train == 1).mean()])
    answers = {f"always answering {names[label]}": label for label in (0, 1) if share[label] == share.max()}
    f1 = 2 * (test == 1).sum() / ((test == 1).sum() + len(test))  # of always answering 1
    expected = {
        "accuracy": {name: (test == label).mean() for name, label in answers.items()},
        "f1": {name: f1 * label for name, label in answers.items()},
        "label_bits": {"the training labels' frequencies": -numpy.log2(share[test]).mean()},
    }
    baseline = read_result(folder[0]).baseline
    assert baseline == {name: pytest.approx(values) for name, values in expected.items()}


def test_a_model_that_gave_one_answer_only_says_so(folder):
    result, (place, printed) = read_result(folder[0]), folder
    predicted = units.read(place).columns["predicted"]
    assert len(set(predicted)) == 1
    note = f"the model gave one answer only, {('not_equivalent', 'equivalent')[predicted[0]]}"
    assert result.notes == [note]
    card = (place / "model/README.md").read_text(encoding="utf-8")
    for text in (printed, card):
        assert f"T{note[1:]}" in text and "no better than" in text


def test_a_label_that_training_has_not_is_no_baseline_in_bits():
    columns = {"label": numpy.array([0, 1]), "predicted": numpy.array([0, 0]), "nats": numpy.ones(2)}
    known = baselines.majority(
        [OF_ANY[name] for name in ("accuracy", "f1", "label_bits")], numpy.zeros(5, dtype=int), columns, ("no", "yes")
    )
    assert known == {"accuracy": {"always answering no": 0.5}, "f1": {"always answering no": 0.0}}


def test_each_of_equally_frequent_answers_is_a_baseline():
    """One of them alone would make an F1 of 0 out of two halves."""
    columns = {"label": numpy.array([0, 1]), "predicted": numpy.array([0, 0]), "nats": numpy.ones(2)}
    known = baselines.majority((OF_ANY["f1"],), numpy.array([0, 1]), columns, ("no", "yes"))
    assert known == {"f1": {"always answering no": 0.0, "always answering yes": pytest.approx(2 / 3)}}
