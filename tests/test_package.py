"""What an install needs: one list of exact pins, every data file in the wheel, a Makefile that says what is missing."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from nutshell.cli.main import main

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/nutshell"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = PYPROJECT["project"]["dependencies"]
TEST_PINS = PYPROJECT["project"]["optional-dependencies"]["test"]


def test_pins_are_exact_and_in_one_list():
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", pin) for pin in [*PINS, *TEST_PINS])
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-e .[test]"]


def test_what_the_source_imports_is_pinned():
    pinned = {_plain(pin.split("==")[0]) for pin in PINS}
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in SOURCE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    roots = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"nutshell"}
    distributions = packages_distributions()
    for root in sorted(roots):
        assert pinned & set(map(_plain, distributions[root])), root


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_data_files_are_in_the_wheel():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["nutshell"]
    tracked = subprocess.run(["git", "ls-files", "."], cwd=SOURCE, capture_output=True, text=True, check=True)
    files = [name for name in tracked.stdout.splitlines() if not name.endswith(".py")]
    assert files
    for name in files:
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_another_system_is_refused(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        code = main(["show", "any.yaml"])
    assert code == 2
    assert capsys.readouterr().err == "nutshell: runs on Linux and macOS; on Windows use it inside WSL\n"


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)", makefile, re.M)[1].split()
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not under `make test`
    printed = subprocess.run(["make", "help"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in printed.splitlines()] == targets


PYTHON = """\
#!/bin/sh
case "$*" in
  --version) echo "Python {version}" ;;
  *version_info*) exit {too_old} ;;
  *ensurepip*) exit {no_venv} ;;
  "-m venv .venv") mkdir .venv/bin && cp "$0" .venv/bin/python ;;
  *"pip --version") ;;
  *"pip install"*) echo "$*" >>calls; echo "words of pip"; exit {pip} ;;
  *) echo ready ;;
esac
"""


@pytest.fixture
def python(tmp_path):
    """Writes a stand-in for a Python of that name, first on make's PATH."""

    def _python(name="python3", version="3.12.1", too_old=0, no_venv=0, pip=0) -> None:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(PYTHON.format(version=version, too_old=too_old, no_venv=no_venv, pip=pip))
        file.chmod(0o755)

    return _python


@pytest.fixture
def make(tmp_path):
    """Runs make in a bare clone: (exit code, standard output, standard error without make's own lines)."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        (clone / name).write_bytes((ROOT / name).read_bytes())

    def _make(*words) -> tuple[int, str, list[str]]:
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(["make", *words], cwd=clone, env={"PATH": path}, capture_output=True, text=True)
        return done.returncode, done.stdout, [line for line in done.stderr.splitlines() if not line.startswith("make")]

    _make.clone = clone
    return _make


@pytest.mark.parametrize(
    "stand_in, message",
    [
        ({"version": "3.9.2", "too_old": 1}, "needs Python 3.11 to 3.14, but fake is: Python 3.9.2; name another one"),
        ({"no_venv": 1}, "fake has no module venv or ensurepip; on Debian and Ubuntu: sudo apt install python3-venv"),
        (None, "needs Python 3.11 to 3.14, but fake is: .*not found; name another one: make install PYTHON=python3.13"),
    ],
)
def test_one_line_says_what_is_missing(stand_in, message, python, make):
    if stand_in:
        python("fake", **stand_in)
    code, out, err = make("install", "PYTHON=fake")
    assert code and not out and len(err) == 1 and re.match(f"nutshell: {message}", err[0])
    assert not (make.clone / ".venv").exists()


def test_a_python_that_is_new_enough_is_chosen(python, make):
    for name in ("python3", "python3.14", "python3.13"):
        python(name, too_old=1)
    python("python3.12")
    code, out, err = make("install")
    assert code == 0 and not err and out.startswith("nutshell: installs into .venv: about ") and out.endswith("ready\n")


def test_torch_from_another_index_comes_first(python, make):
    python()
    code, out, _ = make("install", "TORCH_INDEX=https://example.org/cpu")
    torch = next(pin for pin in PINS if pin.startswith("torch=="))
    first, second = (make.clone / "calls").read_text().splitlines()
    assert code == 0 and "CUDA" not in out
    assert first == f"-m pip install --no-deps --index-url https://example.org/cpu {torch}"
    assert second == "-m pip install -r requirements.txt"


def test_a_failed_install_is_repaired(python, make):
    python(pip=1)
    code, _, err = make("install")
    assert code and err[0] == "words of pip" and err[-1].startswith("nutshell: the install failed")
    assert not (make.clone / ".venv/.installed").exists()
    half = make.clone / ".venv/half"
    half.touch()
    python()
    assert make("install")[0] == 0 and not half.exists()
    calls = (make.clone / "calls").read_text()
    code, out, _ = make("install")
    assert (code, out) == (0, "ready\n") and (make.clone / "calls").read_text() == calls


def test_a_failed_update_keeps_what_is_there(python, make):
    python()
    assert make("install")[0] == 0
    inside = make.clone / ".venv/bin/python"
    inside.write_text(inside.read_text().replace("exit 0", "exit 1"))
    os.utime(make.clone / ".venv/.installed", (0, 0))
    code, out, _ = make("install")
    assert code and out == "nutshell: updates .venv\n" and inside.exists()
    assert make("install")[0] != 0  # still older than the pins
