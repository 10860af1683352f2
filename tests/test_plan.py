"""`nutshell show`: what it prints is what a run then does."""

import json
import re

import pytest
from ruamel.yaml import YAML

from tests.conftest import SMALL_YAML


@pytest.mark.parametrize("batch, accumulation, epochs", [(16, 1, 1), (16, 4, 2), (7, 3, 1), (64, 2, 0.5)])
def test_steps_and_tokens(batch, accumulation, epochs, write, nutshell, result):
    settings = f"num_train_epochs: {epochs}, per_device_train_batch_size: {batch}"
    text = SMALL_YAML.replace("max_steps: 2, per_device_train_batch_size: 4", settings)
    file = write(text.replace("eval_strategy", f"gradient_accumulation_steps: {accumulation}, eval_strategy"))
    nutshell("run", file)
    code, out, _ = nutshell("show", file)
    done = result()["training"]
    assert code == 0
    split = f"{batch} at once x {accumulation} accumulated x 1 process"
    assert f"# steps:    {done['steps']:,}, each of {batch * accumulation} examples: {split}\n" in out
    if epochs == int(epochs):
        assert f"# tokens:   {done['tokens']:,} in training" in out


def test_everything_is_shown(write, nutshell, tmp_path):
    code, out, _ = nutshell("show", write(SMALL_YAML), "--seed", 1, "training.weight_decay=0.5", "--seed", 2)
    shown = YAML(typ="safe").load(out)
    assert code == 0 and shown["seeds"] == [1, 2] and shown["data"]["truncate"] == "head"
    assert "weight_decay: 0.5\n" in out and "learning_rate: 5e-05 # default" in out
    assert "# examples: 48 train, 12 validation, 20 test (local copy); the figure is of the test part" in out
    for seed in (1, 2):
        assert str(tmp_path / "outputs" / "finetune" / "pairs" / f"seed-{seed}") in out
    assert not (tmp_path / "outputs").exists()


def test_processes_of_the_launch(write, nutshell, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    _, out, _ = nutshell("show", write(SMALL_YAML))
    assert "each of 16 examples: 4 at once x 1 accumulated x 4 processes\n" in out


@pytest.mark.parametrize(
    ("processes", "split"), [(1, "128 at once x 2"), (2, "128 at once x 1"), (8, "32 at once x 1")]
)
def test_a_global_batch_is_split_for_the_launch(processes, split, write, nutshell, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    text = SMALL_YAML.replace(" per_device_train_batch_size: 4,", "") + "global_batch_size: 256\n"
    _, out, _ = nutshell("show", write(text))
    assert f"each of 256 examples: {split} accumulated x {processes} process" in out
    at_once = split.split()[0]
    assert re.search(f"per_device_train_batch_size: {at_once} +# of global_batch_size, by this launch", out)


def test_weights_are_not_needed(tiny, write, nutshell, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    assert nutshell("show", write(SMALL_YAML), f"model.name={tmp_path}")[0] == 0
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["num_hidden_layers"] == 2
    assert nutshell("show", write(SMALL_YAML), f"model.name={tmp_path}", "model.trainable=last_3")[0] == 2


def test_the_pinned_revision_is_shown_even_off_line(write, nutshell, tiny, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, out, err = nutshell("show", write(SMALL_YAML), "data.name=mrpc", "data.path=null")
    assert code == 2 and "nyu-mll/glue" in err
    assert re.search(r"revision: bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c +# default", out)
