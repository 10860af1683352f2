"""Low-rank adapters: what is trained, the laws, what is saved, and that a run resumes to the last bit."""

import json
import shutil
import subprocess
import sys

import numpy
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from nutshell.bits.figures import units
from nutshell.machine.errors import UserError
from nutshell.models.adapters import merge, parameters, save
from nutshell.models.classifiers import wrapper
from nutshell.models.classifiers.encoders import ENCODERS
from tests.models.classifiers.tiny import LABELS, block, lora, pairs

YAML = """\
task: classify
seeds: [13]
model: {name: TINY, lora: {rank: 4, alpha: 8}}
data: {name: sample_pairs, path: SMALL, max_tokens: 40}
training: {num_train_epochs: 2, learning_rate: 0.01, per_device_train_batch_size: 8, eval_strategy: epoch}
"""


@pytest.fixture
def load(checkpoints):
    """A seeded classifier with adapters."""

    def _load(name, trained=None, **keys):
        torch.manual_seed(1)
        return wrapper.load(checkpoints[name], LABELS, block(lora=lora(**keys), dropout=0.0), trained)

    return _load


@pytest.mark.parametrize("name", ENCODERS)
def test_adapters_the_head_and_the_pooler_are_trained(name, load, checkpoints):
    """And counted, as are all: of the merged model."""
    model = load(name)
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    plain = wrapper.load(checkpoints[name], LABELS, block(trainable="head"))
    head = sum(weight.numel() for weight in plain.parameters() if weight.requires_grad)
    adapters = {key: weight for key, weight in trained.items() if "lora_" in key}
    assert len(adapters) == {"modernbert": 2 * 2, "albert": 2 * 2}.get(name, 2 * 2 * 2)
    expected = head + sum(weight.numel() for weight in adapters.values())
    assert sum(weight.numel() for weight in trained.values()) == expected
    assert model.num_parameters(only_trainable=True) == expected
    size = plain.num_parameters() + sum(weight.numel() for weight in adapters.values())
    assert parameters(model) == {"all": size, "trained": expected}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ENCODERS)
def test_accumulation_changes_neither_loss_nor_gradient(name, load, checkpoints, examples, trainer_of):
    rows, collator = examples(checkpoints[name], pairs(8))
    steps = []
    for batch, accumulation in ((8, 1), (2, 4)):
        split = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        trainer = trainer_of(load(name), rows, collator, **split)
        trainer.train()
        steps.append([trainer.state.log_history[0][key] for key in ("loss", "grad_norm")])
    assert steps[1] == pytest.approx(steps[0], rel=1e-4)
    inputs, model = collator(rows), load(name).eval()
    assert steps[0][0] == pytest.approx(model.label_nats(inputs.pop("labels"), **inputs).mean().item(), rel=1e-4)
    assert model.accepts_loss_kwargs is False


@pytest.mark.parametrize("name", ENCODERS)
def test_the_merged_model_answers_the_same(name, load, checkpoints, examples, trainer_of, tmp_path):
    """And so does stock transformers with the adapter, on the checkpoint that it was trained on."""
    from peft import PeftModel

    rows, collator = examples(checkpoints[name], pairs(16))
    model = load(name)
    trainer = trainer_of(model, rows, collator, max_steps=6, learning_rate=0.01, train_sampling_strategy="random")
    trainer.train()
    measured = trainer.predict(trainer.eval_dataset).predictions
    merge(model)
    at_the_end = trainer.predict(trainer.eval_dataset).predictions
    save(model, collator.tokenizer, tmp_path, block(name=str(checkpoints[name])))
    inputs = collator([{**row, "labels": 0} for row in rows])
    del inputs["labels"]
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    base = AutoModelForSequenceClassification.from_pretrained(checkpoints[name], num_labels=2)
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        merged, apart = stock(**inputs).logits.softmax(-1).numpy(), adapted(**inputs).logits.softmax(-1).numpy()
    before, odds = (torch.from_numpy(logits).softmax(-1).numpy() for logits in (measured, at_the_end))
    differences = {"merged": merged - odds, "adapter": apart - before, "merging itself": odds - before}
    print(f"\n{name:12}", *(f"{what} {numpy.abs(values).max():.1e}" for what, values in differences.items()))
    assert merged == pytest.approx(odds, abs=2e-7) and apart == pytest.approx(before, abs=2e-7)
    assert odds == pytest.approx(before, abs=5e-7)
    assert stock.num_parameters() == AutoModelForSequenceClassification.from_config(stock.config).num_parameters()
    again = load(name, tmp_path / "adapter").state_dict()
    assert all(torch.equal(again[key], weight) for key, weight in model.state_dict().items() if "lora_" in key)


