"""What an outputs folder holds is found and told, whatever state it is in."""

import json

import pytest

from nutshell.machine.errors import UserError
from nutshell.report import results
from tests.conftest import PAIRS_YAML, PROMPTS_YAML, SMALL_YAML, TEXT_YAML


def states(folder) -> dict[int, str]:
    return {run.seed: run.state for run in results.find([folder])}


def test_a_run_is_read_back(write, nutshell, tmp_path):
    assert nutshell("run", write(SMALL_YAML.replace("[13]", "[13, 21]")))[0] == 0
    (tmp_path / "outputs/finetune/pairs/seed-3").mkdir()
    (experiment,) = results.experiments(results.find([tmp_path / "outputs"]))
    assert [run.seed for run in experiment.complete] == [13, 21] and experiment.label == "finetune/pairs"
    stored = json.loads((tmp_path / "outputs/finetune/pairs/summary.json").read_text())
    assert json.loads(json.dumps(experiment.summary["metrics"])) == stored["metrics"]
    run = experiment.runs[0]
    assert not run.lacks and {entry["step"] for entry in run.history} == {2}
    errors, predictions = run.lines("errors.jsonl"), run.lines("predictions.jsonl")
    wrong = [row for row in predictions if row["label"] != row["predicted"]]
    assert [row["index"] for row in errors] == [
        row["index"] for row in sorted(wrong, key=lambda row: -max(row["probabilities"]))
    ]
    assert all(len(row["texts"]) == 2 for row in errors)
    lengths = run.metrics["lengths"]
    assert (
        sum(lengths["counts"]) == 48 and lengths["limit"] == 64 and len(lengths["edges"]) == len(lengths["counts"]) + 1
    )


def test_what_was_cut_is_counted(write, nutshell, result):
    assert nutshell("run", write(SMALL_YAML.replace("max_tokens: 64", "max_tokens: 16")))[0] == 0
    lengths = result()["lengths"]
    assert 0 < lengths["truncated"] <= 48 and lengths["edges"][-1] > 16


def test_the_command_makes_the_same_again(write, nutshell, tmp_path):
    file = write(SMALL_YAML.replace("[13]", "[13, 21]"))
    assert nutshell("run", file, "training.max_steps=3", "--seed", "7")[0] == 0
    (run,) = results.find([tmp_path / "outputs"])
    assert (
        run.resolved["command"] == f"nutshell run {file} training.max_steps=3 --seed 7 --output {tmp_path / 'outputs'}"
    )
    first = run.metrics["metrics"]
    words = run.resolved["command"].split()[1:]
    assert nutshell(*words, "--force")[0] == 0
    assert results.read(run.folder).metrics["metrics"] == first


def test_states(write, nutshell, tmp_path):
    """Complete, failed with its reason, unfinished with how far it is, unreadable: each is there."""
    file = write(SMALL_YAML)
    assert nutshell("run", file)[0] == 0
    home = tmp_path / "outputs/finetune/pairs"
    assert nutshell("run", file, "training.learning_rate=1e30", "--seed", "1")[0] == 2
    for seed in (2, 3, 4):
        (home / f"seed-{seed}").mkdir()
        (home / f"seed-{seed}/experiment.yaml").write_bytes((home / "seed-13/experiment.yaml").read_bytes())
    checkpoint = home / "seed-3/checkpoint-5"
    checkpoint.mkdir()
    state = {"global_step": 5, "max_steps": 40, "log_history": [{"step": 5, "loss": 0.5}]}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    (home / "seed-4/metrics.json").write_text('{"metrics": {')
    found = {run.seed: run for run in results.find([home])}
    assert {seed: run.state for seed, run in found.items()} == {
        **{13: "complete", 1: "failed", 2: "unfinished", 3: "unfinished", 4: "unreadable"},
    }
    assert "training diverged" in found[1].said and "before the first checkpoint" in found[2].said
    assert "step 5 of 40" in found[3].said and found[3].history == [{"step": 5, "loss": 0.5}]
    assert "metrics.json" in found[4].said
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
    (run,) = results.find([tmp_path / "outputs"])
    rows = run.lines("samples.jsonl")
    assert rows
    for row in rows:
        assert "".join(text for text, _ in row["pieces"]) == row["continuation"]
        assert all(nats >= 0 for _, nats in row["pieces"])


