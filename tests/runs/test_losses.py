"""A step's loss and gradient are those of all its examples at once, however they are split: of three classes, with
weights and smoothing, and of numbers. Run as a module it takes one step on each process of a launch."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy, mse_loss
from transformers import BertConfig, TrainingArguments
from transformers.trainer_utils import PredictionOutput

from nutshell.bits.figures.metrics import OF_NUMBERS, of_classes
from nutshell.experiment.blocks import Loss
from nutshell.machine.errors import UserError
from nutshell.models.classifiers.wrapper import classifier_class
from nutshell.runs import runner
from nutshell.runs.trainer.classifier import ClassifierTrainer, answers
from tests.conftest import ROOT, TINY
from tests.runs.conftest import SLOW

WEIGHTS = [0.25, 3.0, 1.5]
SEVEN = {  # examples of a step
    "classes": [2, 0, 1, 1, 0, 2, 2],
    "numbers": [0.5, -100.0, 3.25, 1.0, 2.0, -1.5, 0.1],  # -100 is a number like any other
}
KINDS = {
    "plain": ("classes", None, 0.0),
    "weighted": ("classes", WEIGHTS, 0.0),
    "smoothed": ("classes", WEIGHTS, 0.2),
    "numbers": ("numbers", None, 0.0),
}


def parts(kind: str):
    """The model and the examples."""
    labels, _, _ = KINDS[kind]
    torch.manual_seed(1)
    sizes = {**TINY, "vocab_size": 100, "num_labels": 3 if labels == "classes" else 1}
    model = classifier_class(BertConfig)(BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    ids = torch.randint(5, 100, (7, 12), generator=torch.Generator().manual_seed(2))
    rows = {"input_ids": ids.tolist(), "labels": SEVEN[labels], "even": [True, False] * 3 + [True]}
    return model, datasets.Dataset.from_dict(rows)


def trainer_of(kind: str, folder: Path, batch: int, accumulation: int) -> ClassifierTrainer:
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=3,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        max_grad_norm=0,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        label_smoothing_factor=KINDS[kind][2],
    )
    model, examples = parts(kind)
    metrics = OF_NUMBERS if kind == "numbers" else of_classes(3)
    return ClassifierTrainer(
        model, args, train_dataset=examples, eval_dataset=examples, metrics=metrics, class_weights=KINDS[kind][1]
    )


def step(kind: str, folder: Path, batch: int, accumulation: int) -> dict[str, torch.Tensor]:
    """The loss of a step, and the gradient of each parameter: what SGD takes away with a learning rate of 1."""
    trainer = trainer_of(kind, folder, batch, accumulation)
    before = {name: tensor.detach().clone() for name, tensor in trainer.model.named_parameters()}
    trainer.train()
    gradients = {name: before[name] - tensor.detach() for name, tensor in trainer.model.named_parameters()}
    return {**gradients, "loss": torch.tensor(trainer.state.log_history[0]["loss"])}


def whole(kind: str) -> dict[str, torch.Tensor]:
    """The same by torch's own loss on the seven examples."""
    model, examples = parts(kind)
    _, weights, smoothing = KINDS[kind]
    logits = model(input_ids=torch.tensor(examples["input_ids"][:])).logits
    labels = torch.tensor(examples["labels"][:])
    if kind == "numbers":
        loss = mse_loss(logits[:, 0], labels)
    else:
        weights = weights and torch.tensor(weights)
        loss = cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    loss.backward()
    return {**{name: parameter.grad for name, parameter in model.named_parameters()}, "loss": loss.detach()}


def check(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=2e-4, atol=1e-5 * max(1, tensor.abs().max().item()))


