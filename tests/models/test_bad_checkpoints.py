"""Checkpoints that are damaged, unsafe or do not fit: one clear message, exit code 2."""

import json
import shutil

import pytest
import torch

from nutshell.models import classifier
from nutshell.models import find as models


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
    folder = checkpoint(tiny, tmp_path, model_type="roberta")
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "is a roberta checkpoint; this task runs bert" in err


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
    assert code == 2 and "lacks weights of the encoder" in err


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
    monkeypatch.setattr(models, "MINILM_SHA256", "0" * 64)
    code, _, err = nutshell("run", write(), "model.name=minilm")
    assert code == 2 and "sha256 is 53aa51172d" in err and "not the published 0000" in err


def test_embedded_package_not_installed(write, nutshell, monkeypatch):
    monkeypatch.setattr(models, "MINILM_PACKAGE", "not-installed")
    code, _, err = nutshell("run", write(), "model.name=minilm")
    assert code == 2 and "not installed" in err and "requirements.txt" in err


def test_a_head_for_other_labels(tiny, write, nutshell, tmp_path):
    torch.manual_seed(0)
    classifier.load(tiny, ("negative", "positive")).save_pretrained(tmp_path / "reviews")
    shutil.copy(tiny / "tokenizer.json", tmp_path / "reviews")
    code, _, err = nutshell("run", write(), f"model.name={tmp_path / 'reviews'}")
    assert code == 2 and "its head tells negative, positive apart" in err
