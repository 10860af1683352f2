"""Runs that are told to end: the same command resumes, and they end as if nothing had been."""

import json
import os
import shutil
import signal

import pytest

from nutshell.cli.main import main
from nutshell.machine import checkpoints, interruption
from nutshell.machine.files import read_lines
from nutshell.runs.trainer.classifier import ClassifierTrainer
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.language import LanguageModelTrainer
from tests.conftest import TEXT_YAML
from tests.runs.conftest import BEST, EPOCHS, NEVER, SLOW, STEPS, figures, history, weights


def terminate_at(moment: str, monkeypatch, trainer=ClassifierTrainer) -> None:
    """A SIGTERM comes to this process at the named moment, once."""
    place, _, number = moment.partition(" ")
    counted = {"left": int(number)}
    names = {
        "step": "training_step",
        "save": "_save_checkpoint",
        "batch": "prediction_step",
        "load": "create_optimizer",
    }
    stock = getattr(trainer, names[place])

    def then(self, *args, **kwargs):
        counted["left"] -= 1
        if counted["left"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(trainer, names[place], then)


@pytest.mark.parametrize(
    ("text", "moment", "left"),
    [
        (EPOCHS, "step 5", "checkpoint-5"),  # in the middle of an epoch
        (EPOCHS, "step 12", "checkpoint-12"),  # its evaluation and saving are then still made
        pytest.param(EPOCHS, "step 18", "checkpoint-18", marks=SLOW),  # the last
        pytest.param(EPOCHS, "batch 1", "checkpoint-12", marks=SLOW),  # in the evaluation after an epoch
        pytest.param(EPOCHS, "batch 3", "checkpoint-18", marks=SLOW),  # in the final pass
        pytest.param(EPOCHS, "save 1", "checkpoint-12", marks=SLOW),
        pytest.param(BEST, "batch 1", "checkpoint-12", marks=SLOW),
        pytest.param(BEST, "batch 3", "checkpoint-12", marks=SLOW),
        (BEST, "batch 5", "checkpoint-18"),  # in the evaluation after the last step, which chooses
        pytest.param(
            BEST, "batch 8", "checkpoint-18", marks=SLOW
        ),  # in the final pass, with another checkpoint's weights
        pytest.param(NEVER, "step 7", "checkpoint-7", marks=SLOW),
        (NEVER, "batch 3", "checkpoint-18"),
    ],
)
def test_sigterm_saves_and_the_same_command_resumes(text, moment, left, write, nutshell, result, tmp_path, monkeypatch):
    file = write(text)
    assert nutshell("run", file)[0] == 0
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    whole, trained, log = result(), weights(seed), history(seed)
    kept = {path.name for path in checkpoints.all_of(seed)}
    shutil.rmtree(seed)

    terminate_at(moment, monkeypatch)
    code, _, err = nutshell("run", file)
    assert code == 143 and "ended by SIGTERM; the same command resumes from the newest checkpoint" in err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert not (seed / "metrics.json").exists() and checkpoints.newest(seed).name == left
    code, _, err = nutshell("run", file)
    assert code == 0 and f"resumes from {left}" in err
    assert figures(result()) == figures(whole)
    assert result()["training"]["best_checkpoint"] == whole["training"]["best_checkpoint"]
    assert weights(seed) == trained
    assert history(seed) == log
    assert {path.name for path in checkpoints.all_of(seed)} - {left} <= kept


@pytest.mark.parametrize(
    ("moment", "left"),
    [pytest.param("step 2", 2, marks=SLOW), ("batch 1", 3), pytest.param("batch 4", 6, marks=SLOW), ("batch 5", 8)],
)
def test_a_language_model_resumes_with_its_samples(moment, left, run, write, nutshell, tmp_path, monkeypatch):
    text = TEXT_YAML.replace("max_steps: 2", "max_steps: 8, learning_rate: 1e-2, logging_steps: 1, save_strategy: 'no'")
    text = text.replace("eval_strategy: epoch", "eval_strategy: steps, eval_steps: 3")
    text += "samples: [Once, The cat]\ngeneration: {max_new_tokens: 4}\n"
    whole = run(text, "whole")
    terminate_at(moment, monkeypatch, LanguageModelTrainer)
    assert nutshell("run", write(text))[0] == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    assert checkpoints.newest(seed).name == f"checkpoint-{left}"
    assert nutshell("run", write(text))[0] == 0
    assert weights(seed) == weights(whole) and history(seed) == history(whole)
    assert read_lines(seed / "samples.jsonl") == read_lines(whole / "samples.jsonl")
    results = [json.loads((folder / "metrics.json").read_text()) for folder in (seed, whole)]
    assert figures(results[0]) == figures(results[1])


def test_sigterm_before_training_ends_at_once(write, nutshell, tmp_path, monkeypatch):
    monkeypatch.setattr("nutshell.data.labelled.load", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert nutshell("run", write(STEPS))[0] == 143
    assert not (tmp_path / "outputs" / "finetune" / "pairs" / "seed-13").exists()
    assert signal.getsignal(signal.SIGTERM) == before and not interruption.requested()  # it was for that run alone


def test_sigterm_before_the_first_step(write, nutshell, tmp_path, monkeypatch):
    terminate_at("load 1", monkeypatch)
    assert nutshell("run", write(STEPS))[0] == 143
    assert [path.name for path in (tmp_path / "outputs/finetune/pairs/seed-13").glob("checkpoint*")] == ["checkpoint-1"]


@pytest.mark.parametrize("moment", [pytest.param("step 3", marks=SLOW), "batch 4"])
def test_the_last_weights_are_measured_unless_the_best_are_requested(
    moment, run, write, nutshell, tmp_path, monkeypatch
):
    """A metric for the best is stated, but not load_best_model_at_end; the first evaluation is before the first step."""
    text = BEST.replace("load_best_model_at_end: true", "eval_on_start: true")
    whole = run(text, "whole")
    terminate_at(moment, monkeypatch)
    assert nutshell("run", write(text))[0] == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert nutshell("run", write(text))[0] == 0
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    assert weights(seed) == weights(whole) and history(seed) == history(whole)


@SLOW
def test_a_run_that_was_moved_has_its_best_checkpoint(run, write, nutshell, tmp_path, monkeypatch):
    whole = run(BEST, "whole")
    terminate_at("step 14", monkeypatch)
    assert nutshell("run", write(BEST))[0] == 143
    monkeypatch.undo()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "outputs").rename(elsewhere / "outputs")
    assert main(["run", str(write(BEST)), "--output", str(elsewhere / "outputs")]) == 0
    assert weights(elsewhere / "outputs" / "finetune" / "pairs" / "seed-13") == weights(whole)


def test_a_kill_while_a_checkpoint_is_replaced_loses_neither(run):
    seed = run(EPOCHS, "whole")
    names = [path.name for path in checkpoints.all_of(seed)]
    newest = seed / names[-1]
    newest.rename(newest.with_name(f".{newest.name}.removed"))
    (seed / ".checkpoint-partial" / newest.name).mkdir(parents=True)
    checkpoints.clear(seed)
    assert [path.name for path in checkpoints.all_of(seed)] == names and not list(seed.glob(".checkpoint*"))


def test_sigterm_between_seeds(write, nutshell, tmp_path, monkeypatch):
    """The seed that is almost done is finished, the next is not begun."""
    terminate_at("save 2", monkeypatch)
    file = write(EPOCHS.replace("[13]", "[13, 14]"))
    stock = ExactTrainer.stop_if_requested
    monkeypatch.setattr(
        ExactTrainer, "stop_if_requested", lambda self: None if self.state.global_step == 18 else stock(self)
    )
    assert nutshell("run", file)[0] == 143
    seeds = tmp_path / "outputs" / "finetune" / "pairs"
    assert (seeds / "seed-13" / "metrics.json").exists() and not (seeds / "seed-14").exists()
