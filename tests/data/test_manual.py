"""The embedded text: which one it is, that it is the same on every system, and what is refused where it is another."""

import hashlib
import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from nutshell.data.datasets import TextData
from nutshell.data.samples import manual
from nutshell.data.text import documents
from nutshell.machine.errors import UserError
from tests.conftest import ROOT

INSTALLED = Path(distribution("scipy").locate_file("scipy/stats"))


@pytest.fixture
def scipy(tmp_path, monkeypatch):
    """A function that puts a scipy of another version, or with other files, before the installed one."""

    def install(version: str, change=lambda raw: raw) -> None:
        for file in (INSTALLED / f"{name}.py" for name in manual.FILES):
            copy = tmp_path / "scipy/stats" / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(change(file.read_bytes()))
        metadata = tmp_path / f"scipy-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: scipy\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_the_text_has_the_digest_and_the_size_that_results_were_measured_with():
    texts = manual.chapters()
    assert hashlib.sha256(json.dumps(texts).encode()).hexdigest() == manual.SHA256
    assert len(texts) == 62 and sum(len(text.encode()) for text in texts) == 410_201


def test_its_version_is_the_pinned_one():
    assert f"scipy=={manual.VERSION}" in (ROOT / "pyproject.toml").read_text()


def test_scipy_is_read_but_not_imported():
    code = "import sys; from nutshell.data.samples import manual; manual.chapters(); sys.exit('scipy' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_the_same_text_with_the_line_ends_of_windows(scipy):
    texts = manual.chapters()
    scipy(manual.VERSION, lambda raw: raw.replace(b"\n", b"\r\n"))
    assert manual.chapters() == texts


def test_other_versions_with_the_same_text_are_welcome(scipy):
    texts = manual.chapters()
    scipy("1.17.99")
    assert manual.chapters() == texts


OTHERS = {
    "another version": ("1.18.0", "its text is another; pip install -r requirements.txt"),
    "changed files": (manual.VERSION, "its files have been changed; pip install --force-reinstall --no-deps scipy=="),
}
CHANGES = {
    "one word": lambda raw: raw.replace(b"bootstrap", b"jackknife"),
    "no Python": lambda raw: b"(",
    "no UTF-8": lambda raw: b"# \xff\n",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("which", OTHERS)
def test_another_text_is_refused(which, change, scipy):
    version, remedy = OTHERS[which]
    scipy(version, CHANGES[change])
    with pytest.raises(UserError) as error:
        manual.chapters()
    text = f"data.name: sample_text is the documentation of scipy.stats {manual.VERSION}, but"
    assert str(error.value).startswith(f"{text} scipy {version} is installed and {remedy}")


def test_no_scipy(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=r"but scipy is not installed; pip install -r requirements\.txt"):
        manual.chapters()


def test_fewer_bytes_than_a_document_has():
    with pytest.raises(UserError, match=r"data\.test_bytes: 500 is less than a whole document; the shortest has 3,"):
        documents.load(TextData(name="sample_text", test_bytes=500))
