"""A disk that is full, or a file that may not be read: a message, and nothing half-written is left."""

import errno
import resource
from pathlib import Path

import pytest

from nutshell.runs.trainer.classifier import ClassifierTrainer
from tests.runs.conftest import EPOCHS, STEPS, weights


@pytest.mark.slow  # the fast ones fill it at the end
def test_a_full_disk(run, write, nutshell, tmp_path):
    """The second checkpoint does not fit; the first is whole, nothing half-written is left, and the run resumes."""
    whole, file = run(EPOCHS, "whole"), write(EPOCHS)
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    stock = ClassifierTrainer._save_checkpoint
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save(self, *args):
        if self.state.global_step == 18:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # bytes a file may have
        try:
            return stock(self, *args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassifierTrainer, "_save_checkpoint", save)
        code, _, err = nutshell("run", file)
    assert code == 2 and "cannot be written: " in err and "make room" in err and "Traceback" not in err
    assert [path.name for path in seed.iterdir() if "checkpoint" in path.name] == ["checkpoint-12"]
    code, _, err = nutshell("run", file)
    assert code == 0 and "resumes from checkpoint-12" in err
    assert weights(seed) == weights(whole)


def test_a_full_disk_at_the_end(write, nutshell, monkeypatch):
    stock = Path.replace

    def replace(self, target):
        if Path(target).name == "metrics.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return stock(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    code, _, err = nutshell("run", write(STEPS))
    assert code == 2 and "metrics.json: cannot be written: No space left on device" in err


def test_a_file_that_may_not_be_read_is_named(write, nutshell, monkeypatch):
    def load(*_, **__):
        raise PermissionError(13, "Permission denied", "/models/weights")

    monkeypatch.setattr("nutshell.models.classifiers.wrapper.load", load)
    code, _, err = nutshell("run", write(STEPS))
    assert code == 2 and "nutshell: /models/weights: cannot be used: Permission denied\n" in err


def test_other_faults_keep_their_traceback(write, nutshell, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(ClassifierTrainer, "training_step", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        nutshell("run", write(STEPS))
