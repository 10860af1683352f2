"""Runs that are told to end, that cannot write, or whose batches are split: they end as if nothing had been."""

import json
import os
import resource
import shutil
import signal

import pytest
import torch

from nutshell import cli
from nutshell.machine import checkpoints, interruption, launch
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_lines
from nutshell.run import runner
from nutshell.run.order import GHOST, Evened, LengthGroupedSampler, WithGhosts
from nutshell.run.trainer import ExactTrainer
from nutshell.tasks.classify import ClassifyTrainer
from nutshell.tasks.language_model import LanguageModelTrainer
from tests.conftest import SMALL_YAML, TEXT_YAML

SLOW = pytest.mark.slow  # the same paths, other moments
STEPS = SMALL_YAML.replace(
    "max_steps: 2", "max_steps: 18, learning_rate: 1e-3, logging_steps: 1, train_sampling_strategy: group_by_length"
)  # 48 examples, 12 steps an epoch
EPOCHS = STEPS.replace("eval_strategy: epoch", "eval_strategy: epoch, save_strategy: epoch, save_total_limit: 2")
BEST = EPOCHS.replace(
    "save_total_limit: 2",
    "save_total_limit: 1, load_best_model_at_end: true, metric_for_best_model: label_bits, greater_is_better: false",
).replace("per_device_eval_batch_size: 64", "per_device_eval_batch_size: 4")
NEVER = STEPS.replace("eval_strategy: epoch", "eval_strategy: epoch, save_strategy: 'no'")


@pytest.fixture(autouse=True)
def quiet():
    """Puts back what a run sets for its own process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    interruption.training(False)


@pytest.fixture
def run(write, nutshell, tmp_path):
    """Runs an experiment to its end in a folder of its own; the seed's folder."""

    def _run(text: str, name: str, *words):
        assert nutshell("run", write(text), *words)[0] == 0
        (tmp_path / "outputs").rename(tmp_path / name)
        return tmp_path / name / "finetune" / "pairs" / "seed-13"

    return _run


def weights(seed) -> bytes:
    return (seed / "model" / "model.safetensors").read_bytes()


def terminate_at(moment: str, monkeypatch, trainer=ClassifyTrainer) -> None:
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


def history(seed) -> list:
    """The log, but for times and for the entry that ends a launch."""
    entries = json.loads((seed / "trainer_state.json").read_text())["log_history"]
    return [
        {key: value for key, value in entry.items() if not key.endswith(("_runtime", "_per_second", "_time"))}
        for entry in entries
        if "train_runtime" not in entry
    ]


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
def test_sigterm_saves_and_the_same_command_goes_on(text, moment, left, write, nutshell, result, tmp_path, monkeypatch):
    file = write(text)
    assert nutshell("run", file)[0] == 0
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    whole, trained, log = result(), weights(seed), history(seed)
    kept = {path.name for path in checkpoints.found(seed)}
    shutil.rmtree(seed)

    terminate_at(moment, monkeypatch)
    code, _, err = nutshell("run", file)
    assert code == 143 and "ended by SIGTERM; the same command goes on" in err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert not (seed / "metrics.json").exists() and checkpoints.newest(seed).name == left
    code, _, err = nutshell("run", file)
    assert code == 0 and f"resuming from {left}" in err
    again = result()
    for key in ("metrics", "confusion_matrix", "parameters", "evaluated_on"):
        assert again[key] == whole[key]
    assert again["training"]["best_checkpoint"] == whole["training"]["best_checkpoint"]
    assert weights(seed) == trained
    assert history(seed) == log
    assert {path.name for path in checkpoints.found(seed)} - {left} <= kept


@pytest.mark.parametrize(
    ("moment", "left"),
    [pytest.param("step 2", 2, marks=SLOW), ("batch 1", 3), pytest.param("batch 4", 6, marks=SLOW), ("batch 5", 8)],
)
def test_a_language_model_goes_on_with_its_samples(moment, left, run, write, nutshell, tmp_path, monkeypatch):
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
    figures = [json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (seed, whole)]
    assert figures[0] == figures[1]


