"""Runs of three classes with weights, of numbers and of a part with two halves: their figures against scikit-learn's and
scipy's, for any split into batches and processes, and after an interruption."""

import csv
import json
import random

import numpy
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from nutshell.bits.figures import units
from tests.machine.test_launch import LAUNCH, finish
from tests.runs.conftest import figures, history, weights
from tests.runs.test_interruption import terminate_at

COMMON = """\
task: classify
seeds: [13]
model: {name: TINY, dropout: 0.0}
global_batch_size: 8
training: {max_steps: 40, learning_rate: 1e-2, logging_steps: 1, per_device_eval_batch_size: 4, eval_strategy: steps,
  eval_steps: 20}
keep_checkpoints: true
"""
TABLE = "data: {name: table, path: PLACE, texts: [text], label: label, max_tokens: 32, validation_examples: 9"
KINDS = {
    "classes": f"{TABLE}, test_examples: 31}}\nloss: {{class_weights: balanced}}\n",
    "numbers": f"{TABLE}, test_examples: 31, target: number}}\n",
    "halves": "data: {name: mnli, path: PLACE, max_tokens: 32}\n",
}
WORDS = {"bad": "dull slow poor", "fair": "plain usual even", "good": "warm clever fine"}


@pytest.fixture
def experiment(write, tmp_path):
    """Writes the file of a kind, with data that can be learned in part."""

    def _experiment(kind: str, **changes: str):
        draw, rows = random.Random(1), []
        for number in range(120):
            word = draw.choices([*WORDS], (6, 3, 1))[0]
            text = " ".join(draw.choices((WORDS[word] + " " + " ".join(WORDS.values())).split(), k=6)) + f" {number}"
            rows.append((text, word, len(rows) % 7 + len(word) / 3))
        place = tmp_path / kind
        place.mkdir(exist_ok=True)
        if kind == "halves":
            names = dict(zip(WORDS, ("contradiction", "neutral", "entailment"), strict=True))
            for name, part in {"train": rows[:60], "dev_matched": rows[60:85], "dev_mismatched": rows[85:]}.items():
                lines = [f"{n}\t{text}\tA film.\t{names[word]}" for n, (text, word, _) in enumerate(part)]
                (place / f"{name}.tsv").write_text(
                    "index\tsentence1\tsentence2\tgold_label\n" + "\n".join(lines) + "\n"
                )
        else:
            with (place / "train.csv").open("w", newline="") as file:
                label = [row[2] if kind == "numbers" else row[1] for row in rows]
                csv.writer(file).writerows([("text", "label"), *zip((row[0] for row in rows), label, strict=True)])
        text = COMMON + KINDS[kind].replace("PLACE", str(place))
        for old, new in changes.items():
            text = text.replace(old, new)
        return write(text)

    return _experiment


@pytest.fixture
def seed(tmp_path):
    return tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"


def test_classes(experiment, nutshell, result, seed):
    assert nutshell("run", experiment("classes"))[0] == 0
    columns = units.read(seed).columns
    label, predicted = columns["label"], columns["predicted"]
    probabilities = numpy.array([*columns["probabilities"]])
    assert len(label) == 31 and {*label} == {0, 1, 2}
    expected = {
        "accuracy": sklearn.accuracy_score(label, predicted),
        "macro_f1": sklearn.f1_score(label, predicted, average="macro"),
        "matthews": sklearn.matthews_corrcoef(label, predicted),
        "label_bits": sklearn.log_loss(label, probabilities, labels=[0, 1, 2]) / numpy.log(2),
    }
    values = {name: figure["value"] for name, figure in result()["metrics"].items()}
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert "f1" not in values and 0 <= values["calibration_error"] <= 1
    assert numpy.array_equal(result()["matrix"]["counts"], sklearn.confusion_matrix(label, predicted))


