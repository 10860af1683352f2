"""Runs from start to end on tiny models: what is left behind, what is skipped, resumed, refused."""

import json
import os
import shutil

import numpy
import pytest
import torch
from filelock import FileLock
from ruamel.yaml import YAML

from nutshell.bits.figures import intervals, units
from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.machine import checkpoints
from nutshell.report.results.result import read_result
from nutshell.runs.trainer.classifier import ClassifierTrainer
from tests.conftest import PROMPTS_YAML, SMALL_YAML, TEXT_YAML
from tests.runs.conftest import figures

TRAINED = SMALL_YAML.replace(
    "max_steps: 2", "max_steps: 12, save_strategy: steps, save_steps: 4, train_sampling_strategy: group_by_length"
).replace("eval_strategy: epoch", "learning_rate: 1e-3, logging_steps: 1")
TRAINED += "keep_checkpoints: true\n"


def test_what_a_run_leaves_behind(write, nutshell, result, tmp_path):
    code, out, err = nutshell("run", write(SMALL_YAML), "reference={source: a table, part: test, accuracy: [0.9, 1]}")
    assert code == 0
    for words in ("accuracy", "f1", "label_bits", "95 % interval", "0.9 to 1", "below", "test part, used once"):
        assert words in out
    assert "step 2/2" in err and "{" not in err
    folder = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    assert {"metrics.json", "experiment.yaml", "units.parquet", "errors.jsonl", "trainer_state.json", "model"} <= {
        file.name for file in folder.iterdir()
    }
    outcome = result()
    held = YAML(typ="safe").load(folder / "experiment.yaml")
    assert held.pop("launch") == {"processes": 1, "mixed_precision": "no"}
    assert held.pop("command").startswith("nutshell run ")
    assert held.pop("read") == outcome["read"] and set(outcome["read"]) == {"model", "data"}
    assert held == outcome["experiment"]
    assert outcome["evaluated_on"]["part"] == "test" and not outcome["evaluated_on"]["chose"]
    assert outcome["training"]["steps"] == 2 and outcome["training"]["examples_per_second"] > 0
    provenance = outcome["provenance"]
    assert (
        provenance["processes"] == 1 and provenance["mixed_precision"] == "no" and provenance["peak_memory_bytes"] > 1e8
    )
    assert provenance["packages"]["transformers"] and provenance["wall_seconds"] > 0

    measured = units.read(folder)
    columns = measured.columns
    assert len(measured) == outcome["evaluated_on"]["count"] == 20 and outcome["evaluated_on"]["units"] == "examples"
    right = (columns["label"] == columns["predicted"]).mean()
    assert right == pytest.approx(outcome["metrics"]["accuracy"]["value"])
    assert numpy.sum(columns["probabilities"], axis=1) == pytest.approx(1)
    assert sum(map(sum, outcome["matrix"]["counts"])) == 20
    assert read_result(folder).model_dump(mode="json") == outcome


def test_units_are_in_the_data_s_order(small, write, nutshell, tmp_path):
    nutshell("run", write(TRAINED))  # with grouping, which in stock Trainer shuffles predictions
    columns = units.read(tmp_path / "outputs" / "finetune" / "pairs" / "seed-13").columns
    part = labelled.load(LabelledData(name="sample_pairs", path=str(small))).test
    assert columns["label"].tolist() == part.labels
    errors = (tmp_path / "outputs/finetune/pairs/seed-13/errors.jsonl").read_text().splitlines()
    for row in map(json.loads, errors):
        assert tuple(row["texts"]) == part.texts[row["index"]] and columns["nats"][row["index"]] > 0


def test_the_same_seed_twice_is_the_same_to_the_last_digit(write, nutshell, result, tmp_path):
    file, outcomes = write(TRAINED), []
    for _ in range(2):
        assert nutshell("run", file, "--force")[0] == 0
        outcomes.append(figures(result()))
    assert outcomes[0] == outcomes[1]


