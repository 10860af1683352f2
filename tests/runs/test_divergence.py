"""A run that diverges stops at that step, and what it had logged can be read."""

import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nutshell.machine import checkpoints
from nutshell.machine.errors import UserError
from nutshell.report.results import runs as results
from nutshell.runs.trainer.classifier import ClassifierTrainer
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.language import LanguageModelTrainer
from tests.conftest import ROOT, SMALL_YAML, TEXT_YAML

STEPS = "max_steps: 12, learning_rate: 1e-3, logging_steps: 1, save_strategy: steps, save_steps: 2,"
LABELS, TEXTS = (text.replace("max_steps: 2,", STEPS) for text in (SMALL_YAML, TEXT_YAML))
# In one of two processes, from the sixth batch on, the loss is infinite and the gradient is zero.
ONE_OF_TWO = """
import os, sys, torch
from nutshell.cli.main import main
from nutshell.runs.trainer.classifier import ClassifierTrainer
stock, batches = ClassifierTrainer.loss, [0]
def loss(self, outputs, labels, num_items_in_batch=None):
    batches[0] += 1
    value = stock(self, outputs, labels, num_items_in_batch)
    broken = os.environ["RANK"] == sys.argv[1] and batches[0] >= 6
    return value * 0 + torch.tensor(float("inf")) if broken else value
ClassifierTrainer.loss = loss
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def seed(tmp_path):
    return tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"


def break_step(trainer, step: int, monkeypatch, loss: float = 1.0, gradient: float = 0.0) -> None:
    """In a step's first batch the loss is multiplied by one number, and the other is added to a gradient."""
    stock = trainer.training_step

    def training_step(self, *args, **kwargs):
        value = stock(self, *args, **kwargs)
        if self.state.global_step == step - 1:
            value = value * loss
            next(p for p in self.model.parameters() if p.grad is not None).grad.view(-1)[0] += gradient
        return value

    monkeypatch.setattr(trainer, "training_step", training_step)


@pytest.mark.parametrize("clipping", ["1.0", "0.0"])
@pytest.mark.parametrize(
    ("text", "trainer", "loss", "gradient", "reason"),
    [
        (LABELS, ClassifierTrainer, math.nan, 0.0, "the loss is nan"),
        (LABELS, ClassifierTrainer, 1.0, math.inf, "the norm of the gradient is inf"),
        (TEXTS, LanguageModelTrainer, math.inf, math.nan, "the loss is inf and the norm of the gradient is nan"),
    ],
)
def test_it_stops_at_the_first_step(
    clipping, text, trainer, loss, gradient, reason, write, nutshell, seed, monkeypatch
):
    break_step(trainer, 6, monkeypatch, loss, gradient)
    words = [f"training.max_grad_norm={clipping}", "training.gradient_accumulation_steps=2"]
    code, _, err = nutshell("run", write(text), *words)
    assert code == 2 and f"training diverged at step 6 of 12: {reason}. Try a lower training.learning_rate" in err
    assert "Traceback" not in err and "step 6/12" not in err
    assert not (seed / "metrics.json").exists() and not (seed / "checkpoint-6").exists()
    run = results.read(seed)
    assert run.state == "failed" and "diverged at step 6" in run.reason
    assert [entry["step"] for entry in run.history if "loss" in entry] == [1, 2, 3, 4, 5]
    assert json.loads((seed / "trainer_state.json").read_text())["global_step"] == 6


def test_a_learning_rate_that_is_far_too_high(write, nutshell, seed):
    code, _, err = nutshell("run", write(LABELS), "training.learning_rate=1e30", "training.warmup_steps=0")
    assert code == 2 and "training diverged at step 2 of 12: the loss is nan" in err
    page = seed.parent / "report.html"
    assert nutshell("report", seed, "--output", page)[0] == 0
    assert "training diverged at step 2" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_failed_run_s_log_spoils_no_resume(write, nutshell, seed, result, monkeypatch):
    assert nutshell("run", write(LABELS))[0] == 0
    whole = result(), (seed / "model/model.safetensors").read_bytes()
    shutil.rmtree(seed)
    break_step(ClassifierTrainer, 6, monkeypatch, math.nan)
    assert nutshell("run", write(LABELS))[0] == 2 and checkpoints.newest(seed).name == "checkpoint-4"
    monkeypatch.undo()
    monkeypatch.chdir(seed.parents[3])
    states = []

    def killed(self, *args, **kwargs):
        states.append((results.read(seed), (seed / "trainer_state.json").exists()))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierTrainer, "training_step", killed)
        code, _, err = nutshell("run", write(LABELS))
    assert code == 130 and "resumes from checkpoint-4" in err
    ((run, state_exists),) = states
    assert run.state == "unfinished" and not state_exists  # nothing is left of the attempt that failed
    assert [entry["step"] for entry in run.history if "loss" in entry] == [1, 2, 3, 4]  # the newest checkpoint's
    assert nutshell("run", write(LABELS))[0] == 0 and results.read(seed).state == "complete"
    assert result()["metrics"] == whole[0]["metrics"]
    assert (seed / "model/model.safetensors").read_bytes() == whole[1]


def test_other_failures_keep_the_log_too(write, nutshell, seed, monkeypatch):
    def predict(*_, **__):
        raise RuntimeError("no figures")

    monkeypatch.setattr(ClassifierTrainer, "predict", predict)
    with pytest.raises(RuntimeError, match="no figures"):
        nutshell("run", write(LABELS), "training.save_strategy='no'")
    run = results.read(seed)
    assert run.state == "failed" and [entry["step"] for entry in run.history if "loss" in entry] == [*range(1, 13)]


@pytest.mark.parametrize(
    ("scaler", "loss", "norm", "stops"),
    [(object(), 1.0, math.inf, False), (object(), math.inf, 1.0, True), (None, 1.0, math.inf, True)],
)
def test_in_fp16_a_gradient_may_overflow(scaler, loss, norm, stops):
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(scaler=scaler),
        args=SimpleNamespace(world_size=1, output_dir="out"),
        state=SimpleNamespace(global_step=3, max_steps=9),
    )
    words = (trainer, torch.tensor(loss), torch.tensor(norm))
    if not stops:
        return ExactTrainer.stop_if_diverged(*words)
    with pytest.raises(UserError, match="diverged at step 3 of 9"):
        ExactTrainer.stop_if_diverged(*words)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["0", "1"])
def test_two_processes_stop_at_the_same_step(broken, write, seed, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(ONE_OF_TWO)
    launch = ["-m", "accelerate.commands.launch", "--config_file", ROOT / "accelerate_config.yaml"]
    command = [sys.executable, *launch, "--num_processes", "2", script, broken, "run", write(LABELS)]
    command = [*map(str, command), "--output", str(tmp_path / "outputs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    own = "the loss is inf" if broken == "0" else "the loss of another process is not finite"
    assert done.returncode and f"training diverged at step 6 of 12: {own}" in done.stderr
    assert "Traceback" not in done.stderr.split("closing signal")[0]  # what follows is the launcher's
    run = results.read(seed)
    assert run.state == "failed" and [entry["step"] for entry in run.history if "loss" in entry] == [1, 2, 3, 4, 5]
