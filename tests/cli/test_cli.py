"""The command line: its help, folders, seeds, what it says while it runs and at the end, what it refuses first."""

import subprocess
import sys
import webbrowser
from importlib.metadata import version
from pathlib import Path

import pytest

from nutshell.cli.main import main
from nutshell.machine import launch
from nutshell.report import terminal
from nutshell.report.results.summary import Summary
from tests.conftest import PROMPTS_YAML, SMALL_YAML
from tests.report import runs

# Help


def test_help_groups_the_commands(capsys):
    assert main([]) == 0
    bare = capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0 and capsys.readouterr().out == bare
    first, second = bare.index("run experiments:"), bare.index("look at finished runs:")
    assert first < bare.index("\n  run ") < bare.index("\n  show ") < second < bare.index("\n  report ")
    assert "==SUPPRESS==" not in bare


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nutshell {version('nutshell')}\n"


def test_help_imports_no_heavy_library():
    code = "import sys; from nutshell.cli.main import main; main([]); print({'torch', 'transformers'} & {*sys.modules})"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("words", "usage", "reason"),
    [
        (["run", "x.yaml", "--sed", "1"], "nutshell run", "unrecognized arguments: --sed"),
        (["show"], "nutshell show", "required"),
        (["report", "--format", "pdf"], "nutshell report", "invalid choice: 'pdf'"),
        (["report", "--open", "--format", "csv"], "nutshell report", "--open shows the page"),
        (["compare", "one"], "nutshell compare", "required"),
        (["compare", "one", "two", "--x"], "nutshell compare", "unrecognized arguments: --x"),
        (["--x"], "nutshell [-h]", ""),
    ],
)
def test_an_error_shows_the_usage_of_its_command(words, usage, reason, nutshell):
    code, _, err = nutshell(*words)
    assert code == 2 and err.startswith(f"usage: {usage}") and reason in err


# Folders and seeds


def test_a_folder_is_its_experiments_in_order(write, nutshell):
    for name in ("b", "a"):
        write(SMALL_YAML, f"finetune/{name}.yaml")
    folder = write(SMALL_YAML, "finetune/c.yaml").parent
    (folder / "README.md").write_text("no experiment")
    code, out, err = nutshell("show", folder)
    assert code == 0, err
    places = [line.split("finetune/")[1] for line in out.splitlines() if line.startswith("# results:")]
    assert places == ["a/seed-13", "b/seed-13", "c/seed-13"]
    code, _, err = nutshell("show", folder, folder / "a.yaml")
    assert code == 2 and "its results would be in" in err
    other = write(SMALL_YAML, "other/d.yaml")
    assert "# results:" in nutshell("show", other, folder)[1]


def test_a_folder_without_experiments(write, nutshell, tmp_path):
    write(SMALL_YAML)
    code, _, err = nutshell("run", tmp_path / "experiments")
    assert code == 2 and "holds no experiment file (*.yaml); folders with some:" in err and "finetune" in err


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["FILE", "--seeds", 1, 2, 3, "training.learning_rate=1e-5"], [1, 2, 3]),
        (["--seeds", "1-3", "FILE", "training.learning_rate=1e-5"], [1, 2, 3]),
        (["--seeds", 7, "FILE", "training.learning_rate=1e-5"], [7]),
        (["training.learning_rate=1e-5", "--seeds=1,4-5", "FILE"], [1, 4, 5]),
        (["FILE", "--seed", 4, "training.learning_rate=1e-5", "--seed", 2], [4, 2]),
        (["FILE", "training.learning_rate=1e-5"], [13]),
    ],
)
def test_seeds(words, seeds, write, nutshell):
    file = write(SMALL_YAML)
    code, out, err = nutshell("show", *(file if word == "FILE" else word for word in words))
    assert code == 0, err
    assert [int(line.split("seed-")[1]) for line in out.splitlines() if line.startswith("# results:")] == seeds
    assert "learning_rate: 1e-05\n" in out or "learning_rate: 1e-5" in out


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        (["-1"], "-1 is none of them"),
        (["3-1"], "3-1 is none of them"),
        (["1,,2"], "no number is given"),
        (["1-2-3"], "1-2-3 is none of them"),
        ([], "no number is given"),
        (["0-4294967295"], "is more than 1,000 seeds"),
        (["2", "1-3"], "a seed is in it twice"),
    ],
)
def test_seeds_that_are_none(seeds, reason, write, nutshell):
    code, _, err = nutshell("show", write(SMALL_YAML), "--seeds", *seeds)
    assert code == 2 and reason in err and "Traceback" not in err


# What is said while it runs, and at the end


def test_several_experiments_end_with_one_table(write, nutshell, causal):
    files = [write(SMALL_YAML, "finetune/first.yaml"), write(SMALL_YAML, "finetune/second.yaml")]
    files.append(write(PROMPTS_YAML, "finetune/third.yaml"))
    code, out, err = nutshell("run", *files, "--seeds", "1-2")
    assert code == 0, err
    assert "experiment 1 of 3, seed 1 of 2: finetune/first: seed 1, from the start, on" in err
    assert "experiment 3 of 3, seed 2 of 2: finetune/third: seed 2, from the start" in err
    assert out.count("95 % interval") == 1 and "The cat sat on" not in out
    assert "finetune/first: accuracy" in out and "finetune/third: mean_nats" in out
    assert "question" not in out and "published band" not in out  # no experiment states any
    assert out.splitlines()[-1].startswith("next: nutshell compare ")
    assert all(f"outputs/finetune/{name}" in out.splitlines()[-1] for name in ("first", "second"))