@pytest.mark.parametrize(("batch", "accumulation"), [(8, 1), (2, 4), (1, 7), (4, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_torch_s_loss_of_all_its_examples(kind, batch, accumulation, tmp_path):
    check(step(kind, tmp_path, batch, accumulation), whole(kind))


@SLOW
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one(kind, tmp_path):
    """Seven examples in a step of eight: one is a dummy."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", __name__]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, kind, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for batch, accumulation in SPLITS:
        check(load_file(tmp_path / f"{batch}x{accumulation}.safetensors"), whole(kind))


@pytest.mark.parametrize("kind", ["weighted", "numbers"])
def test_an_evaluation_weighs_every_example_alike(kind, tmp_path):
    """In batches of three; the labels are the data's own, not rounded to fp32."""
    trainer = trainer_of(kind, tmp_path, 8, 1)
    figures = trainer.evaluate()
    model, examples = parts(kind)
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor(examples["input_ids"][:])).logits
    labels = torch.tensor(examples["labels"][:])
    expected = mse_loss(logits[:, 0], labels) if kind == "numbers" else cross_entropy(logits, labels)
    assert figures["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)
    metrics = OF_NUMBERS if kind == "numbers" else of_classes(3)
    columns = answers(trainer.predict(examples), numpy.array(examples["labels"][:]))
    assert {name: figures[f"eval_{name}"] for name in (metric.name for metric in metrics)} == pytest.approx(
        {metric.name: metric.value(columns) for metric in metrics}
    )
    assert columns["label"].tolist() == examples["labels"][:]


def test_a_metric_of_some_examples_in_an_evaluation(tmp_path):
    trainer = trainer_of("plain", tmp_path, 8, 1)
    accuracy = of_classes(3)[0]
    metrics = (accuracy, replace(accuracy, name="accuracy_even", where="even"))
    again = ClassifierTrainer(trainer.model, trainer.args, eval_dataset=trainer.eval_dataset, metrics=metrics)
    figures, (_, examples) = again.evaluate(), parts("plain")
    columns = answers(again.predict(examples)) | {"even": numpy.array(examples["even"][:])}
    for metric in metrics:
        assert figures[f"eval_{metric.name}"] == metric.value(columns)


def test_answers():
    logits = numpy.array([[0.0, math.log(3)], [0.0, 0.0]], dtype=numpy.float32)
    columns = answers(PredictionOutput(logits, numpy.array([1, 1]), {}))
    assert columns["predicted"].tolist() == [1, 0] and columns["confidence"] == pytest.approx([0.75, 0.5])
    assert columns["nats"] == pytest.approx([math.log(4 / 3), math.log(2)]) and columns["label"].tolist() == [1, 1]
    unlabelled = answers(PredictionOutput(logits, None, {}))
    assert unlabelled.keys() == {"predicted", "probabilities", "confidence"}
    numbers = numpy.array([[0.5], [3.0]], dtype=numpy.float32)
    columns = answers(PredictionOutput(numbers, None, {}), numpy.array([0.1, 3.0]))
    assert columns["predicted"].tolist() == [0.5, 3.0] and columns["label"].tolist() == [0.1, 3.0]
    assert columns["squared_error"] == pytest.approx([0.16, 0.0])
    assert answers(PredictionOutput(numbers, None, {})).keys() == {"predicted"}
    for broken in (logits + math.nan, numbers + math.inf):
        with pytest.raises(UserError, match="not finite"):
            answers(PredictionOutput(broken, None, {}))


def test_balanced_weights_are_scikit_learn_s():
    labels = numpy.array([0] * 50 + [1] * 7 + [2] * 30)
    theirs = compute_class_weight("balanced", classes=numpy.arange(3), y=labels)
    ours = Loss(class_weights="balanced").weights(labels, 3)
    assert ours == pytest.approx(theirs)
    assert numpy.array(ours)[labels].mean() == pytest.approx(1)
    assert Loss().weights(labels, 3) is None
    assert Loss(class_weights=[1, 2.5, 1]).weights(labels, 3) == [1, 2.5, 1]


def test_weights_that_cannot_be():
    labels = numpy.array([0, 2, 2])
    with pytest.raises(UserError, match=r"loss.class_weights: balanced, but no training example has label 1, 3"):
        Loss(class_weights="balanced").weights(labels, 4)
    with pytest.raises(UserError, match=r"loss.class_weights: 2 numbers for 3 classes; state one for each"):
        Loss(class_weights=[1, 2]).weights(labels, 3)


@pytest.mark.parametrize("value", ["equal", [], [1, 0], [1, -2], [1, True], [1, "2"], [math.inf, 1], 3, {}])
def test_weights_that_are_none(value):
    with pytest.raises(ValueError, match="expected balanced, or a list of a positive number for each class"):
        Loss(class_weights=value)


SPLITS = ((4, 1), (2, 2), (1, 4))  # of eight, on each of two processes

if __name__ == "__main__":
    for batch, accumulation in SPLITS:
        tensors = step(sys.argv[1], Path(sys.argv[2]), batch, accumulation)
        if os.environ["RANK"] == "0":
            save_file(tensors, Path(sys.argv[2]) / f"{batch}x{accumulation}.safetensors")
    runner.end()