def test_numbers(experiment, nutshell, result, seed):
    assert nutshell("run", experiment("numbers"))[0] == 0
    columns = units.read(seed).columns
    label, predicted = columns["label"], columns["predicted"]
    values = {name: figure["value"] for name, figure in result()["metrics"].items()}
    assert values == pytest.approx(
        {
            "pearson": stats.pearsonr(predicted, label).statistic,
            "spearman": stats.spearmanr(predicted, label).statistic,
            "squared_error": sklearn.mean_squared_error(label, predicted),
        },
        rel=1e-9,
    )
    baseline = result()["baseline"]
    assert list(baseline) == ["squared_error"] and list(baseline["squared_error"]) == [
        "always answering the training mean"
    ]
    assert all(figure["interval_95"][0] <= figure["value"] for figure in result()["metrics"].values())
    rows = [json.loads(line) for line in (seed / "errors.jsonl").read_text().splitlines()]
    assert len(rows) == 31 and rows[0]["index"] == int(numpy.argmax(columns["squared_error"]))
    assert json.loads((seed / "model/config.json").read_text())["problem_type"] == "regression"


def test_a_correlation_does_not_hide_numbers_that_are_far_off(experiment, nutshell, tmp_path):
    """The page's sentence names the figure that is no better than its baseline, where the first one has none."""
    file = experiment("numbers", **{"learning_rate: 1e-2": "learning_rate: 1e-9"})
    assert nutshell("run", file)[0] == 0
    page = tmp_path / "page.html"
    assert nutshell("report", tmp_path / "outputs", "--output", page)[0] == 0
    assert "; squared_error is worse than always answering the training mean" in page.read_text(encoding="utf-8")


def test_halves(experiment, nutshell, result, seed):
    """The two halves of MNLI's validation part are measured apart, and label bits on both."""
    assert nutshell("run", experiment("halves"))[0] == 0
    columns = units.read(seed).columns
    right, first = columns["label"] == columns["predicted"], numpy.array(columns["matched"], bool)
    values = {name: figure["value"] for name, figure in result()["metrics"].items()}
    assert (first.sum(), len(first)) == (25, 60) and numpy.array_equal(~first, columns["mismatched"])
    assert values["accuracy"] == right[first].mean() and values["accuracy_mismatched"] == right[~first].mean()
    assert values["label_bits"] == pytest.approx(columns["nats"].mean() / numpy.log(2))
    logged = [entry for entry in history(seed) if "eval_accuracy" in entry][-1]
    assert logged["eval_accuracy"] == values["accuracy"]
    assert logged["eval_accuracy_mismatched"] == values["accuracy_mismatched"]


def losses(seed) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step."""
    return [(entry["loss"], entry["grad_norm"]) for entry in history(seed) if "grad_norm" in entry]


@pytest.mark.parametrize("kind", KINDS)
def test_eight_at_once_or_two_accumulated(kind, experiment, nutshell, seed):
    """Of loss and gradient; the order of additions alone differs."""
    by_split = []
    for batch, accumulation in ((8, 1), (2, 4)):
        split = f"per_device_train_batch_size: {batch}, gradient_accumulation_steps: {accumulation}, max_steps"
        file = experiment(kind, **{"global_batch_size: 8\n": "", "max_steps": split})
        assert nutshell("run", file, "--force")[0] == 0
        by_split.append(losses(seed))
    assert len(by_split[0]) == 40
    numpy.testing.assert_allclose(*by_split, rtol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_as_if_nothing_had_been(
    kind, experiment, nutshell, result, seed, tmp_path, monkeypatch
):
    file = experiment(kind)
    assert nutshell("run", file)[0] == 0
    whole, trained = result(), weights(seed)
    seed.parent.rename(tmp_path / "whole")
    terminate_at("step 5", monkeypatch)
    assert nutshell("run", file)[0] == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, _, err = nutshell("run", file)
    assert code == 0 and "resumes from checkpoint-5" in err
    assert weights(seed) == trained and figures(result()) == figures(whole)
    assert history(seed) == history(tmp_path / "whole" / "seed-13")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_as_one(kind, experiment, nutshell, seed, tmp_path):
    file = experiment(kind)
    assert nutshell("run", file)[0] == 0
    finish([*LAUNCH, "--num_processes", "2", "-m", "nutshell"], "run", file, "--output", tmp_path / "two")
    other = tmp_path / "two" / "finetune" / "pairs" / "seed-13"
    numpy.testing.assert_allclose(losses(seed), losses(other), rtol=2e-3)
    one, two = (units.read(folder).columns for folder in (seed, other))
    assert list(one["label"]) == list(two["label"])
    numpy.testing.assert_allclose(one["predicted"], two["predicted"], rtol=1e-3, atol=1e-3)
