"""What a run prints while it works, where there is no terminal."""

import time
from types import SimpleNamespace

import pytest

from nutshell.machine import progress
from nutshell.runs.generation.texts import GenerateTrainer
from nutshell.runs.trainer.classifier import ClassifierTrainer
from nutshell.runs.trainer.progress import PlainProgress
from tests.conftest import PROMPTS_YAML, SMALL_YAML, TEXT_YAML


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still, and the lines that were printed."""
    clock = SimpleNamespace(now=1000.0, lines=[])
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(progress.logger, "info", lambda words, *parts: clock.lines.append(words % parts))
    yield clock
    progress.follow(None)


def wait(clock, seconds: int) -> list[str]:
    """The lines of so many seconds, with a beat in each."""
    before = len(clock.lines)
    for _ in range(seconds):
        clock.now += 1
        progress.beat()
    return clock.lines[before:]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations(seconds, words):
    assert progress.duration(seconds) == words


def test_rates():
    assert progress.pace(30, 90, 10.0, "step") == "3 steps/s, 20 s left"
    assert progress.pace(4, 100, 10.0, "step") == "2.5 s/step, 4 min 0 s left"
    assert progress.pace(0, 100, 10.0, "step") == "10 s so far"
    assert progress.pace(8, 8, 4.0, "batch") == "2 batches/s, 0 s left"


def test_a_stage_is_named_when_it_begins_and_while_it_lasts(clock):
    progress.stage("tokenizing")
    assert not clock.lines  # not outside of a run
    with progress.beating():
        progress.stage("tokenizing")
        assert clock.lines == ["tokenizing ..."]
        assert wait(clock, 28) == []
        assert wait(clock, 88) == [
            f"still tokenizing, since {words}" for words in ("29 s", "58 s", "1 min 27 s", "1 min 56 s")
        ]


def test_training_is_never_silent_for_longer_than_half_a_minute(clock):
    plain, state = PlainProgress(), SimpleNamespace(global_step=4, max_steps=10, epoch=0.4)
    args = SimpleNamespace(per_device_train_batch_size=4, gradient_accumulation_steps=2, world_size=2)
    plain.on_train_begin(args, state, None)
    assert clock.lines.pop() == "training: steps 5 to 10, each of 16 examples"
    assert wait(clock, 30) == ["step 4/10  29 s so far"]
    state.global_step, state.epoch = 5, 0.5
    plain.on_step_end(args, state, None)
    assert wait(clock, 28) == ["step 5/10  30 s/step, 2 min 30 s left"]
    plain.on_log(args, state, None, {"loss": 0.5, "eval_samples_per_second": 3.0, "epoch": 0.5, "step": 5})
    assert clock.lines.pop() == "step 5/10  epoch 0.50  loss 0.5  30 s/step, 2 min 30 s left"
    for _ in range(3):
        clock.now += 8
        plain.on_prediction_step(args, state, None, eval_dataloader=range(7))
    assert wait(clock, 5) == ["evaluating: batch 3/7  8 s/batch, 32 s left"]
    plain.on_log(args, state, None, {"eval_loss": 0.25})
    plain.on_evaluate(args, state, None)
    assert clock.lines.pop() == "step 5/10  epoch 0.50  eval_loss 0.25"
    assert wait(clock, 29) == ["step 5/10  30 s/step, 2 min 30 s left"]


def test_generating_says_so(clock):
    progress.say("generating 4 continuations ...")
    plain = PlainProgress("generating")
    for _ in range(2):
        clock.now += 10
        plain.on_prediction_step(None, None, None, eval_dataloader=range(4))
    assert wait(clock, 9) == ["generating: batch 2/4  10 s/batch, 20 s left"]


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        (
            SMALL_YAML,
            "reading sample_pairs, tokenizing, loading the weights of, training: 2 steps, each of 4 examples, measuring the test part, computing",
        ),
        (
            TEXT_YAML,
            "reading text, tokenizing, loading the model, training: 2 steps, measuring the test part, computing",
        ),
        (PROMPTS_YAML, "loading the weights of, generating 4 continuations"),
    ],
)
def test_the_stages_of_a_run(text, stages, write, nutshell):
    file = write(text)
    assert "..." not in nutshell("show", file)[2]
    code, _, err = nutshell("run", file)
    places = [err.find(stage) for stage in ["loading PyTorch", *stages.split(", ")] if stage != "each of 4 examples"]
    assert code == 0 and -1 not in places and places == sorted(places), err


@pytest.mark.parametrize(
    ("text", "trainer", "step", "words"),
    [
        pytest.param(SMALL_YAML, ClassifierTrainer, "training_step", "step 0/2  ", marks=pytest.mark.slow),
        (PROMPTS_YAML, GenerateTrainer, "prediction_step", "still generating 4 continuations, since "),
    ],
)
def test_a_batch_that_takes_long(text, trainer, step, words, write, nutshell, monkeypatch):
    """Nothing calls back within it: another thread speaks."""
    stock = getattr(trainer, step)

    def slow(self, *args, **kwargs):
        time.sleep(2.5)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(progress, "QUIET_SECONDS", 1.0)
    monkeypatch.setattr(trainer, step, slow)
    code, _, err = nutshell("run", write(text))
    assert code == 0 and words in err, err