def test_the_evaluation_batch_does_not_matter(write, nutshell, result):
    outcomes = []
    for size in (1, 64):
        assert nutshell("run", write(TRAINED), f"training.per_device_eval_batch_size={size}", "--force")[0] == 0
        outcomes.append(result())
    assert outcomes[0]["matrix"] == outcomes[1]["matrix"]
    for name, entry in outcomes[0]["metrics"].items():
        assert entry["value"] == pytest.approx(outcomes[1]["metrics"][name]["value"], rel=1e-6)


def test_accumulation_gives_the_same_training(write, nutshell, tmp_path):
    """8 x 1 and 2 x 4 with length grouping: the same examples in the same steps, so the same losses and gradients."""
    curves = []
    for batch, accumulation in ((8, 1), (2, 4)):
        words = [
            f"training.per_device_train_batch_size={batch}",
            f"training.gradient_accumulation_steps={accumulation}",
        ]
        assert nutshell("run", write(TRAINED), *words, "model.dropout=0", "--force")[0] == 0
        state = json.loads((tmp_path / "outputs/finetune/pairs/seed-13/trainer_state.json").read_text())
        curves.append([(entry["loss"], entry["grad_norm"]) for entry in state["log_history"] if "loss" in entry])
    assert len(curves[0]) == 12
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_finished_seeds_are_not_run_again(write, nutshell, tmp_path):
    file = write(SMALL_YAML)
    nutshell("run", file)
    metrics = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13" / "metrics.json"
    before = metrics.stat().st_mtime_ns
    code, out, err = nutshell("run", file)
    assert code == 0 and "complete, nothing to run" in err and "accuracy" in out
    assert metrics.stat().st_mtime_ns == before
    assert nutshell("run", file, "--force")[0] == 0 and metrics.stat().st_mtime_ns > before


def test_another_experiment_is_refused_with_the_keys(write, nutshell, tmp_path):
    nutshell("run", write(SMALL_YAML))
    code, _, err = nutshell("run", write(SMALL_YAML), "training.learning_rate=1e-3", "data.max_tokens=32")
    assert (
        code == 2
        and "data.max_tokens: 64 there, 32 here; training.learning_rate: not stated there, 0.001 here. " in err
        and "--force" in err
    )
    assert (
        nutshell("run", write(SMALL_YAML), "reference={source: x, part: test, f1: [0, 1]}")[0] == 0
    )  # a band is no part of it
    assert nutshell("run", write(SMALL_YAML), "training.learning_rate=1e-3", "--force")[0] == 0


def test_a_fault_in_the_data_leaves_no_run_behind(write, nutshell, tmp_path):
    (tmp_path / "train.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": 7}\n')
    assert nutshell("run", write(SMALL_YAML), f"data.path={tmp_path}")[0] == 2
    assert not list((tmp_path / "outputs").rglob("*.yaml"))
    assert nutshell("run", write(SMALL_YAML))[0] == 0


def test_not_twice_at_once(write, nutshell, tmp_path):
    home = tmp_path / "outputs" / "finetune" / "pairs"
    home.mkdir(parents=True)
    with FileLock(home / ".seed-13.lock"):
        code, _, err = nutshell("run", write(SMALL_YAML))
    assert code == 2 and "another process is running in it" in err


def test_seeds_and_summary(write, nutshell, result, tmp_path):
    code, out, _ = nutshell("run", write(TRAINED), "--seed", 1, "--seed", 2, "--seed", 3)
    assert code == 0 and "over seeds" in out and "±" in out
    summary = json.loads((tmp_path / "outputs" / "finetune" / "pairs" / "summary.json").read_text())
    values = [result(seed=seed)["metrics"]["label_bits"]["value"] for seed in (1, 2, 3)]
    assert summary["seeds"] == [1, 2, 3] and len(set(values)) == 3
    entry = summary["metrics"]["label_bits"]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert entry["mean"] == pytest.approx(mean) and entry["standard_deviation"] == pytest.approx(deviation)
    half = 4.302653 * deviation / 3**0.5  # Student's t, 2 degrees of freedom, 97.5 %: over seeds alone
    low, high = entry["interval_95"]
    assert low < mean - half and mean + half < high and entry["over"] == "seeds and examples"
    measured = [units.read(tmp_path / f"outputs/finetune/pairs/seed-{seed}") for seed in (1, 2, 3)]
    metric = next(metric for metric in measured[0].metrics if metric.name == "label_bits")
    columns = [metric.select(one.columns) for one in measured]
    assert (low, high) == pytest.approx(intervals.over_seeds_and_units(columns, metric.statistic))
    nutshell("run", write(TRAINED), "--seed", 4)
    summary = json.loads((tmp_path / "outputs" / "finetune" / "pairs" / "summary.json").read_text())
    assert summary["seeds"] == [1, 2, 3, 4]


