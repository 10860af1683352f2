"""The shape of the house: small rooms, short files, imports that point one way, doors that say what is behind them."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "src" / "nutshell"
MOST_ENTRIES, MOST_LINES = 8, 300
DOORS = {
    "tasks": "One file for each word that `task:` may say.",
    "runs": "Takes each seed to a complete folder, through an exact Trainer.",
    "experiment": "A YAML file becomes a checked experiment.",
    "data": "Files become examples, tokens and windows.",
    "models": "The thin wrappers, and which checkpoints are safe to load.",
    "bits": "What probabilities are worth, and the code that proves it.",
    "report": "Finished runs become what people read.",
    "machine": "Processes, signals, disk, Hub.",
}
NAMES_A_TASK = re.compile(r"task\s*==|task in [(\[{]")


def crowded(source: Path) -> dict[str, list[str]]:
    """The folders with too many entries: Python files, and folders with some. Package data is not counted."""
    files = [file.relative_to(source) for file in source.rglob("*.py") if file.name != "__init__.py"]
    entries: dict[str, set[str]] = {}
    for file in files:
        for folder in file.parents[:-1]:
            entries.setdefault(str(folder), set()).add(file.relative_to(folder).parts[0])
    return {folder: sorted(names) for folder, names in entries.items() if len(names) > MOST_ENTRIES}


def long(source: Path) -> dict[str, int]:
    """The Python files with too many lines."""
    counts = {str(file.relative_to(source)): file.read_text("utf-8").count("\n") for file in source.rglob("*.py")}
    return {file: lines for file, lines in counts.items() if lines > MOST_LINES}


def circle(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """Files that import each other in a circle, the first one again at the end; none if there is no circle.

    Args:
        imports: By file, those that it imports, within functions too.
    """
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def dispatches(source: Path) -> list[str]:
    """The lines outside tasks/ that ask for a task's name."""
    files = [file for file in sorted(source.rglob("*.py")) if file.relative_to(source).parts[0] != "tasks"]
    return [
        f"{file.relative_to(source)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if NAMES_A_TASK.search(line)
    ]


@pytest.fixture
def build(tmp_path):
    """Writes a made-up house: each file's path and text."""

    def _build(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return _build


def test_a_room_has_at_most_eight_entries():
    assert crowded(SOURCE) == {}


def test_a_ninth_entry_is_too_many(build):
    eight = [f"room/part/{name}.py" for name in "abcdefgh"]
    files = {**dict.fromkeys(eight, ""), "room/part/__init__.py": "", "room/part/i.html": "", "room/part/j/k.txt": ""}
    assert crowded(build(files)) == {}
    assert crowded(build({"room/part/j/k.py": ""})) == {"room/part": [*(f"{name}.py" for name in "abcdefgh"), "j"]}


def test_no_file_is_longer_than_three_hundred_lines():
    assert long(SOURCE) == {}


def test_a_line_more_is_too_long(build):
    assert long(build({"room/short.py": "a\n" * 300, "room/long.py": "a\n" * 301})) == {"room/long.py": 301}


def test_no_circle_of_imports():
    graph = grimp.build_graph("nutshell", cache_dir=None)
    assert len(graph.modules) > 50
    assert circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []


def test_a_circle_is_named():
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
    assert sorted(set(circle({"a": ["b"], "b": ["c"], "c": ["b"]}))) == ["b", "c"]


def test_a_lazy_import_counts(build, monkeypatch):
    house = build(
        {"house/__init__.py": "", "house/a.py": "from house import b", "house/b.py": "def f():\n    import house.a"}
    )
    monkeypatch.syspath_prepend(house)
    graph = grimp.build_graph("house", cache_dir=None)
    assert circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})


def test_the_rooms_import_one_way():
    """The contracts in pyproject.toml, as `make lint` checks them: in a process of its own, for it turns loggers off."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": "src"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nobody_asks_for_a_task_s_name():
    assert dispatches(SOURCE) == []


def test_who_asks_is_named(build):
    lines = (
        'if task == "classify":\n    pass\nif experiment.task in ("a", "b"):\n    pass\nfor task in tasks:\n    pass\n'
    )
    assert dispatches(build({"run/a.py": lines, "tasks/b.py": lines})) == ["run/a.py:1", "run/a.py:3"]


def test_each_door_says_what_is_behind_it():
    rooms = {folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").exists()}
    assert rooms == {*DOORS, "cli"}
    texts = {room: (SOURCE / room / "__init__.py").read_text(encoding="utf-8") for room in DOORS}
    assert {room: ast.get_docstring(ast.parse(text)) for room, text in texts.items()} == DOORS
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| room | its door |")[1].split("\n\n")[0]
    assert dict(re.findall(r"^\| `(\w+)/` \| ([^|]*?) \|", table, re.M)) == DOORS
