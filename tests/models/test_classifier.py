"""The wrapper over BertForSequenceClassification: what it mends, and its nats."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import BertForSequenceClassification

from nutshell.models import classifier
from tests.conftest import one_step

LABELS = ("negative", "positive")


def logged(model_class, tiny, folder, batch: int, accumulation: int) -> tuple[float, float]:
    """Loss and gradient norm of the first optimizer step over 8 examples."""
    torch.manual_seed(1)
    model = model_class.from_pretrained(tiny, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    generator = torch.Generator().manual_seed(2)
    examples = [
        {"input_ids": torch.randint(1000, 2000, (12,), generator=generator), "labels": torch.tensor(i % 2)}
        for i in range(8)
    ]
    return one_step(model, examples, folder, batch, accumulation)[1]


def test_accumulation_changes_neither_loss_nor_gradient(tiny, tmp_path):
    whole, split = (logged(classifier.BertClassifier, tiny, tmp_path, *sizes) for sizes in ((8, 1), (2, 4)))
    assert split == pytest.approx(whole, rel=1e-4)


def test_upstream_still_needs_the_mend(tiny, tmp_path):
    """When this fails, transformers scales the loss rightly by itself and the wrapper's line can go."""
    whole, split = (logged(BertForSequenceClassification, tiny, tmp_path, *sizes) for sizes in ((8, 1), (2, 4)))
    assert split[0] == pytest.approx(4 * whole[0], rel=1e-3)
    assert split[1] == pytest.approx(4 * whole[1], rel=1e-3)


def test_label_nats_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    expected = [math.log(2), math.log(4 / 3), math.log(4)]
    assert classifier.label_nats(logits, torch.tensor([1, 0, 1])).tolist() == pytest.approx(expected)


def test_label_nats_are_the_loss(tiny):
    torch.manual_seed(3)
    model = classifier.load(tiny, LABELS).eval()
    inputs = {"input_ids": torch.randint(1000, 2000, (5, 9)), "attention_mask": torch.ones(5, 9, dtype=torch.long)}
    labels = torch.tensor([0, 1, 1, 0, 1])
    with torch.no_grad():
        nats = model.label_nats(labels, **inputs)
        output = model(**inputs, labels=labels)
    assert nats.shape == (5,) and nats.dtype == torch.float32
    assert nats.mean().item() == pytest.approx(output.loss.item(), rel=1e-6)
    assert nats.tolist() == pytest.approx(cross_entropy(output.logits, labels, reduction="none").tolist())


def test_the_same_seed_draws_the_same_head(tiny):
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        heads.append(classifier.load(tiny, LABELS).classifier.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("trainable", "frozen", "trained"),
    [
        ("all", set(), {"embeddings", "layer.0", "layer.1", "pooler", "classifier"}),
        ("last_2", {"embeddings"}, {"layer.0", "layer.1", "pooler", "classifier"}),
        ("last_1", {"embeddings", "layer.0"}, {"layer.1", "pooler", "classifier"}),
        ("head", {"embeddings", "layer.0", "layer.1"}, {"pooler", "classifier"}),
    ],
)
def test_trainable(tiny, trainable, frozen, trained):
    model = classifier.load(tiny, LABELS, trainable)
    for names, expected in ((frozen, False), (trained, True)):
        for name in names:
            flags = [p.requires_grad for n, p in model.named_parameters() if name in n]
            assert flags and set(flags) == {expected}


def test_a_saved_classifier_keeps_its_head_and_labels(tiny, tmp_path):
    torch.manual_seed(4)
    model = classifier.load(tiny, LABELS)
    model.save_pretrained(tmp_path)
    again = classifier.load(tmp_path, LABELS)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert again.config.id2label == {0: "negative", 1: "positive"}
    assert (tmp_path / "model.safetensors").exists()


def test_dropout(tiny):
    assert classifier.load(tiny, LABELS).config.hidden_dropout_prob == 0.1
    model = classifier.load(tiny, LABELS, dropout=0.0)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert model.config.attention_probs_dropout_prob == 0.0
