"""The exact Trainer: the same steps however a batch is split, and however often it is evaluated."""

import json

import pytest
import torch
from transformers import TrainingArguments

from nutshell.runs.trainer.order import DUMMY, LengthGroupedSampler, PaddedOrder, WithDummies
from tests.conftest import SMALL_YAML
from tests.runs.conftest import SLOW, STEPS, history, weights


def test_several_gpus_under_plain_python(write, nutshell, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self._n_gpu or 4))
    code, _, err = nutshell("run", write(SMALL_YAML))
    assert code == 0 and "one of 4 GPUs is used; all: accelerate launch --num_processes 4" in err


def test_evaluating_more_often_trains_the_same(run):
    often = ["training.eval_strategy=steps", "training.eval_steps=1"]
    assert weights(run(STEPS, "seldom")) == weights(run(STEPS, "often", *often))


@pytest.mark.parametrize("batches", [(7, 2), pytest.param((4, 4), marks=SLOW), pytest.param((1, 14), marks=SLOW)])
def test_uneven_batches_of_a_step_weigh_by_their_examples(batches, run):
    """48 examples in steps of 14 or 16: the last step has 6 or all; its batches of 4 are 4 and 2."""
    curves = []
    for name, (size, accumulation) in (("whole", (batches[0] * batches[1], 1)), ("split", batches)):
        words = [f"training.per_device_train_batch_size={size}", f"training.gradient_accumulation_steps={accumulation}"]
        log = history(run(STEPS, name, *words, "model.dropout=0", "training.label_smoothing_factor=0.1"))
        curves.append([(entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry])
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, rel=2e-3)


def test_a_global_batch_is_what_its_parts_are(run):
    text = STEPS.replace(" per_device_train_batch_size: 4,", "") + "global_batch_size: 4\n"
    whole, parts = run(text, "whole"), run(STEPS, "parts")
    assert weights(whole) == weights(parts)
    trained = json.loads((whole / "metrics.json").read_text())["training"]
    assert [trained[key] for key in trained if "batch" in key or "accumulation" in key] == [4, 4, 1]


def test_processes_share_every_step_evenly():
    """Each process's batches, as accelerate hands them out: together the order itself, then dummies."""
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    lengths = [5 + n % 40 for n in range(47)]
    order = PaddedOrder(LengthGroupedSampler(lengths, 16, 13), 8)
    order.set_epoch(3)
    shards = [list(BatchSamplerShard(BatchSampler(order, 4, False), 2, rank)) for rank in range(2)]
    together = [index for pair in zip(*shards, strict=True) for batch in pair for index in batch]
    alone = LengthGroupedSampler(lengths, 16, 13)
    alone.set_epoch(3)
    assert together == [*alone, DUMMY] and len(order) == 48


def test_a_dummy_costs_nothing():
    examples = WithDummies([{"labels": 1, "x": 7}], lambda row: {**row, "labels": -100})
    assert examples[DUMMY] == {"labels": -100, "x": 7} and examples[0] == {"labels": 1, "x": 7} and len(examples) == 1
    logits, labels = torch.randn(3, 2, requires_grad=True), torch.tensor([1, -100, -100])
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    loss.backward()
    assert logits.grad[1:].abs().sum() == 0 and loss == -logits[0].log_softmax(-1)[1]
