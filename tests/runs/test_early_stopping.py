"""Early stopping: when training ends, what is then measured, and that an interrupted run ends at the same step."""

import json
import os

import pytest

from nutshell.machine import checkpoints
from nutshell.runs.trainer.classifier import ClassifierTrainer
from nutshell.runs.trainer.language import LanguageModelTrainer
from tests.conftest import SMALL_YAML, TEXT_YAML
from tests.runs.conftest import BEST, SLOW, STEPS, figures, history, weights
from tests.runs.test_interruption import terminate_at

# No evaluation improves by so much: the first is the best, and the third after it ends training, at step 9.
LIMITS = "early_stopping: {patience: 2, threshold: 1000}\n"
CHOICE = "load_best_model_at_end: true, metric_for_best_model: label_bits, greater_is_better: false"
STOPPED = (
    STEPS.replace(
        "eval_strategy: epoch", f"eval_strategy: steps, eval_steps: 3, save_strategy: steps, save_steps: 3, {CHOICE}"
    ).replace("per_device_eval_batch_size: 64", "per_device_eval_batch_size: 4")  # three batches an evaluation
    + LIMITS
)
BY_EPOCH = BEST.replace("max_steps: 18", "num_train_epochs: 5") + LIMITS.replace("2", "1")  # at step 24 of 60
MODELLED = TEXT_YAML.replace("max_steps: 2", "max_steps: 18, learning_rate: 1e-2, logging_steps: 1").replace(
    "eval_strategy: epoch",
    "eval_strategy: steps, eval_steps: 3, save_strategy: steps, save_steps: 3, load_best_model_at_end: true",
)
MODELLED += "keep_checkpoints: true\n" + LIMITS


def trained(seed) -> dict:
    return json.loads((seed / "metrics.json").read_text(encoding="utf-8"))["training"]


def evaluations(seed) -> list[int]:
    return [entry["step"] for entry in history(seed) if "eval_loss" in entry]


@pytest.mark.parametrize(("text", "last", "best"), [(STOPPED, 9, 3), (BY_EPOCH, 24, 12), (MODELLED, 9, 3)])
def test_training_ends_when_patience_does(text, last, best, run):
    seed = run(text, "stopped")
    steps = evaluations(seed)
    values = {entry["step"]: entry for entry in history(seed) if "eval_loss" in entry}
    name = "eval_loss" if text == MODELLED else "eval_label_bits"
    assert steps[0] == best and steps[-1] == last and len(steps) in (2, 3)
    assert trained(seed)["steps"] == last
    chosen = min(values, key=lambda step: values[step][name])
    assert trained(seed)["best_checkpoint"] == f"checkpoint-{chosen}"


def test_patience_that_does_not_end_changes_nothing(run):
    """The first three evaluations all improve, by more than 0."""
    text = STOPPED.replace("max_steps: 18", "max_steps: 9").replace(LIMITS, "")
    whole = run(text, "whole")
    values = [entry["eval_label_bits"] for entry in history(whole) if "eval_loss" in entry]
    assert values == sorted(values, reverse=True)
    patient = run(text + "early_stopping: {patience: 1}\n", "patient")
    assert weights(patient) == weights(whole) and history(patient) == history(whole)


@pytest.mark.parametrize(
    ("text", "moment", "left"),
    [
        pytest.param(STOPPED, "step 2", "checkpoint-2", marks=SLOW),
        (STOPPED, "step 7", "checkpoint-7"),  # two evaluations are counted already
        pytest.param(STOPPED, "step 9", "checkpoint-9", marks=SLOW),
        pytest.param(STOPPED, "batch 5", "checkpoint-6", marks=SLOW),  # in the second evaluation
        (STOPPED, "batch 8", "checkpoint-9"),  # in the one that ends training
        (STOPPED, "batch 11", "checkpoint-9"),  # in the final pass
        pytest.param(BY_EPOCH, "step 15", "checkpoint-15", marks=SLOW),
        pytest.param(BY_EPOCH, "batch 5", "checkpoint-24", marks=SLOW),
        pytest.param(BY_EPOCH, "batch 8", "checkpoint-24", marks=SLOW),
        pytest.param(BY_EPOCH, "save 2", "checkpoint-24", marks=SLOW),
        pytest.param(MODELLED, "step 8", "checkpoint-8", marks=SLOW),
        (MODELLED, "batch 6", "checkpoint-9"),
    ],
)
def test_an_interrupted_run_ends_at_the_same_step(text, moment, left, run, write, nutshell, tmp_path, monkeypatch):
    whole = run(text, "whole")
    terminate_at(moment, monkeypatch, LanguageModelTrainer if text == MODELLED else ClassifierTrainer)
    assert nutshell("run", write(text))[0] == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    assert checkpoints.newest(seed).name == left and not (seed / "metrics.json").exists()
    assert nutshell("run", write(text))[0] == 0
    assert weights(seed) == weights(whole) and history(seed) == history(whole)
    results = [json.loads((folder / "metrics.json").read_text()) for folder in (seed, whole)]
    assert figures(results[0]) == figures(results[1])
    for key in ("steps", "epochs", "tokens", "best_checkpoint"):
        assert results[0]["training"][key] == results[1]["training"][key], key


