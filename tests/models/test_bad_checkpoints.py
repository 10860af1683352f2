"""Checkpoints that are damaged, unsafe or do not fit: one clear message, exit code 2."""

import json
import shutil

import pytest
import torch

from nutshell.machine.errors import UserError
from nutshell.models.classifiers import wrapper
from nutshell.models.embedded import minilm
from nutshell.models.find import find
from tests.conftest import PAIRS_YAML, TEXT_YAML
from tests.models.classifiers.tiny import block


def checkpoint(tiny, tmp_path, **config):
    folder = shutil.copytree(tiny, tmp_path / "checkpoint")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "but pytorch_model.bin; weights in a pickle are not loaded",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "config.json").unlink(), "holds no checkpoint"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: expected a JSON object"),
        (lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {}}'), "names code of its own (auto_map)"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "not a tokenizer"),
    ],
)
def test_faulty_checkpoint(change, message, tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path)
    change(folder)
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and message in err


def test_remote_code(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, auto_map={"AutoModel": "modeling.Mine"})
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "auto_map" in err and "not run" in err


def test_another_architecture(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, model_type="t5")
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert (
        code == 2
        and "is a t5 checkpoint; this task runs bert, distilbert, roberta, electra, albert, deberta-v2, mpnet" in err
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": "2"}, "num_hidden_layers: expected a whole number from 1 to 1,000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: expected a whole number from 1 to 1,000"),
        ({"max_position_embeddings": None}, "max_position_embeddings: expected a whole number from 1 to 1,048,576"),
        ({"id2label": ["negative", "positive"]}, "id2label: expected the name of each label by its number"),
        ({"id2label": {"negative": "0"}}, "id2label: expected the name of each label by its number"),
        ({"model_type": ["bert"]}, "names no model_type; this task runs bert"),
    ],
)
def test_a_config_that_is_none(change, message, tiny, write, nutshell, tmp_path):
    code, _, err = nutshell("show", write(), f"model.name={checkpoint(tiny, tmp_path, **change)}")
    assert code == 2 and message in err


def test_truncated_weights(tiny, write, nutshell, tmp_path):
    file = checkpoint(tiny, tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    code, _, err = nutshell("run", write(), f"model.name={file.parent}")
    assert code == 2 and str(file.parent) in err and "cannot be read" in err and "Traceback" not in err


def test_missing_layers(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, num_hidden_layers=3)
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "lacks weights, all of layer 2 among them" in err


def test_weights_of_another_shape(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, intermediate_size=65)
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "do not fit 2 labels or its own config" in err


def test_no_model_there(write, nutshell):
    code, _, err = nutshell("run", write(), "model.name=google-bert/bert-base-uncased")
    assert code == 2 and "no folder here" in err and "model.revision" in err


def test_more_layers_than_there_are(write, nutshell):
    code, _, err = nutshell("run", write(), "model.trainable=last_3")
    assert code == 2 and "last_3, but the model has 2 layers" in err


def test_more_tokens_than_positions(tiny, write, nutshell):
    code, _, err = nutshell("run", write(), "data.max_tokens=513")
    assert code == 2 and "513 is more than the 512 positions" in err


def test_wrong_digest_of_the_embedded_weights(write, nutshell, monkeypatch):
    monkeypatch.setattr(minilm, "SHA256", "0" * 64)
    code, _, err = nutshell("run", write(), "model.name=minilm")
    assert code == 2 and "sha256 is 53aa51172d" in err and "not the published 0000" in err


def test_embedded_package_not_installed(write, nutshell, monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "not-installed")
    code, _, err = nutshell("run", write(), "model.name=minilm")
    assert code == 2 and "not installed" in err and "requirements.txt" in err


def test_a_head_for_other_labels(tiny, write, nutshell, tmp_path):
    torch.manual_seed(0)
    wrapper.load(tiny, ("negative", "positive"), block()).save_pretrained(tmp_path / "reviews")
    shutil.copy(tiny / "tokenizer.json", tmp_path / "reviews")
    code, _, err = nutshell("run", write(), f"model.name={tmp_path / 'reviews'}")
    assert code == 2 and "its head tells negative, positive apart" in err
    assert "model.new_head: true draws the head's last layer again" in err
    assert nutshell("run", write(), f"model.name={tmp_path / 'reviews'}", "model.new_head=true")[0] == 0


def test_fewer_layers_than_there_are_weights_for(tiny, write, nutshell, tmp_path):
    for command in ("show", "run"):
        folder = checkpoint(tiny, tmp_path / command, num_hidden_layers=1)
        code, _, err = nutshell(command, write(), f"model.name={folder}")
        assert code == 2 and "has weights that its config has no room for, encoder.layer.1" in err


def test_relative_positions(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, position_embedding_type="relative_key_query")
    code, _, err = nutshell("show", write(), f"model.name={folder}")
    assert code == 2 and "position_embedding_type is relative_key_query" in err


def test_one_token_type_and_pairs(tiny, write, nutshell, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = checkpoint(tiny, tmp_path, type_vocab_size=1)
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.token_type_embeddings.weight"
    save_file(weights | {name: weights[name][:1].clone()}, folder / "model.safetensors", {"format": "pt"})
    code, _, err = nutshell("show", write(), f"model.name={folder}")
    assert code == 2 and "gives examples of 2 texts 2 token types, its model has 1 (type_vocab_size)" in err
    assert nutshell("run", write(), f"model.name={folder}", "data.name=sample_reviews")[0] == 0


def test_a_token_more_than_the_model_has_rows(tiny, write, nutshell, tmp_path):
    from tokenizers import Tokenizer

    folder = checkpoint(tiny, tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["paraphrase"])
    tokenizer.save(str(folder / "tokenizer.json"))
    code, _, err = nutshell("show", write(), f"model.name={folder}")
    assert code == 2 and "its tokenizer has 30,523 tokens, its model 30,522: they are not of the same" in err


def test_a_cased_tokenizer_that_lower_cases(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))
    code, _, err = nutshell("show", write(), f"model.name={folder}")
    assert code == 2 and "do_lower_case is false, but tokenizer.json lower-cases" in err


def test_lora_and_trainable(write, nutshell):
    code, _, err = nutshell("show", write(), "model.trainable=head", "model.lora.rank=8", "model.lora.alpha=16")
    assert code == 2 and "model.trainable: model.lora settles which parameters are trained" in err


def test_a_run_that_keeps_no_weights_names_the_model_that_it_points_to(tmp_path):
    (tmp_path / "seed-1" / "model").mkdir(parents=True)
    for name in ("experiment.yaml", "metrics.json"):
        (tmp_path / "seed-1" / name).write_text("{}")
    content = {"model": {"name": "smollm2", "revision": None}}
    (tmp_path / "seed-1" / "model" / "any.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"seed-1 keeps no weights; it was of smollm2, which any.json points to: name"):
        find(str(tmp_path), None, ["gpt2"])


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_an_embedded_model_has_no_revision(name):
    with pytest.raises(UserError, match=f"model.revision: {name} is embedded and has no revision"):
        find(name, "a" * 40, ["bert", "llama"])


@pytest.mark.parametrize(
    "text", [PAIRS_YAML.replace("TINY", "TINY, LORA"), TEXT_YAML.replace("CAUSAL", "CAUSAL, LORA")]
)
def test_show_refuses_a_target_of_lora_that_is_no_layer(text, write, nutshell):
    text = text.replace("LORA", "lora: {rank: 2, alpha: 4, targets: [nope]}")
    code, _, err = nutshell("show", write(text))
    assert code == 2 and "model.lora.targets: nope is no linear layer of this model, which has " in err