def test_one_experiment_has_its_own_table_and_samples(write, nutshell, tmp_path):
    code, out, err = nutshell("run", write(PROMPTS_YAML, "generate/prompts.yaml"))
    assert code == 0, err
    assert "The cat sat on" in out and "generate/prompts: seed 13, from the start" in err
    assert out.splitlines()[-1] == f"next: nutshell report {tmp_path / 'outputs' / 'generate' / 'prompts'}"


def summary(name: str, digest: str = "d", **more) -> Summary:
    """Of an experiment of that name, measured on data of that digest."""
    _, one = runs.outcome(runs.classified(band_part="validation"))
    evaluated_on = one.evaluated_on.model_copy(update={"sha256": digest})
    return one.model_copy(update={"experiment": name, "evaluated_on": evaluated_on, "baseline": {}, **more})


def without_intervals(name: str) -> Summary:
    one = summary(name)
    metrics = {key: estimate.model_copy(update={"interval_95": None}) for key, estimate in one.metrics.items()}
    return one.model_copy(update={"metrics": metrics})


def test_questions_and_baselines_are_columns_where_there_are_any(capsys):
    plain = summary("q/one", resolved={})
    terminal.print_figures([plain, plain])
    out = capsys.readouterr().out
    assert "0.75" in out and not [word for word in ("question", "baseline", "published band") if word in out]
    baseline = {"accuracy": {"always equivalent": 0.6838}, "label_bits": {"always equivalent": 0.9}}
    question = {"question": "Can it tell [praise] from blame?"}
    terminal.print_figures([summary("q/one", resolved=question, baseline=baseline), plain])
    out = capsys.readouterr().out
    for words in ("question", "[praise]", "baseline", "equivalent", "0.75", " to "):
        assert words in out, words
    assert "label_bits" not in out and "0.9000" not in out  # the main figure alone


@pytest.mark.parametrize(
    ("summaries", "command"),
    [
        ([summary("q/one")], "report out/q/one"),
        ([summary("q/one"), summary("q/two", "e")], "report out/q"),
        ([summary("q/one"), without_intervals("p/two")], "report out"),
        ([summary("q/one"), summary("q/x", "e"), summary("p/two")], "compare out/q/one out/p/two"),
    ],
)
def test_the_next_command(summaries, command, capsys):
    terminal.print_next(summaries, Path("out"))
    assert capsys.readouterr().out == f"next: nutshell {command}\n"


# Tables and pages


def test_a_table_without_a_complete_run_is_empty(tmp_path, nutshell):
    folder = runs.write(tmp_path / "finetune/pairs", runs.classified())
    (folder / "metrics.json").unlink()
    code, out, err = nutshell("report", tmp_path, "--format", "csv")
    assert code == 0 and out == "experiment\n" and f"not in the table: {folder}: unfinished: step 100 of 100" in err
    assert nutshell("report", tmp_path, "--format", "json")[1] == "[]\n"


def test_the_page_is_opened(tmp_path, nutshell, monkeypatch):
    runs.write(tmp_path / "finetune/pairs", runs.classified())
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    code, _, err = nutshell("report", tmp_path, "--output", tmp_path / "page.html", "--open")
    assert code == 0 and opened == [(tmp_path / "page.html").as_uri()]
    assert "no browser could be started; open" in err


def test_more_than_two_are_compared_with_the_first(tmp_path, nutshell):
    for name, right in (("good", 36), ("fair", 30), ("poor", 20)):
        runs.write(tmp_path / "finetune" / name, runs.classified(right=right))
    folders = [tmp_path / "finetune" / name for name in ("good", "fair", "poor")]
    code, out, err = nutshell("compare", *folders)
    assert code == 0, err
    assert out.count("McNemar") == 2 and out.count("A: ") == 2
    assert "2 comparisons; no interval and no p-value is corrected" in out


# Launches of fewer processes than were asked for


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a config file of accelerate."""
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(tmp_path / "none.yaml"))

    def _config(kind: str, use_cpu: bool = False) -> str:
        file = tmp_path / f"{kind}.yaml"
        lines = ["compute_environment: LOCAL_MACHINE", f"distributed_type: '{kind}'", "num_processes: 2"]
        file.write_text("\n".join([*lines, f"use_cpu: {str(use_cpu).lower()}"]) + "\n")
        return str(file)

    return _config


def test_each_obstacle_is_named_by_itself(config):
    script = ["-m", "nutshell", "run", "x.yaml"]
    good = config("MULTI_GPU", use_cpu=True)
    assert launch.accelerate_request([]) == (1, [])
    assert launch.accelerate_request(["--config_file", good, *script]) == (2, [])
    assert launch.accelerate_request(["--multi_gpu", "--num_processes", "3", *script]) == (3, [])
    for words, count, reason in (
        (["--config_file", good, "--cpu"], 2, "leave out --cpu"),
        (["--num_processes", "4"], 4, "add --config_file accelerate_config.yaml"),
        (["--config_file", config("MULTI_CPU")], 2, "write `distributed_type: MULTI_GPU` in"),
        (["--config_file", config("NO"), "--num_processes", "3"], 3, "with NO accelerate starts one process"),
        (["--config_file", config("MULTI_CPU", use_cpu=True)], 2, "and use_cpu: true does not change that"),
    ):
        requested, obstacles = launch.accelerate_request([*words, *script])
        assert requested == count and len(obstacles) == 1 and reason in obstacles[0], words
    both = launch.accelerate_request(["--cpu", "--num_processes", "2", *script])[1]
    assert len(both) == 2 and "--cpu" in both[0] and "--config_file" in both[1]