def test_an_undefined_metric_counts_neither_way(run, monkeypatch):
    """0 / 0 in the first two evaluations: the third is the first that can be the best."""
    stock, calls = ClassifierTrainer.figures, []

    def figures(self, result):
        calls.append(1)
        return stock(self, result) | ({"label_bits": None} if len(calls) < 3 else {})

    monkeypatch.setattr(ClassifierTrainer, "figures", figures)
    seed = run(STOPPED, "stopped")
    assert evaluations(seed) == [3, 6, 9, 12, 15] and trained(seed)["steps"] == 15
    assert trained(seed)["best_checkpoint"] in ("checkpoint-9", "checkpoint-12", "checkpoint-15")


def test_a_metric_that_is_never_defined_chooses_nothing(write, nutshell, monkeypatch):
    stock = ClassifierTrainer.figures
    monkeypatch.setattr(ClassifierTrainer, "figures", lambda self, result: stock(self, result) | {"label_bits": None})
    code, _, err = nutshell("run", write(STOPPED))
    assert code == 2 and "training ended without a best checkpoint" in err
    assert "choose another metric_for_best_model if label_bits was 0 / 0" in err


def test_show_says_that_fewer_steps_may_be_run(write, nutshell):
    _, out, _ = nutshell("show", write(STOPPED))
    line = "# stopping: earlier, once 2 evaluations in a row did not improve label_bits by more than 1000\n"
    assert out.count("# stopping:") == out.count(line) == 1
    _, out, _ = nutshell("show", write(MODELLED.replace(LIMITS, "early_stopping: {patience: 1}\n")))
    line = "# stopping: earlier, once 1 evaluation in a row did not improve loss\n"
    assert out.count("# stopping:") == out.count(line) == 1
    assert "# stopping:" not in nutshell("show", write(SMALL_YAML))[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("load_best_model_at_end: true, ", ""), "early_stopping: needs training.load_best_model_at_end: true"),
        (("eval_strategy: steps", "eval_strategy: 'no'"), "counts evaluations, but training.eval_strategy is no"),
        (("patience: 2", "patience: 0"), "early_stopping.patience: should be greater than or equal to 1, not 0"),
        (
            ("threshold: 1000", "threshold: -1"),
            "early_stopping.threshold: should be greater than or equal to 0, not -1",
        ),
        (("patience: 2, ", ""), "early_stopping.patience is missing"),
        (("patience", "patients"), "unknown key in early_stopping: 'patients' is not known; did you mean 'patience'?"),
    ],
)
def test_early_stopping_that_cannot_be(change, message, write, nutshell, tmp_path):
    code, _, err = nutshell("run", write(STOPPED.replace(*change)))
    assert code == 2 and message in err and "Traceback" not in err
    assert not (tmp_path / "outputs").exists()


def test_nothing_is_trained(write, nutshell):
    code, _, err = nutshell("run", write(MODELLED.replace("max_steps: 18", "num_train_epochs: 0")))
    assert code == 2 and "early_stopping: nothing is trained where training.num_train_epochs is 0" in err


def test_a_sigkill_after_the_last_checkpoint(run, write, nutshell, tmp_path, monkeypatch):
    """What stands for it: an error that nobody handles, after the checkpoint at which training was to stop."""
    whole = run(STOPPED, "whole")

    def end(self, *args, **kwargs):
        raise SystemExit(os.EX_SOFTWARE)

    monkeypatch.setattr(ClassifierTrainer, "predict", end)
    assert nutshell("run", write(STOPPED))[0] == os.EX_SOFTWARE
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert nutshell("run", write(STOPPED))[0] == 0
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    assert weights(seed) == weights(whole) and trained(seed)["resumed_from_step"] == trained(seed)["steps"] == 9