def test_targets(load):
    names = [key for key, _ in load("bert", targets=["key", "intermediate.dense"]).named_parameters() if "lora_" in key]
    assert all(".key." in key or ".intermediate.dense." in key for key in names) and len(names) == 8
    for wrong in ("vlaue", "ery", "word_embeddings", "classifier", "pooler.dense"):
        with pytest.raises(
            UserError, match=rf"targets: {wrong} is no linear layer of this model, which has dense, key"
        ):
            load("bert", targets=["query", wrong])


def test_rank_alpha_and_dropout(load):
    model = load("bert", rank=3, alpha=6.0, dropout=0.5)
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    assert layer.lora_A["default"].weight.shape == (3, 16) and layer.scaling["default"] == 2.0
    assert layer.lora_dropout["default"].p == 0.5
    assert not layer.lora_B["default"].weight.any()


def test_fsdp_is_refused(load, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"model.lora: is merged on one device"):
        load("bert")


@pytest.fixture
def seed_folder(tmp_path):
    return tmp_path / "outputs/finetune/pairs/seed-13"


def test_a_run(write, nutshell, result, checkpoints, seed_folder):
    """Its figures, its two folders and what they say of their origin."""
    code, _, errors = nutshell("run", write(YAML.replace("TINY", str(checkpoints["bert"]))))
    assert code == 0, errors
    parameters = result()["parameters"]
    adapter = load_file(seed_folder / "adapter/adapter_model.safetensors")
    assert parameters["trained"] == sum(weight.numel() for weight in adapter.values())
    settings = json.loads((seed_folder / "adapter/adapter_config.json").read_text())
    assert (settings["task_type"], settings["r"], settings["lora_alpha"]) == ("SEQ_CLS", 4, 8)
    assert settings["base_model_name_or_path"] == str(checkpoints["bert"])
    assert {file.name for file in (seed_folder / "model").iterdir()} >= {
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    }
    assert not [*seed_folder.glob("checkpoint-*")]
    odds = numpy.array(units.read(seed_folder).columns["probabilities"])
    assert odds.std() > 1e-3
    code, _, errors = nutshell(
        "run", write(YAML.replace("TINY", str(seed_folder)), "second/pairs.yaml"), "training.learning_rate=1e-12"
    )
    assert code == 0, errors
    again = numpy.array(units.read(seed_folder.parents[2] / "second/pairs/seed-13").columns["probabilities"])
    assert again == pytest.approx(odds, abs=1e-6)


@pytest.mark.parametrize("best", [False, True])
def test_a_run_that_was_cut_short_resumes_to_the_last_bit(best, write, nutshell, checkpoints, seed_folder, tmp_path):
    """Between its steps, and after the last."""
    text = YAML.replace("TINY", str(checkpoints["bert"])).replace(
        "2, learning_rate", "3, save_strategy: epoch, learning_rate"
    )
    if best:
        text = text.replace(
            "eval_strategy",
            "load_best_model_at_end: true, metric_for_best_model: label_bits, greater_is_better: false, eval_strategy",
        )
    file = write(text)
    assert nutshell("run", file, "keep_checkpoints=true")[0] == 0
    weights = load_file(seed_folder / "model/model.safetensors")
    figures = json.loads((seed_folder / "metrics.json").read_text())["metrics"]
    for last in (18, 6):
        (seed_folder / "metrics.json").unlink()
        for name in ("model", "adapter"):
            for part in (seed_folder / name).iterdir():
                part.unlink()
        for checkpoint in seed_folder.glob("checkpoint-*"):
            if int(checkpoint.name.removeprefix("checkpoint-")) > last:
                shutil.rmtree(checkpoint)
        code, _, errors = nutshell("run", file, "keep_checkpoints=true")
        assert code == 0 and f"resumes from checkpoint-{last}" in errors
        again = load_file(seed_folder / "model/model.safetensors")
        assert all(torch.equal(weight, again[key]) for key, weight in weights.items())
        assert json.loads((seed_folder / "metrics.json").read_text())["metrics"] == figures


def test_a_finished_run_with_a_new_head_is_measured_again(write, nutshell, checkpoints, seed_folder, tmp_path):
    """On a checkpoint whose head tells other labels apart: the adapter holds the new one."""
    wrapper.load(checkpoints["bert"], ["red", "green", "blue"], block()).save_pretrained(tmp_path / "other")
    for file in checkpoints["bert"].glob("tokenizer*"):
        shutil.copy(file, tmp_path / "other")
    file = write(YAML.replace("TINY", f"{tmp_path / 'other'}, new_head: true"))
    assert nutshell("run", file, "keep_checkpoints=true")[0] == 0
    odds = units.read(seed_folder).columns["probabilities"]
    (seed_folder / "metrics.json").unlink()
    code, _, errors = nutshell("run", file, "keep_checkpoints=true")
    assert code == 0 and "resumes from checkpoint-12" in errors, errors
    assert numpy.array_equal(units.read(seed_folder).columns["probabilities"], odds)


@pytest.mark.slow
def test_peft_is_imported_only_where_it_is_asked_for():
    code = "import sys, nutshell.models.classifiers.wrapper; assert 'peft' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
