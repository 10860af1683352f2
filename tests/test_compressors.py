"""The compressors' figures against the command-line tools of the same names."""

import bz2
import gzip
import lzma
import shutil
import subprocess

import pytest

from nutshell.bits import baselines as compressors
from nutshell.data import documents
from nutshell.experiment.blocks import TextData

TEXTS = ["Über den Fluß ging 猫.\r\n" * 40, "und 🐈\n", "\0 ohne Ende"]
NAMES = ["gzip -9", "bzip2 -9", "xz -9e"]
BYTES = sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["short", "sample_text"])
def test_equal_to_the_command_line(name, which):
    """To the byte for bzip2; gzip's own deflate and xz's block headers may differ a little from the libraries'."""
    if not shutil.which(name.split()[0]):
        pytest.skip(f"no {name.split()[0]} here")
    texts = TEXTS if which == "short" else documents.load(TextData(name="sample_text")).test.texts
    raw = "".join(texts).encode()
    theirs = len(subprocess.run(name.split(), input=raw, capture_output=True, check=True).stdout)
    ours = compressors.bits_per_byte(texts)[name] * len(raw) / 8
    allowed = {"gzip -9": 8 + 0.002 * theirs, "bzip2 -9": 0.001, "xz -9e": 32}[name]
    assert ours == pytest.approx(theirs, abs=allowed)


def test_what_is_counted_holds_the_whole_text(monkeypatch):
    packed = {}
    for name, library in zip(NAMES, (gzip, bz2, lzma), strict=True):

        def compress(raw, *args, name=name, library=library, before=library.compress, **more):
            packed[name] = before(raw, *args, **more)
            assert library.decompress(packed[name]) == "".join(TEXTS).encode()
            return packed[name]

        monkeypatch.setattr(library, "compress", compress)
    found = compressors.bits_per_byte(TEXTS)
    assert found == {name: 8 * len(packed[name]) / BYTES for name in NAMES}


def test_the_same_every_time_and_however_the_text_is_divided():
    assert compressors.bits_per_byte(TEXTS) == compressors.bits_per_byte(["".join(TEXTS)])


def test_order_of_magnitude():
    """A repeated line costs next to nothing; English reference text about two bits."""
    assert all(bits < 0.1 for bits in compressors.bits_per_byte(["The same line again.\n" * 5000]).values())
    chapters = documents.load(TextData(name="sample_text")).train.texts
    assert all(1.5 < bits < 3.5 for bits in compressors.bits_per_byte(chapters).values())