def test_sigterm_before_training_ends_at_once(write, nutshell, tmp_path, monkeypatch):
    monkeypatch.setattr("nutshell.data.labelled.load", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert nutshell("run", write(STEPS))[0] == 143
    assert not (tmp_path / "outputs" / "finetune" / "pairs" / "seed-13").exists()


def test_sigterm_before_the_first_step(write, nutshell, tmp_path, monkeypatch):
    terminate_at("load 1", monkeypatch)
    assert nutshell("run", write(STEPS))[0] == 143
    assert [path.name for path in (tmp_path / "outputs/finetune/pairs/seed-13").glob("checkpoint*")] == ["checkpoint-1"]


@pytest.mark.parametrize("moment", [pytest.param("step 3", marks=SLOW), "batch 4"])
def test_the_last_weights_are_measured_unless_the_best_are_wanted(moment, run, write, nutshell, tmp_path, monkeypatch):
    """A metric for the best is stated, but not load_best_model_at_end; an evaluation stands before the first step."""
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
def test_a_run_that_was_moved_finds_its_best(run, write, nutshell, tmp_path, monkeypatch):
    whole = run(BEST, "whole")
    terminate_at("step 14", monkeypatch)
    assert nutshell("run", write(BEST))[0] == 143
    monkeypatch.undo()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "outputs").rename(elsewhere / "outputs")
    assert cli.main(["run", str(write(BEST)), "--output", str(elsewhere / "outputs")]) == 0
    assert weights(elsewhere / "outputs" / "finetune" / "pairs" / "seed-13") == weights(whole)


def test_a_kill_while_a_checkpoint_is_replaced_loses_neither(run):
    seed = run(EPOCHS, "whole")
    names = [path.name for path in checkpoints.found(seed)]
    newest = seed / names[-1]
    newest.rename(checkpoints._hidden(newest))
    (seed / ".checkpoint-partial" / newest.name).mkdir(parents=True)
    checkpoints.clear(seed)
    assert [path.name for path in checkpoints.found(seed)] == names and not list(seed.glob(".checkpoint*"))


def test_several_gpus_under_plain_python(write, nutshell, monkeypatch):
    monkeypatch.setattr(runner.TrainingArguments, "n_gpu", property(lambda self: self._n_gpu or 4))
    code, _, err = nutshell("run", write(SMALL_YAML))
    assert code == 0 and "one of 4 GPUs is used; all: accelerate launch --num_processes 4" in err


def test_sigterm_between_seeds(write, nutshell, tmp_path, monkeypatch):
    """The seed that is almost done is finished, the next is not begun."""
    terminate_at("save 2", monkeypatch)
    file = write(EPOCHS.replace("[13]", "[13, 14]"))
    stock = ExactTrainer.end_if_asked
    monkeypatch.setattr(
        ExactTrainer, "end_if_asked", lambda self: None if self.state.global_step == 18 else stock(self)
    )
    assert nutshell("run", file)[0] == 143
    seeds = tmp_path / "outputs" / "finetune" / "pairs"
    assert (seeds / "seed-13" / "metrics.json").exists() and not (seeds / "seed-14").exists()


def test_evaluating_more_often_trains_the_same(run):
    often = ["training.eval_strategy=steps", "training.eval_steps=1"]
    assert weights(run(STEPS, "seldom")) == weights(run(STEPS, "often", *often))


def test_a_full_disk(run, write, nutshell, tmp_path):
    """The second checkpoint does not fit; the first is whole, nothing half-written is left, and the run goes on."""
    whole, file = run(EPOCHS, "whole"), write(EPOCHS)
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    stock = ClassifyTrainer._save_checkpoint
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save(self, *args):
        if self.state.global_step == 18:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # bytes a file may have
        try:
            return stock(self, *args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassifyTrainer, "_save_checkpoint", save)
        code, _, err = nutshell("run", file)
    assert code == 2 and "cannot be written: " in err and "make room" in err and "Traceback" not in err
    assert [path.name for path in seed.iterdir() if "checkpoint" in path.name] == ["checkpoint-12"]
    code, _, err = nutshell("run", file)
    assert code == 0 and "resuming from checkpoint-12" in err
    assert weights(seed) == weights(whole)


