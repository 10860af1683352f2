"""`nutshell show`: what it prints is what a run then does."""

import json
import re

import pytest
from ruamel.yaml import YAML

from nutshell.machine import launch
from nutshell.machine.errors import UserError
from tests.conftest import SMALL_YAML
from tests.runs.conftest import STEPS


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


def test_config_and_layers_are_enough_to_refuse(tiny, write, nutshell):
    assert json.loads((tiny / "config.json").read_text())["num_hidden_layers"] == 2
    assert nutshell("show", write(SMALL_YAML), "model.trainable=last_3")[0] == 2


def test_the_pinned_revision_is_named_even_off_line(write, nutshell, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, out, err = nutshell("show", write(SMALL_YAML), "data.name=mrpc", "data.path=null")
    assert code == 2 and out == ""
    assert "nyu-mll/glue at revision bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c" in err


@pytest.mark.parametrize(
    ("size", "processes", "tokens", "expected"),
    [
        (16, 1, 128, (16, 1)),
        (16, 8, 128, (2, 1)),
        (256, 1, 512, (16, 16)),
        (6, 2, 4096, (1, 3)),
        (5, 1, 99_999, (1, 5)),
        (48, 2, 512, (12, 2)),
    ],
)
def test_split(size, processes, tokens, expected):
    at_once, accumulated = launch.split(size, processes, tokens)
    assert (at_once, accumulated) == expected and at_once * accumulated * processes == size


@pytest.mark.parametrize(("size", "processes", "near"), [(16, 3, "15 and 18"), (2, 8, ": 8")])
def test_what_does_not_divide(size, processes, near):
    with pytest.raises(UserError, match=f"{size} does not divide among {processes} processes.*{near}$"):
        launch.split(size, processes, 128)


def test_show_names_what_does_not_divide(write, nutshell, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    text = STEPS.replace(" per_device_train_batch_size: 4,", "") + "global_batch_size: 16\n"
    code, _, err = nutshell("show", write(text))
    assert code == 2 and "pairs.yaml: global_batch_size: 16 does not divide among 3 processes" in err
    assert "15 and 18" in err
