"""The wrapper over each stock class: what it mends, its laws, and what it refuses to load."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification

from nutshell.machine.errors import UserError
from nutshell.models.classifiers import encoders, wrapper
from nutshell.models.classifiers.encoders import ENCODERS
from tests.conftest import one_step
from tests.models.classifiers.tiny import LABELS, block, pairs


@pytest.fixture
def load(checkpoints):
    """A seeded classifier of an architecture or of a folder."""

    def _load(place, labels=LABELS, seed: int = 1, **keys):
        torch.manual_seed(seed)
        return wrapper.load(checkpoints.get(place, place), labels, block(**keys))

    return _load


@pytest.fixture
def changed(checkpoints, tmp_path):
    """A copy of a checkpoint with other weights or another config."""

    def _changed(name: str = "bert", config=(), weights=lambda weights: None):
        folder = shutil.copytree(checkpoints[name], tmp_path / "changed", dirs_exist_ok=True)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | dict(config)))
        tensors = load_file(folder / "model.safetensors")
        weights(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder

    return _changed


@pytest.mark.parametrize("name", ENCODERS)
def test_accumulation_changes_neither_loss_nor_gradient(name, checkpoints, examples, load, trainer_of):
    rows, collator = examples(checkpoints[name], pairs(8))
    steps = []
    for batch, accumulation in ((8, 1), (2, 4)):
        split = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        trainer = trainer_of(load(name, dropout=0.0), rows, collator, **split)
        trainer.train()
        steps.append([trainer.state.log_history[0][key] for key in ("loss", "grad_norm")])
    assert steps[1] == pytest.approx(steps[0], rel=1e-4)
    model = load(name, dropout=0.0).eval()
    batch = collator(rows)
    assert steps[0][0] == pytest.approx(model.label_nats(batch.pop("labels"), **batch).mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_upstream_still_needs_the_mend(name, checkpoints, examples, load, tmp_path):
    """When this fails, transformers scales the loss rightly by itself and the wrapper's line can go."""
    rows, collator = examples(checkpoints[name], pairs(8))
    for stock, factor in ((True, 4), (False, 1)):
        steps = []
        for sizes in ((8, 1), (2, 4)):
            model = load(name, dropout=0.0)
            if stock:
                model.accepts_loss_kwargs = True  # what Trainer concludes of the stock class
            steps.append(one_step(model, rows, tmp_path, *sizes, data_collator=collator)[1])
        assert steps[1] == pytest.approx([factor * value for value in steps[0]], rel=1e-3)


def test_trainer_concludes_wrongly_of_the_stock_classes(checkpoints, examples, tmp_path):
    rows, collator = examples(checkpoints["bert"], pairs(8))
    model = AutoModelForSequenceClassification.from_pretrained(checkpoints["bert"])
    assert one_step(model, rows, tmp_path, 8, 1, data_collator=collator)[0].model_accepts_loss_kwargs


