"""A complete run keeps its model and no checkpoints, unless it is to keep them."""

import pytest

from nutshell.machine import checkpoints
from nutshell.runs.trainer.classifier import ClassifierTrainer
from tests.conftest import SMALL_YAML, TEXT_YAML

SAVING = "max_steps: 2, save_strategy: steps, save_steps: 1,"


def left(seed) -> list[str]:
    return sorted(path.name for path in seed.iterdir() if "checkpoint" in path.name)


@pytest.fixture
def seed(tmp_path):
    return tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"


@pytest.mark.parametrize("text", [SMALL_YAML, TEXT_YAML])
def test_a_complete_run_keeps_no_checkpoints(text, write, nutshell, seed):
    file = write(text.replace("max_steps: 2,", SAVING))
    assert nutshell("run", file)[0] == 0
    assert not left(seed) and (seed / "trainer_state.json").exists() and (seed / "model/model.safetensors").exists()
    assert nutshell("report", seed, "--output", seed.parent / "report.html")[0] == 0
    assert "lacking" not in (seed.parent / "report.html").read_text(encoding="utf-8")


def test_they_are_kept_on_request(write, nutshell, seed):
    file = write(SMALL_YAML.replace("max_steps: 2,", SAVING))
    assert nutshell("run", file, "keep_checkpoints=true")[0] == 0
    assert left(seed) == ["checkpoint-1", "checkpoint-2"]
    assert nutshell("run", file, "keep_checkpoints=true")[0] == 0 and left(seed)
    code, _, err = nutshell("run", file)  # not another experiment
    assert code == 0 and "complete, nothing to run" in err and not left(seed)


def test_a_kill_between_figures_and_tidying_is_made_up_for(write, nutshell, seed, monkeypatch):
    file = write(SMALL_YAML.replace("max_steps: 2,", SAVING))

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "discard", killed)
    assert nutshell("run", file)[0] == 130 and (seed / "metrics.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(seed.parent)
    (seed / "checkpoint-1").rename(seed / ".checkpoint-1.removed")  # killed while removing it
    assert left(seed) == [".checkpoint-1.removed", "checkpoint-2"]
    assert nutshell("run", file)[0] == 0 and not left(seed)


def test_an_incomplete_run_keeps_them(write, nutshell, seed, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no figures")

    monkeypatch.setattr(ClassifierTrainer, "predict", fail)
    with pytest.raises(RuntimeError, match="no figures"):
        nutshell("run", write(SMALL_YAML.replace("max_steps: 2,", SAVING)))
    assert left(seed) == ["checkpoint-1", "checkpoint-2"]
