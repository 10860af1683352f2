"""What an outputs folder holds is read, whatever state it is in: whole, or not at all."""

import json
import re
from dataclasses import replace

import numpy
import pytest

from nutshell.bits.figures import units
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json
from nutshell.report.results import runs as results
from nutshell.report.results.result import read_result
from nutshell.report.results.runs import Run
from nutshell.report.results.summary import series
from tests.conftest import PAIRS_YAML, PROMPTS_YAML, SMALL_YAML, TEXT_YAML
from tests.report import runs


def states(folder) -> dict[int, str]:
    return {run.seed: run.state for run in results.find([folder])}


def only(folder) -> Run:
    """The one run in a folder."""
    (run,) = results.find([folder])
    return run


def test_a_run_is_read_back(write, nutshell, tmp_path):
    assert nutshell("run", write(SMALL_YAML.replace("[13]", "[13, 21]")))[0] == 0
    (tmp_path / "outputs/finetune/pairs/seed-3").mkdir()
    (one,) = series(results.find([tmp_path / "outputs"]))
    assert [run.seed for run in one.complete] == [13, 21] and one.label == "finetune/pairs"
    assert read_json(tmp_path / "outputs/finetune/pairs/summary.json") == one.summary.model_dump(mode="json")
    run = one.runs[0]
    assert not run.lacks and {entry["step"] for entry in run.history} == {2}
    assert read_json(run.folder / "metrics.json") == run.result.model_dump(mode="json")
    columns = run.units.columns
    wrong = numpy.flatnonzero(columns["label"] != columns["predicted"])
    confidence = numpy.stack(columns["probabilities"]).max(1)[wrong]
    errors = run.lines("errors.jsonl")
    assert [row["index"] for row in errors] == wrong[numpy.argsort(-confidence, kind="stable")].tolist()
    assert all(len(row["texts"]) == 2 for row in errors)
    lengths = run.result.histogram
    assert sum(lengths.counts) == 48 and lengths.limit == 64 and len(lengths.edges) == len(lengths.counts) + 1


def test_every_figure_follows_from_the_units(write, nutshell, tmp_path):
    """Value and interval in metrics.json are those that the file of units gives, to the last digit."""
    assert nutshell("run", write(SMALL_YAML))[0] == 0
    assert nutshell("run", write(TEXT_YAML, "language_model/stories.yaml"))[0] == 0
    runs = results.find([tmp_path / "outputs"])
    assert [run.units.figures() for run in runs] == [run.result.metrics for run in runs]


def test_what_was_cut_is_counted(write, nutshell, tmp_path):
    assert nutshell("run", write(SMALL_YAML.replace("max_tokens: 64", "max_tokens: 16")))[0] == 0
    lengths = only(tmp_path / "outputs").result.histogram
    cut, of = re.match(r"(\d+) of (\d+) training examples are cut", lengths.note).groups()
    assert 0 < int(cut) <= int(of) == 48 and lengths.edges[-1] > 16


def test_the_command_makes_the_same_again(write, nutshell, tmp_path):
    file = write(SMALL_YAML.replace("[13]", "[13, 21]"))
    assert nutshell("run", file, "training.max_steps=3", "--seeds", "7")[0] == 0
    run, output = only(tmp_path / "outputs"), tmp_path / "outputs"
    assert run.resolved["command"] == run.result.command
    assert run.result.command == f"nutshell run {file} training.max_steps=3 --seeds 7 --output {output}"
    assert nutshell(*run.result.command.split()[1:], "--force")[0] == 0
    assert results.read(run.folder).result.metrics == run.result.metrics


def test_states(write, nutshell, tmp_path):
    """Complete, failed with its reason, unfinished with how far it is, unreadable: each is there."""
    file = write(SMALL_YAML)
    assert nutshell("run", file)[0] == 0
    home = tmp_path / "outputs/finetune/pairs"
    assert nutshell("run", file, "training.learning_rate=1e30", "--seeds", "1")[0] == 2
    for seed in (2, 3, 4):
        (home / f"seed-{seed}").mkdir()
        (home / f"seed-{seed}/experiment.yaml").write_bytes((home / "seed-13/experiment.yaml").read_bytes())
    checkpoint = home / "seed-3/checkpoint-5"
    checkpoint.mkdir()
    state = {"global_step": 5, "max_steps": 40, "log_history": [{"step": 5, "loss": 0.5}]}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    (home / "seed-4/metrics.json").write_text('{"metrics": {')
    by_seed = {run.seed: run for run in results.find([home])}
    assert {seed: run.state for seed, run in by_seed.items()} == {
        **{13: "complete", 1: "failed", 2: "unfinished", 3: "unfinished", 4: "unreadable"},
    }
    assert "training diverged" in by_seed[1].reason and "before the first checkpoint" in by_seed[2].reason
    assert "step 5 of 40" in by_seed[3].reason and by_seed[3].history == [{"step": 5, "loss": 0.5}]
    assert "metrics.json: is damaged; run the seed again with --force" in by_seed[4].reason
    (home / "seed-2/experiment.yaml").write_text("[a list]")
    assert states(home)[2] == "unreadable"


