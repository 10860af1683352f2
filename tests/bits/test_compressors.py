"""The compressors' figures against the command-line tools of the same names, and decoded."""

import bz2
import gzip
import hashlib
import lzma
import shutil
import subprocess

import numpy
import pyppmd
import pytest

from nutshell.bits.baselines import compressors
from nutshell.data.datasets import TextData
from nutshell.data.text import documents

TEXTS = ["Über den Fluß ging 猫.\r\n" * 40, "und 🐈\n", "\0 ohne Ende"]
NAMES = ["gzip -9", "bzip2 -9", "xz -9e"]
BYTES = sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["short", "sample_text"])
def test_equal_to_the_command_line(name, which):
    """To the byte for bzip2; gzip's own deflate and xz's block headers may differ a little from the libraries'."""
    if not shutil.which(name.split()[0]):
        pytest.skip(f"no {name.split()[0]} here")
    texts = TEXTS if which == "short" else documents.load(TextData(name="sample_text")).test.documents
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
    values = compressors.bits_per_byte(TEXTS)
    assert values == {name: 8 * len(packed[name]) / BYTES for name in NAMES}


def test_the_same_every_time_and_however_the_text_is_divided():
    assert compressors.bits_per_byte(TEXTS) == compressors.bits_per_byte(["".join(TEXTS)])


def test_order_of_magnitude():
    """A repeated line costs next to nothing; English reference text about two bits."""
    assert all(bits < 0.1 for bits in compressors.bits_per_byte(["The same line again.\n" * 5000]).values())
    chapters = documents.load(TextData(name="sample_text")).train.documents
    assert all(1.5 < bits < 3.5 for bits in compressors.bits_per_byte(chapters).values())


CONTENTS = {
    "one byte": b"a",
    "text": "".join(TEXTS).encode(),
    "all bytes": bytes(range(256)) * 3,
    "zeros": bytes(5000),
    "random": numpy.random.default_rng(0).bytes(5000),
}


@pytest.mark.parametrize("word", compressors.COMPRESSORS)
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_counted_decodes(word, content):
    if word not in compressors.installed():
        pytest.skip(f"no {word} here")
    raw, compressor = CONTENTS[content], compressors.COMPRESSORS[word]
    assert compressor.decompress(compressor.compress(raw)) == raw
    code = compressors.measure("a text", raw, compressor)
    assert (code.name, code.kind) == (compressor.name, "compressor")
    assert (code.text, code.text_bytes) == ("a text", len(raw))
    assert code.code_bytes == len(compressor.compress(raw)) == code.total_bytes
    assert code.text_sha256 == hashlib.sha256(raw).hexdigest()
    assert code.compress_seconds > 0 < code.decompress_seconds


def test_the_order_of_ppmd_is_the_best_one_and_in_its_bytes():
    """Against the library, called by hand."""
    raw = "".join(documents.load(TextData(name="sample_text")).test.documents).encode()
    packed = compressors.COMPRESSORS["ppmd"].compress(raw)
    sizes = {order: len(pyppmd.compress(raw, max_order=order, mem_size=256 << 20)) for order in (4, 6, 8, 12)}
    assert len(packed) == 1 + min(sizes.values()) and sizes[packed[0]] == min(sizes.values())
    assert len(set(sizes.values())) > 1


@pytest.mark.parametrize("name", ["zstd --ultra -22 --long=27", "brotli -q 11"])
def test_as_small_as_the_program_of_that_name(name):
    if not shutil.which(name.split()[0]):
        pytest.skip(f"no {name.split()[0]} here")
    raw = "".join(documents.load(TextData(name="sample_text")).train.documents).encode()
    theirs = len(subprocess.run([*name.split(), "-c"], input=raw, capture_output=True, check=True).stdout)
    assert len(compressors.COMPRESSORS[name.split()[0]].compress(raw)) == pytest.approx(theirs, abs=16)


def test_ordered_as_the_literature_has_them():
    """Context mixing before prediction by partial matching, before sorting, before dictionaries."""
    raw = "".join(documents.load(TextData(name="sample_text")).train.documents).encode()
    words = [word for word in ("zpaq", "ppmd", "bzip2", "xz", "gzip") if word in compressors.installed()]
    sizes = [len(compressors.COMPRESSORS[word].compress(raw)) for word in words]
    assert sizes == sorted(sizes)


def _fail(code: bytes) -> bytes:
    raise ValueError("is damaged")


@pytest.mark.parametrize("decompress", [lambda code: code + b"!", _fail])
def test_a_decoder_that_returns_no_text_has_no_size(decompress):
    code = compressors.measure("a text", b"of this", compressors.Compressor("broken", bytes, decompress))
    assert code.code_bytes is code.total_bytes is code.bits_per_byte is None


def test_a_program_that_is_not_there_is_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert compressors.installed() == ["gzip", "bzip2", "xz", "zstd", "brotli", "ppmd"]
