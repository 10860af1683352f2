"""Where a number comes from."""

import subprocess
import tomllib

from nutshell.machine import provenance
from tests.conftest import ROOT


def test_commit_and_changes(tmp_path, monkeypatch):
    module = tmp_path / "src" / "provenance.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    outside = provenance.Clock()
    assert outside.commit is None and outside.dirty is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    clean = provenance.Clock()
    assert len(clean.commit) == 40 and clean.dirty is False
    module.write_text("changed")
    changed = provenance.Clock()
    assert changed.commit == clean.commit and changed.dirty is True


def test_the_packages_are_the_pinned_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(pin.split("==") for pin in project["dependencies"])
    assert set(provenance.PACKAGES) <= set(pins)
    for name in provenance.PACKAGES:
        assert provenance.version(name).split("+")[0] == pins[name]