class Stopped(Exception):
    pass


def stop_at(step: int, monkeypatch):
    """Training ends without a word before a step, as when its process is killed."""
    stock = ClassifierTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == step:
            raise Stopped
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(ClassifierTrainer, "training_step", training_step)


@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(torn, write, nutshell, result, tmp_path, monkeypatch):
    file = write(TRAINED)
    nutshell("run", file)
    whole, seed = result(), tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    weights = (seed / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(seed)

    stop_at(10, monkeypatch)
    with pytest.raises(Stopped):
        nutshell("run", file)
    monkeypatch.undo()
    assert not (seed / "metrics.json").exists()
    if torn:
        newest = seed / "checkpoint-8"
        state = newest / "trainer_state.json"
        state.unlink()
    code, _, err = nutshell("run", file)
    assert code == 0 and f"resumes from checkpoint-{4 if torn else 8}" in err
    assert ("checkpoint-8: files are missing or cut short" in err) == torn
    assert figures(result()) == figures(whole)
    assert (seed / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("best", [False, True])
def test_killed_in_the_final_evaluation(best, write, nutshell, result, tmp_path, monkeypatch):
    """Nothing is left to train; the weights that are measured are the last, or the best, checkpoint's."""
    words = ["training.load_best_model_at_end=true", "training.metric_for_best_model=label_bits"]
    words += ["training.greater_is_better=false", "training.eval_strategy=steps", "training.eval_steps=4"]
    command = ["run", write(TRAINED), *(words if best else [])]
    nutshell(*command)
    whole, seed = result(), tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    weights = (seed / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(seed)

    def predict(*_):
        raise Stopped

    monkeypatch.setattr(ClassifierTrainer, "predict", predict)
    with pytest.raises(Stopped):
        nutshell(*command)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert nutshell(*command)[0] == 0
    assert figures(result()) == figures(whole) and result()["training"]["steps"] == 12
    assert result()["training"]["best_checkpoint"] == whole["training"]["best_checkpoint"]
    assert (seed / "model" / "model.safetensors").read_bytes() == weights


def test_a_run_resumes_only_as_it_was_launched(write, nutshell, monkeypatch):
    stop_at(10, monkeypatch)
    with pytest.raises(Stopped):
        nutshell("run", write(TRAINED))
    monkeypatch.undo()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    code, _, err = nutshell("run", write(TRAINED))
    assert code == 2 and "was begun with 1 process in fp32, this launch has 1 process in bf16: launch it alike" in err


def test_held_out_of_mrpc_its_own_validation_part_is_named(write, nutshell, result, tmp_path):
    for part, rows in (("train", 12), ("dev", 4)):
        lines = [{"sentence1": f"{part} {n}", "sentence2": "Other words.", "label": n % 2} for n in range(rows)]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["data.name=mrpc", f"data.path={tmp_path}", "data.validation_examples=4"]
    assert nutshell("run", write(SMALL_YAML), *words)[0] == 0
    about = result()["evaluated_on"]
    assert about["part"] == "validation" and about["count"] == 4 and not about["chose"]
    assert about["text"] == "4 examples of the validation part, used once, after training"
    assert result()["validation"].keys() == result()["metrics"].keys()


def test_a_validation_part_that_is_reported_is_no_second_figure(write, nutshell, result, tmp_path):
    """The best of a group would be chosen by the figure that is reported, and called chosen without it."""
    for part, rows in (("train", 12), ("dev", 4)):
        lines = [{"sentence1": f"{part} {n}", "sentence2": "Other words.", "label": n % 2} for n in range(rows)]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert nutshell("run", write(SMALL_YAML), "data.name=mrpc", f"data.path={tmp_path}")[0] == 0
    assert result()["evaluated_on"]["part"] == "validation" and result()["validation"] is None


def test_which_checkpoints_are_whole(write, nutshell, tmp_path):
    nutshell("run", write(TRAINED))
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    whole = checkpoints.newest(seed)
    assert whole.name == "checkpoint-12" and all(map(checkpoints.is_whole, checkpoints.all_of(seed)))
    names = {file.name for file in whole.iterdir()}
    assert names > {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    for name in names:
        copy = shutil.copytree(whole, tmp_path / "copies" / name / "checkpoint-12")
        os.truncate(copy / name, (copy / name).stat().st_size - 1)
        assert not checkpoints.is_whole(copy) or name == "checkpoint.json", name
        (copy / name).unlink()
        assert not checkpoints.is_whole(copy), name


def test_the_newest_and_the_best_are_kept(tmp_path):
    for best, limit, kept in [(20, 1, [20, 100]), (100, 1, [100]), (20, 3, [20, 90, 100]), (None, 2, [90, 100])]:
        folder = tmp_path / f"{best}-{limit}"
        for step in range(10, 110, 10):
            (folder / f"checkpoint-{step}").mkdir(parents=True)
        checkpoints.rotate(folder, limit, best and str(folder / f"checkpoint-{best}"))
        assert sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.iterdir()) == kept


def test_the_best_epoch_is_kept(write, nutshell, result):
    text = SMALL_YAML.replace(
        "max_steps: 2",
        "max_steps: 6, save_strategy: steps, save_steps: 2, eval_steps: 2, load_best_model_at_end: true, "
        "metric_for_best_model: label_bits, greater_is_better: false, learning_rate: 1e-2",
    ).replace("eval_strategy: epoch", "eval_strategy: steps")
    assert nutshell("run", write(text))[0] == 0
    assert result()["training"]["best_checkpoint"] in {"checkpoint-2", "checkpoint-4", "checkpoint-6"}
    assert result()["evaluated_on"]["text"].endswith("used once, after training")


def test_frozen_layers_do_not_move(tiny, write, nutshell, result, tmp_path):
    from safetensors.torch import load_file

    assert nutshell("run", write(TRAINED), "model.trainable=last_1")[0] == 0
    after = load_file(tmp_path / "outputs/finetune/pairs/seed-13/model/model.safetensors")
    before = load_file(tiny / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[f"bert.{name}"])}
    assert moved and all(name.startswith(("encoder.layer.1.", "pooler.")) for name in moved)
    trained = sum(
        tensor.numel()
        for name, tensor in after.items()
        if ".layer.1." in name or (".layer." not in name and "embeddings" not in name)
    )
    assert result()["parameters"]["trained"] == trained < result()["parameters"]["all"]


@pytest.mark.parametrize("changed", ["model", "data", "prompts"])
def test_what_a_path_names_is_part_of_the_experiment(changed, causal, stories, write, nutshell, tmp_path):
    folders = {"model": tmp_path / "model", "data": tmp_path / "texts", "prompts": tmp_path / "prompts"}
    shutil.copytree(causal["gpt2"], folders["model"])
    shutil.copytree(stories, folders["data"])
    folders["prompts"].mkdir()
    (folders["prompts"] / "some.txt").write_text("One\n")
    text = TEXT_YAML if changed == "data" else PROMPTS_YAML.replace("prompts: [", "prompts: FILE # [")
    text = text.replace("CAUSAL", str(folders["model"])).replace("STORIES", str(folders["data"]))
    file = write(text.replace("FILE", str(folders["prompts"] / "some.txt")))
    assert nutshell("run", file)[0] == 0 and nutshell("run", file)[0] == 0
    touched = folders[changed] / {"model": "config.json", "data": "00.txt", "prompts": "some.txt"}[changed]
    touched.write_text(touched.read_text() + "\n")
    code, _, err = nutshell("run", file)
    assert code == 2 and f"holds another experiment; the {changed} files have changed since" in err
    shutil.rmtree(folders[changed])  # its results stay
    code, _, err = nutshell("run", file)
    assert code == 0, err
