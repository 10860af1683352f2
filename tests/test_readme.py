"""Every README is true: its tables are the stored results, its files exist, its commands are accepted."""

import ast
import re
import runpy
import shlex

import pytest

from nutshell.cli import arguments, main
from nutshell.data import labelled
from nutshell.experiment import yaml_text
from nutshell.experiment.load import dump, load
from nutshell.report import tables
from nutshell.report.results.runs import settings
from nutshell.report.results.summary import read_summaries
from nutshell.tasks.task import tasks
from tests.conftest import ROOT

BENCHMARKS = ROOT / "experiments" / "benchmarks"
RESULTS = ROOT / "experiments" / "results"
CHAPTERS = (
    "quickstart",
    "finetune",
    "glue",
    "language_model",
    "generate",
    "prompt",
    "bits",
    "benchmarks",
    "hardware",
)
READMES = tables.readmes(RESULTS)
TEXTS = {file: file.read_text(encoding="utf-8") for file in READMES}
FRONT = TEXTS[ROOT / "README.md"]
EACH = pytest.mark.parametrize("file", READMES, ids=lambda file: str(file.relative_to(ROOT)))


def test_every_chapter_has_a_readme():
    assert [chapter for chapter in READMES.values() if chapter] == sorted(CHAPTERS)
    folders = {file.parent.name for file in (ROOT / "experiments").glob("*/*.yaml")}
    assert folders <= set(CHAPTERS)


def written(file) -> dict[str, str]:
    """Every table that `make results` knows for a README, by name."""
    chapter = tables.tables(RESULTS, READMES[file])
    if READMES[file] != BENCHMARKS.name:
        return chapter
    return chapter | runpy.run_path(str(BENCHMARKS / "tables.py"))["tables"]()


@EACH
def test_its_tables_are_the_stored_results(file):
    assert tables.renewed(TEXTS[file], written(file)) == TEXTS[file], "run `make results`"


def test_every_table_and_every_stored_result_is_in_a_readme():
    marks = {name for text in TEXTS.values() for name in re.findall(r"^<!-- (\w+): written by", text, re.M)}
    assert marks == set(written(BENCHMARKS / "README.md"))
    for file in RESULTS.rglob("*.json"):
        chapter = ROOT / "experiments" / file.parent.name / "README.md"
        assert f"`{file.parent.name}/{file.stem}`" in TEXTS[chapter]


def test_stored_results_are_of_experiments_that_exist():
    """Read through the class that wrote them, of the very settings that the file has now, on the very data."""
    summaries = read_summaries(RESULTS)
    assert {f"{one.experiment}.json" for one in summaries} == {
        str(file.relative_to(RESULTS)) for file in RESULTS.rglob("*.json")
    }
    for summary in summaries:
        experiment = load(ROOT / "experiments" / f"{summary.experiment}.yaml", [], tasks())
        assert summary.seeds and set(summary.seeds) <= set(experiment.seeds)  # those that were run are named
        before, now = (
            {key: value for key, value in settings(tree) if key != "seeds" and value is not None}
            for tree in (summary.resolved, experiment.resolved())
        )
        assert before == now, summary.experiment
        assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in summary.commits)  # and no changes in the tree
        if summary.data.source == "embedded in nutshell":
            parts = labelled.load(experiment.data).by_name()
            assert summary.data.sha256 == {name: part.digest() for name, part in parts.items()}
        assert summary.evaluated_on.sha256 in summary.data.sha256.values()


@EACH
def test_files_exist(file):
    names = set(re.findall(r"\b(?:experiments|src|tests)/[\w./-]*\w\.\w+", TEXTS[file]))
    links = {link for link in re.findall(r"\]\(([^)\s#]+)", TEXTS[file]) if "://" not in link}
    assert names or links
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert [link for link in links if not (file.parent / link).exists()] == []


@EACH
def test_make_targets_exist(file):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", TEXTS[file], re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def commands(text: str) -> list[str]:
    """What follows `nutshell` on each line of a text's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    calls = re.compile(r"^(?:\w+=\S+ )*(?:accelerate launch .*-m )?(?:\.venv/bin/)?nutshell ((?!-)\S.*)$", re.M)
    return [call.split(" #")[0].strip() for block in blocks for call in calls.findall(block)]


@EACH
def test_commands_are_accepted(file):
    """Every nutshell command of a shell block parses, and its experiments load with their overrides."""
    calls = commands(TEXTS[file])
    assert calls
    for call in calls:
        parsed = arguments.parse(shlex.split(call))
        if call.split()[0] in ("run", "show") and "my_" not in call:  # those are the reader's own files
            assert main._experiments(parsed), call


def test_the_front_page_is_short():
    assert 150 <= len(FRONT.splitlines()) <= 220


def test_the_tree_is_the_tree():
    block = FRONT.split("```text\n")[1].split("```")[0]
    names = [line.split()[0] for line in block.splitlines() if re.search(r"\S {2,}\S", line)]
    assert names and [name for name in names if not (ROOT / name).exists()] == []


def test_the_doors_are_the_rooms_own_words():
    """Each room's row has the first line of the docstring that the room itself opens with."""
    table = FRONT.split("| room | its door |\n")[1].split("\n\n")[0]
    doors = dict(re.findall(r"^\| `(\w+)/` \| (.+) \|$", table, re.M))
    source = ROOT / "src" / "nutshell"
    rooms = {folder.name for folder in source.iterdir() if (folder / "__init__.py").exists()}
    assert set(doors) == rooms - {"cli"}  # the front door
    for room, sentence in doors.items():
        text = (source / room / "__init__.py").read_text(encoding="utf-8")
        assert " ".join((ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].split()) == sentence, room


def test_the_lines_of_python_run(tmp_path, monkeypatch, tiny, capsys):
    """As they are written, in a folder where the experiment of that name takes two steps with a tiny model."""
    (block,) = re.findall(r"^```python\n(.*?)^```", FRONT, re.M | re.S)
    assert len(block.splitlines()) <= 10
    name = re.search(r'"(experiments/\S+\.yaml)"', block)[1]
    experiment = yaml_text.parse((ROOT / name).read_text(encoding="utf-8"))[0]
    experiment["model"] = {"name": str(tiny)}
    experiment["training"] |= {"max_steps": 2, "eval_strategy": "no"}
    (tmp_path / name).parent.mkdir(parents=True)
    dump(experiment, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "predicted" in printed and "probability_positive" in printed
    assert names["units"].groupby("seed").size().to_dict() == dict.fromkeys((1, 2), len(names["units"]) // 2)