@pytest.mark.parametrize("name", ENCODERS)
def test_the_answer_to_a_text_does_not_depend_on_its_batch(name, checkpoints, examples, load, trainer_of):
    rows, collator = examples(checkpoints[name], pairs(20))
    logits = []
    for size in (1, 64):
        trainer = trainer_of(load(name), rows, collator, per_device_eval_batch_size=size)
        logits.append(trainer.predict(trainer.eval_dataset).predictions)
    assert logits[0].std() > 0.01
    assert logits[1] == pytest.approx(logits[0], abs=2e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_label_nats_are_the_loss(name, checkpoints, examples, load):
    rows, collator = examples(checkpoints[name], pairs(6))
    inputs, model = collator(rows), load(name).eval()
    labels = inputs.pop("labels")
    with torch.no_grad():
        nats = model.label_nats(labels, **inputs)
        output = model(**inputs, labels=labels)
    odds = output.logits.double().exp()
    by_hand = -(odds[range(6), labels] / odds.sum(1)).log()
    assert nats.shape == (6,) and nats.dtype == torch.float32
    assert nats.tolist() == pytest.approx(by_hand.tolist(), rel=1e-5)
    assert nats.mean().item() == pytest.approx(output.loss.item(), rel=1e-6)
    assert nats.tolist() == pytest.approx(cross_entropy(output.logits, labels, reduction="none").tolist())


def test_label_nats_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    expected = [math.log(2), math.log(4 / 3), math.log(4)]
    assert wrapper.label_nats(logits, torch.tensor([1, 0, 1])).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_same_seed_draws_the_same_head(name, load):
    heads = [wrapper.last_layer(load(name, seed=seed)).weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("trainable", ["all", "last_2", "last_1", "head"])
@pytest.mark.parametrize("name", ENCODERS)
def test_trainable(name, trainable, load):
    if name == "albert" and trainable.startswith("last"):
        return  # refused, in test_encoders.py
    model = load(name, trainable=trainable)
    encoder = model.base_model_prefix + "."
    trained = {key for key, weight in model.named_parameters() if weight.requires_grad}
    layers = [key for key in trained if ".0." in key or ".1." in key]
    last = {key for key in layers if ".1." in key}
    assert {key for key, _ in model.named_parameters() if not key.startswith(encoder) or ".pooler." in key} <= trained
    if trainable == "all":
        assert trained == {key for key, _ in model.named_parameters()}
    else:
        inside = {key for key in trained if key.startswith(encoder) and ".pooler." not in key}
        assert inside == {"head": set(), "last_1": last, "last_2": {*layers}}[trainable]
        assert bool(layers) == (trainable != "head") and (not last or len(layers) // len(last) in (1, 2))


@pytest.mark.parametrize("name", ENCODERS)
def test_dropout(name, load):
    model = load(name, dropout=0.25)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}
    none = load(name, dropout=0.0).train()
    ids = torch.arange(5, 15)[None]
    assert torch.equal(none(input_ids=ids).logits, none(input_ids=ids).logits)


def test_without_dropout_stated_the_checkpoint_s_own_stays(load):
    assert load("bert").config.hidden_dropout_prob == 0.1 and load("bert").config.classifier_dropout is None


@pytest.mark.parametrize("name", ENCODERS)
def test_a_saved_classifier_keeps_its_head_and_labels_and_bears_the_stock_name(name, load, tmp_path):
    model = load(name)
    model.save_pretrained(tmp_path)
    again = load(tmp_path, seed=2)
    assert all(torch.equal(weight, again.state_dict()[key]) for key, weight in model.state_dict().items())
    assert again.config.id2label == dict(enumerate(LABELS))
    saved = wrapper.load_saved(tmp_path)
    assert all(torch.equal(weight, saved.state_dict()[key]) for key, weight in model.state_dict().items())
    assert isinstance(saved, wrapper.Classifier) and saved.config.id2label == dict(enumerate(LABELS))
    config = json.loads((tmp_path / "config.json").read_text())
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert config["architectures"] == [type(stock).__name__]
    assert not isinstance(stock, wrapper.Classifier)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_number_is_predicted_by_one_output(name, load, tmp_path):
    model = load(name, labels=())
    assert wrapper.last_layer(model).out_features == 1 and model.config.problem_type == "regression"
    model.save_pretrained(tmp_path)
    again = load(tmp_path, labels=(), seed=2)
    for other in (again, wrapper.load_saved(tmp_path)):
        assert torch.equal(wrapper.last_layer(other).weight, wrapper.last_layer(model).weight)
        assert other.config.problem_type == "regression"
    with pytest.raises(UserError, match="its head has 1 output, this data set has labels not_equivalent, equivalent;"):
        load(tmp_path)


@pytest.mark.parametrize("kept", ["multi_label_classification", "regression"])
def test_no_saved_problem_type_survives(kept, changed, load):
    assert load(changed(config={"problem_type": kept})).config.problem_type == "single_label_classification"


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("labels", [LABELS, ("a", "b", "c")])
def test_a_new_head(name, labels, load, tmp_path):
    """Its last layer is drawn from the seed whether or not it has as many labels; all else stays."""
    old = load(name, labels=("x", "y"), seed=7)
    with torch.no_grad():
        wrapper.last_layer(old).bias.fill_(9.0)
    old.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"its head tells x, y apart, .*model.new_head: true draws"):
        load(tmp_path, labels=labels)
    heads = [load(tmp_path, labels=labels, seed=seed, new_head=True) for seed in (1, 1, 2)]
    first, again, other = (wrapper.last_layer(model) for model in heads)
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)
    assert first.out_features == len(labels) and not first.bias.any()
    new = {key for key, weight in heads[0].state_dict().items() if not torch.equal(weight, old.state_dict()[key])}
    assert new == {key for key in old.state_dict() if key.startswith("classifier.") and "dense" not in key}