def test_a_full_disk_at_the_end(write, nutshell, monkeypatch, tmp_path):
    def write_json(file, content):
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr("nutshell.run.runner.write_json", write_json)
    code, _, err = nutshell("run", write(STEPS))
    assert code == 2 and "metrics.json: cannot be written: No space left on device" in err


def test_a_file_that_may_not_be_read_is_named(write, nutshell, monkeypatch):
    def load(*_, **__):
        raise PermissionError(13, "Permission denied", "/models/weights")

    monkeypatch.setattr("nutshell.models.classifier.load", load)
    code, _, err = nutshell("run", write(STEPS))
    assert code == 2 and "nutshell: /models/weights: cannot be used: Permission denied\n" in err


def test_other_faults_keep_their_traceback(write, nutshell, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(ClassifyTrainer, "training_step", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        nutshell("run", write(STEPS))


@pytest.mark.parametrize("batches", [(7, 2), pytest.param((4, 4), marks=SLOW), pytest.param((1, 14), marks=SLOW)])
def test_uneven_batches_of_a_step_weigh_by_their_examples(batches, run):
    """48 examples in steps of 14 or 16: the last step has 6 or all; its batches of 4 are 4 and 2."""
    curves = []
    for name, (size, accumulation) in (("whole", (batches[0] * batches[1], 1)), ("split", batches)):
        words = [f"training.per_device_train_batch_size={size}", f"training.gradient_accumulation_steps={accumulation}"]
        log = history(run(STEPS, name, *words, "model.dropout=0", "training.label_smoothing_factor=0.1"))
        curves.append([(entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry])
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, rel=2e-3)


def test_a_global_batch_is_what_its_parts_are(run):
    text = STEPS.replace(" per_device_train_batch_size: 4,", "") + "global_batch_size: 4\n"
    whole, parts = run(text, "whole"), run(STEPS, "parts")
    assert weights(whole) == weights(parts)
    trained = json.loads((whole / "metrics.json").read_text())["training"]
    assert [trained[key] for key in trained if "batch" in key or "accumulation" in key] == [4, 4, 1]


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
    found = launch.split(size, processes, tokens)
    assert found == expected and found[0] * found[1] * processes == size


@pytest.mark.parametrize(("size", "processes", "near"), [(16, 3, "15 and 18"), (2, 8, ": 8")])
def test_what_does_not_divide(size, processes, near):
    with pytest.raises(UserError, match=f"{size} does not divide among {processes} processes.*{near}$"):
        launch.split(size, processes, 128)


def test_what_does_not_divide_is_said_by_show(write, nutshell, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    text = STEPS.replace(" per_device_train_batch_size: 4,", "") + "global_batch_size: 16\n"
    code, _, err = nutshell("show", write(text))
    assert code == 2 and "pairs.yaml: global_batch_size: 16 does not divide among 3 processes" in err
    assert "15 and 18" in err


def test_processes_share_every_step_evenly():
    """Each process's batches, as accelerate hands them out: together the order itself, then ghosts."""
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    lengths = [5 + n % 40 for n in range(47)]
    order = Evened(LengthGroupedSampler(lengths, 16, 13), 8)
    order.set_epoch(3)
    shards = [list(BatchSamplerShard(BatchSampler(order, 4, False), 2, rank)) for rank in range(2)]
    together = [index for pair in zip(*shards, strict=True) for batch in pair for index in batch]
    alone = LengthGroupedSampler(lengths, 16, 13)
    alone.set_epoch(3)
    assert together == [*alone, GHOST] and len(order) == 48


def test_a_ghost_costs_nothing():
    examples = WithGhosts([{"labels": 1, "x": 7}], lambda row: {**row, "labels": -100})
    assert examples[GHOST] == {"labels": -100, "x": 7} and examples[0] == {"labels": 1, "x": 7} and len(examples) == 1
    logits, labels = torch.randn(3, 2, requires_grad=True), torch.tensor([1, -100, -100])
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    loss.backward()
    assert logits.grad[1:].abs().sum() == 0 and loss == -logits[0].log_softmax(-1)[1]
