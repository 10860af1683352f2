"""Where a number comes from."""

import subprocess

from nutshell.machine import provenance
from tests.conftest import ROOT


def test_commit_and_changes(tmp_path, monkeypatch):
    module = tmp_path / "src" / "provenance.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.begin()["commit"] is None and provenance.begin()["dirty"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    clean = provenance.begin()
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    module.write_text("changed")
    assert provenance.begin()["commit"] == clean["commit"] and provenance.begin()["dirty"] is True


def test_the_packages_are_the_pinned_ones():
    pins = dict(
        line.split("#")[0].strip().split("==")
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    assert set(provenance.PACKAGES) <= set(pins)
    for name in provenance.PACKAGES:
        assert provenance.version(name).split("+")[0] == pins[name]
