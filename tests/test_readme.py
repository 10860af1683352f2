"""README.md is true: its results are the stored ones, its files exist, its commands are accepted."""

import json
import re
import shlex

from nutshell import cli
from nutshell.data import labelled as sources
from nutshell.experiment.load import load
from nutshell.report.tables import cells, renewed, tables
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "experiments" / "results"


def test_the_results_table_is_the_stored_results():
    assert renewed(README, tables(RESULTS)) == README, "run `make results`"


def test_stored_results_are_of_experiments_that_exist():
    files = list(RESULTS.rglob("*.json"))
    assert files
    for file in files:
        summary = json.loads(file.read_text(encoding="utf-8"))
        experiment = load(ROOT / "experiments" / f"{summary['experiment']}.yaml")
        assert file == RESULTS / f"{summary['experiment']}.json"
        assert summary["seeds"] and set(summary["seeds"]) <= set(experiment.seeds)  # those that were run are named
        stored, now = (
            {key: value for key, value in tree.items() if key != "reference" and value is not None}
            for tree in (summary["resolved"], experiment.resolved())
        )
        assert stored == now
        assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in summary["commits"])  # and no changes beside it
        if summary["data"]["source"] == "embedded in nutshell":
            parts = sources.load(experiment.data).by_name()
            assert summary["data"]["sha256"] == {name: part.digest() for name, part in parts.items()}


def test_files_exist():
    named = set(re.findall(r"\b(?:experiments|src|tests)/[\w./-]+\.\w+", README))
    assert named and all((ROOT / name).exists() for name in named)


def test_the_tree_is_the_tree():
    block = README.split("```text")[1].split("```")[0]
    root = None
    for line in block.splitlines():
        name = line.split()[0] if line.split() else ""
        if not name:
            continue
        if not line.startswith(" "):
            root = ROOT / name
            assert root.exists(), name
        else:
            assert (root / name).exists(), name
    modules = {file.name for file in (ROOT / "src/nutshell").iterdir() if not file.name.startswith("__")}
    assert modules == {
        name.strip("/")
        for name in re.findall(r"^  ([\w./]+)", block.split("src/nutshell/")[1].split("\ntests")[0], re.M)
    }


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_commands_are_accepted():
    """Every nutshell command of a code block parses, and its experiment loads with its overrides."""
    commands = re.findall(r"^(?:\w+=\S+ )*(?:accelerate launch .*-m )?nutshell ((?:run|show) .*)$", README, re.M)
    assert len(commands) >= 4
    for command in commands:
        if "my_file.yaml" in command:  # the reader's own
            continue
        arguments = cli._arguments(shlex.split(command.split("#")[0]))
        assert cli._experiments(arguments)


def test_cells_say_where_a_value_lies():
    entry = {"mean": 0.9, "standard_deviation": 0.01, "interval_95": [0.88, 0.92], "interval_is_over": "seeds"}
    for band, verdict in (([0.8, 0.95], "inside"), ([0.91, 0.95], "below"), ([0.8, 0.85], "above")):
        row = cells({"metrics": {"accuracy": entry}, "resolved": {"reference": {"accuracy": band}}})[0]
        assert row == ("accuracy", "0.9000 ± 0.0100", "0.8800 to 0.9200 over seeds", f"{band[0]} to {band[1]}", verdict)
    assert cells({"metrics": {"accuracy": entry}, "resolved": {"reference": None}})[0][3:] == ("", "")