def test_seeds_of_two_questions_are_not_put_together(write, nutshell, tmp_path):
    file = write(SMALL_YAML)
    assert nutshell("run", file, "--seed", "1")[0] == 0
    assert nutshell("run", file, "--seed", "2", "training.learning_rate=1e-3")[0] == 0
    found = results.experiments(results.find([tmp_path / "outputs"]))
    assert [len(experiment.runs) for experiment in found] == [1, 1]
    assert [experiment.label for experiment in found] == ["finetune/pairs, seed 1", "finetune/pairs, seed 2"]


def test_what_is_missing_is_named(write, nutshell, tmp_path):
    assert nutshell("run", write(SMALL_YAML))[0] == 0
    folder = tmp_path / "outputs/finetune/pairs/seed-13"
    (folder / "errors.jsonl").unlink()
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["lengths"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert results.read(folder).lacks == ["errors.jsonl", "lengths"]


def test_runs_that_read_other_files_are_not_put_together(write, nutshell, tmp_path, small):
    """The same settings, but the data had changed in between."""
    data = tmp_path / "data"
    data.mkdir()
    for file in small.iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    file = write(SMALL_YAML.replace("SMALL", str(data)))
    assert nutshell("run", file, "--seed", "1")[0] == 0
    train = data / "train.jsonl"
    train.write_text("\n".join(train.read_text().splitlines()[:-1]))
    assert nutshell("run", file, "--seed", "2")[0] == 0
    found = results.experiments(results.find([tmp_path / "outputs"]))
    assert [len(experiment.runs) for experiment in found] == [1, 1]


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
    ("name", "text"),
    [
        ("experiment.yaml", "{task: [a], seed: 13}"),
        ("experiment.yaml", "&a {task: classify, self: *a}"),
        ("experiment.yaml", "{1: 2, task: classify}"),
        ("metrics.json", "[" * 100_000),
        ("metrics.json", '{"metrics": {}, "experiment": {}, "provenance": {}, "data": {}, "evaluated_on": {}}'),
        ("metrics.json", '{"metrics": {"accuracy": {"value": 1, "interval_95": [1]}}}'),
    ],
)
def test_odd_files_are_said_to_be_odd(tmp_path, nutshell, name, text):
    folder = tmp_path / "outputs/finetune/odd/seed-13"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text("{task: classify, seed: 13}")
    (folder / name).write_text(text)
    (run,) = results.find([tmp_path / "outputs"])
    assert run.state == "unreadable" and name in run.said
    code, printed, said = nutshell("report", tmp_path / "outputs", "--format", "markdown")
    assert code == 0 and "unreadable" in said and printed.count("|") == 18
    assert nutshell("report", tmp_path / "outputs", "--output", tmp_path / "report.html")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
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
def test_what_a_report_refuses(words, said, tmp_path, nutshell):
    run = tmp_path / "runs/finetune/pairs/seed-13"
    run.mkdir(parents=True)
    (run / "experiment.yaml").write_text("{task: classify, seed: 13}")
    (tmp_path / "empty").mkdir()
    for key in ("NOWHERE", "EMPTY", "RUNS"):
        words = [word.replace(key, str(tmp_path / key.lower())) for word in words]
    code, _, printed = nutshell("report", *words)
    assert code == 2 and said in printed
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("stride", [16, 4])
def test_stretches_add_up_to_what_was_measured(write, nutshell, tmp_path, stride):
    assert nutshell("run", write(TEXT_YAML, "language_model/stories.yaml"), f"evaluation.stride={stride}")[0] == 0
    (run,) = results.find([tmp_path / "outputs"])
    measured = run.metrics["measured"]
    assert {name: run.columns[name].sum() for name in ("bytes", "tokens")} == {
        name: measured[name] for name in ("bytes", "tokens")
    }
    assert run.columns["nats"].sum() == pytest.approx(measured["nats"], rel=1e-6)