FEWER = {"num_hidden_layers": 1, "n_layers": 1}


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "albert"])
def test_weights_of_more_layers_than_the_config_has(name, changed, load):
    keys = {"layer_types": ["full_attention"]} if name == "modernbert" else {}
    with pytest.raises(UserError, match=r"has weights that its config has no room for, .*1\."):
        load(changed(name, config={**FEWER, **keys}))


def test_weights_of_relative_positions(changed, load):
    """Of which today's BERT makes nothing."""

    def relative(weights):
        weights["encoder.layer.0.attention.self.distance_embedding.weight"] = torch.zeros(95, 8)

    with pytest.raises(UserError, match=r"no room for, .*distance_embedding"):
        load(changed(weights=relative))


@pytest.mark.parametrize("name", ENCODERS)
def test_each_weight_of_the_encoder_must_be_there(name, checkpoints, changed, load):
    """The pooler may be missing, as many checkpoints have none. The first layer's are not tried: the last's are."""
    for key in load_file(checkpoints[name] / "model.safetensors"):
        if "layer.0." in key or "layers.0.attn" in key:
            continue
        folder = changed(name, weights=lambda weights, key=key: weights.pop(key))
        if "pooler" in key:
            load(folder)
        else:
            with pytest.raises(UserError, match="lacks weights of the encoder"):
                load(folder)


def test_half_a_head(load, tmp_path):
    load("roberta").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["classifier.out_proj.bias"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights .*classifier.out_proj.bias"):
        load(tmp_path)


# As the published checkpoints have them.
PRETRAINED = {
    "bert": ["cls.predictions.bias", "cls.seq_relationship.weight", "bert.embeddings.position_ids"],
    "distilbert": ["vocab_transform.weight", "vocab_layer_norm.bias", "vocab_projector.bias"],
    "roberta": ["lm_head.dense.weight", "roberta.pooler.dense.weight", "roberta.embeddings.position_ids"],
    "electra": ["discriminator_predictions.dense.weight", "generator_predictions.dense.bias", "generator_lm_head.bias"],
    "albert": ["predictions.dense.weight", "sop_classifier.classifier.weight"],
    "deberta-v2": [
        "lm_predictions.lm_head.bias",
        "mask_predictions.classifier.weight",
        "deberta.embeddings.word_embeddings._weight",
    ],
    "mpnet": ["lm_head.decoder.weight", "mpnet.pooler.dense.bias", "mpnet.embeddings.position_ids"],
    "modernbert": ["decoder.bias"],
    "xlm-roberta": ["lm_head.bias", "roberta.pooler.dense.weight"],
}


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_heads_of_pre_training_are_passed_over(name, prefix, changed, load):
    """And a base model's names may have the prefix of a model with a head, or not."""
    before = load(name).base_model_prefix + "."

    def pretrained(weights):
        if prefix:
            for key in [*weights]:
                weights[before + key] = weights.pop(key)
        for key in PRETRAINED[name]:
            weights[key if prefix else key.removeprefix(before)] = torch.zeros(7)

    model, expected = load(changed(name, weights=pretrained)), load(name)
    assert all(torch.equal(weight, model.state_dict()[key]) for key, weight in expected.state_dict().items())
    encoders.check(changed(name, weights=pretrained), block(), 8)
    encoders.check_head(changed(name, weights=pretrained), LABELS, new_head=False)


def test_the_old_names_of_a_norm_s_weights(changed, checkpoints, load):
    """BERT's first checkpoints call them gamma and beta."""

    def old(weights):
        for key in [key for key in weights if "LayerNorm" in key]:
            name = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            weights[name] = weights.pop(key) + 1

    model, expected = load(changed(weights=old)), load("bert")
    norm = "bert.encoder.layer.1.output.LayerNorm.weight"
    assert torch.equal(model.state_dict()[norm], expected.state_dict()[norm] + 1)


def test_fsdp_divides_whole_layers(load):
    assert load("bert")._no_split_modules == {"BertLayer"}
    assert load("distilbert")._no_split_modules == {"TransformerBlock"}