def test_a_failure_is_forgotten_when_it_runs_again(write, nutshell, tmp_path):
    file = write(SMALL_YAML)
    assert nutshell("run", file, "training.learning_rate=1e30")[0] == 2
    assert states(tmp_path / "outputs") == {13: "failed"}
    assert nutshell("run", file, "--force")[0] == 0
    assert states(tmp_path / "outputs") == {13: "complete"}
    assert not (tmp_path / "outputs/finetune/pairs/seed-13/failure.json").exists()


def test_a_mistake_before_the_work_leaves_nothing(write, nutshell, tmp_path):
    assert nutshell("run", write(PAIRS_YAML.replace("max_tokens: 64", "max_tokens: 64, train_examples: 10000")))[0] == 2
    (tmp_path / "outputs").mkdir(exist_ok=True)
    with pytest.raises(UserError, match="holds no run"):
        results.find([tmp_path / "outputs"])


def test_pieces_spell_the_continuation(write, nutshell, tmp_path):
    """Bytes as tokens: a letter of several bytes is one piece; what they cost adds up."""
    assert nutshell("run", write(PROMPTS_YAML, "generate/prompts.yaml"))[0] == 0
    rows = only(tmp_path / "outputs").lines("samples.jsonl")
    assert rows
    for row in rows:
        assert "".join(text for text, _ in row["pieces"]) == row["continuation"]
        assert all(nats >= 0 for _, nats in row["pieces"])


def test_seeds_of_two_questions_are_not_put_together(write, nutshell, tmp_path):
    file = write(SMALL_YAML)
    assert nutshell("run", file, "--seeds", "1")[0] == 0
    assert nutshell("run", file, "--seeds", "2", "training.learning_rate=1e-3")[0] == 0
    every = series(results.find([tmp_path / "outputs"]))
    assert [len(one.runs) for one in every] == [1, 1]
    assert [one.label for one in every] == ["finetune/pairs, seed 1", "finetune/pairs, seed 2"]


def test_what_is_missing_is_named(write, nutshell, tmp_path):
    assert nutshell("run", write(SMALL_YAML))[0] == 0
    folder = tmp_path / "outputs/finetune/pairs/seed-13"
    for name in ("units.parquet", "trainer_state.json"):
        (folder / name).unlink()
    assert results.read(folder).lacks == ["units.parquet", "trainer_state.json"]


def test_runs_that_read_other_files_are_not_put_together(write, nutshell, tmp_path, small):
    """The same settings, but the data had changed in between."""
    data = tmp_path / "data"
    data.mkdir()
    for file in small.iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    file = write(SMALL_YAML.replace("SMALL", str(data)))
    assert nutshell("run", file, "--seeds", "1")[0] == 0
    train = data / "train.jsonl"
    train.write_text("\n".join(train.read_text().splitlines()[:-1]))
    assert nutshell("run", file, "--seeds", "2")[0] == 0
    assert [len(one.runs) for one in series(results.find([tmp_path / "outputs"]))] == [1, 1]


def test_a_run_that_is_writing_is_read(write, nutshell, tmp_path):
    """A checkpoint comes and goes meanwhile; a link may lead nowhere."""
    folder = tmp_path / "outputs/finetune/pairs/seed-13"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text("{task: classify, seed: 13}")
    (folder / ".checkpoint-partial").symlink_to(tmp_path / "nowhere")
    (folder / "checkpoint-4").mkdir()
    (folder / "checkpoint-4/trainer_state.json").write_text('{"global_step": 4}')
    assert states(tmp_path / "outputs") == {13: "unfinished"}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("experiment.yaml", "{task: [a], seed: 13}", "names no task"),
        ("experiment.yaml", "&a {task: classify, self: *a}", "an alias refers to itself"),
        ("experiment.yaml", "{[a]: 2, task: classify}", "a key is a list or a mapping"),
        ("metrics.json", "[" * 100_000, "is damaged"),
        ("metrics.json", "[]", "is damaged"),
        ("metrics.json", '{"metrics": {}, "data": {}}', "was written by another version of nutshell (layout 1, this"),
        ("metrics.json", '{"version": 3, "metrics": {}}', "(layout 3, this one reads 2)"),
        ("metrics.json", '{"version": 2, "metrics": {"accuracy": {"value": 1, "interval_95": [1]}}}', "is damaged at "),
    ],
)
def test_an_odd_file_is_named_and_drops_no_other_run(tmp_path, nutshell, name, text, reason):
    runs.write(tmp_path / "outputs/finetune/good", runs.classified())
    folder = tmp_path / "outputs/finetune/odd/seed-13"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text("{task: classify, seed: 13}")
    (folder / name).write_text(text)
    run = only(folder)
    assert run.state == "unreadable" and name in run.reason and reason in run.reason
    code, printed, errors = nutshell("report", tmp_path / "outputs", "--format", "markdown")
    assert code == 0 and f"not in the table: {folder}: unreadable: {name}" in errors
    assert "finetune/good" in printed and "finetune/odd" not in printed
    assert nutshell("report", tmp_path / "outputs", "--output", tmp_path / "report.html")[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": {"mean": 0.9}},
        {"version": "2"},
        {"baseline": None},
        {"compressors": {"gzip -9": 2.5}},
        {"metrics": {"accuracy": {"value": float("nan"), "interval_95": None, "unit": "", "higher_is_better": True}}},
    ],
)
def test_a_result_is_read_whole_or_not_at_all(tmp_path, change):
    """An unknown key, another type, a figure that is no number: nothing is passed over or converted."""
    files = runs.classified()
    files["metrics.json"] |= change
    run = results.read(runs.write(tmp_path / "finetune/pairs", files))
    assert run.state == "unreadable" and run.result is None


def test_an_old_result_is_refused_where_it_would_be_used(tmp_path, nutshell):
    old, new = tmp_path / "c/old", tmp_path / "c/new"
    runs.write(new, runs.classified())
    files = runs.classified()
    del files["metrics.json"]["version"]
    runs.write(old, files)
    message = (
        "metrics.json: was written by another version of nutshell (layout 1, this one reads 2); run the seed again"
    )
    assert message in only(old).reason
    with pytest.raises(UserError, match="layout 1"):
        read_result(old / "seed-13")
    code, _, errors = nutshell("compare", new, old)
    assert code == 2 and "no run of it is complete" in errors


def test_a_statistic_that_nobody_knows_is_one_message(tmp_path, nutshell):
    """Such as that of a task which is not installed here."""
    files = runs.classified()
    whole = files["units.parquet"]
    foreign = replace(whole.metrics[0], statistic=lambda *columns, axis=-1: columns[0].mean(axis))
    foreign.statistic.__name__ = "elsewhere"
    files["units.parquet"] = replace(whole, metrics=(foreign,))
    folder = runs.write(tmp_path / "c/foreign", files)
    runs.write(tmp_path / "c/own", runs.classified())
    message = f"{folder / 'units.parquet'}: its statistic elsewhere is not known here; install its task"
    with pytest.raises(UserError, match=re.escape(message)):
        units.read(folder)
    code, _, errors = nutshell("compare", tmp_path / "c/own", tmp_path / "c/foreign")
    assert code == 2 and errors == f"nutshell: {message}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("NOWHERE",), "no such folder"),
        (("EMPTY",), "holds no run; runs are in <output>/<chapter>/<name>/seed-<n>"),
        (("RUNS", "--output", "EMPTY"), "is a folder; name a file"),
        (("RUNS", "--output", "NOWHERE/page.html"), "its folder is not there; name a file"),
        (("RUNS", "--output", "EMPTY/" + "x" * 300), "cannot be written: File name too long"),
        (("RUNS", "--format", "pdf"), "invalid choice: 'pdf'"),
        (("RUNS", "--colour"), "unrecognized arguments: --colour"),
    ],
)
def test_what_a_report_refuses(words, message, tmp_path, nutshell):
    run = tmp_path / "runs/finetune/pairs/seed-13"
    run.mkdir(parents=True)
    (run / "experiment.yaml").write_text("{task: classify, seed: 13}")
    (tmp_path / "empty").mkdir()
    for key in ("NOWHERE", "EMPTY", "RUNS"):
        words = [word.replace(key, str(tmp_path / key.lower())) for word in words]
    code, _, errors = nutshell("report", *words)
    assert code == 2 and message in errors
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("stride", [16, 4])
def test_stretches_add_up_to_what_was_measured(write, nutshell, tmp_path, stride):
    assert nutshell("run", write(TEXT_YAML, "language_model/stories.yaml"), f"evaluation.stride={stride}")[0] == 0
    run = only(tmp_path / "outputs")
    facts, columns = run.result.facts, run.units.columns
    assert {name: columns[name].sum() for name in ("bytes", "tokens")} == {
        name: facts[f"{name} measured"] for name in ("bytes", "tokens")
    }
    assert columns["nats"].sum() == pytest.approx(facts["nats measured"], rel=1e-6)
    assert run.result.evaluated_on.count == len(run.units)
