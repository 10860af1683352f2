"""Whatever goes in comes out, in as many bytes as the model says."""

import io
import lzma
import math
import random
import time
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
import torch

from nutshell.bits import prequential
from nutshell.bits.codec import learning, stream
from nutshell.bits.codec.container import EXACT, NATIVE, PREQUENTIAL, Reader, Segment
from nutshell.bits.coder import Damaged
from nutshell.data.encoding import vocabularies
from nutshell.data.text.windows import windows
from nutshell.machine.errors import UserError
from nutshell.models.find import read_config
from nutshell.models.language import build
from nutshell.runs import coding
from tests.bits.codec.conftest import CONTENTS, GOLDEN, TEXT, pack, unpack


@pytest.mark.parametrize("arithmetic", [EXACT, NATIVE])
@pytest.mark.parametrize("lanes", [1, 7, 32, 64])
def test_every_content_comes_back(arithmetic, lanes, coders):
    coder = coders(arithmetic, lanes)
    for name, whole in CONTENTS.items():
        raw = whole[: 150 * min(lanes, 8)]
        content, facts = pack(raw, coder)
        assert unpack(content, coder) == raw, name
        assert facts.file_bytes == len(content) and facts.size_bytes == len(raw)
        if facts.coded_bytes:
            assert facts.body_bytes <= facts.ideal_bits / 8 * 1.0001 + 3


@pytest.mark.parametrize("arithmetic", [EXACT, NATIVE])
def test_a_text_of_the_models_kind_is_coded(arithmetic, coders):
    content, facts = pack(TEXT, coders(arithmetic, 2))
    assert facts.coded_bytes == len(TEXT) and len(content) < len(lzma.compress(TEXT)) * 0.8


def test_the_file_of_an_earlier_version_decodes(coders):
    assert unpack((GOLDEN / "text.nut").read_bytes(), coders(EXACT)) == TEXT


def test_the_same_file_as_earlier(coders):
    assert pack(TEXT, coders(EXACT, 3))[0] == (GOLDEN / "text.nut").read_bytes()


def test_all_that_is_not_a_body_is_short(coders):
    for arithmetic in (EXACT, NATIVE):
        content, facts = pack(TEXT, coders(arithmetic, 1))
        assert len(content) - facts.body_bytes < 120 + 8  # and what a segment says of itself


def test_every_segment_is_coded_by_itself(coders, monkeypatch):
    monkeypatch.setattr(coding.ModelCoder, "segment_bytes", 150)
    for arithmetic in (EXACT, NATIVE):
        content, facts = pack(TEXT[:400], coders(arithmetic, 2))
        reader = Reader(io.BytesIO(content), "x")
        assert [segment.size for segment in reader.segments()] == [150, 150, 100] and facts.coded_bytes == 400
        assert unpack(content, coders(arithmetic)) == TEXT[:400]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_short_windows(window):
    for arithmetic in (EXACT, NATIVE):
        coder = coding.load(GOLDEN, arithmetic, window=window, lanes=2)
        assert unpack(pack(TEXT[:60], coder)[0], coder) == TEXT[:60]


def test_a_segment_that_is_too_large_is_damage(coders):
    coder = coders(EXACT)
    for segment in (Segment(1, 1 << 21, b"", 9, 1), Segment(1, 5000, b"", 5000, 2000)):
        with pytest.raises(Damaged, match="too large"):
            coder.decode(segment, lambda _: None)


def test_more_lanes_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr(coding.psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 20))
    with pytest.raises(UserError, match=r"1,000 lanes of windows of 64 tokens need 0.0 GiB, and 0.0 GiB are free"):
        coding.load(GOLDEN, EXACT, lanes=1000)


def test_what_is_stored_needs_no_model(coders):
    content, _ = pack(CONTENTS["random bytes"], coders(EXACT))
    target = io.BytesIO()
    stream.decompress(Reader(io.BytesIO(content), "x.nut"), target, lambda _: pytest.fail("asks for a model"))
    assert target.getvalue() == CONTENTS["random bytes"]


SEGMENT_BYTES = 5000


class Cheap:
    """Codes nothing."""

    segment_bytes = SEGMENT_BYTES

    def __init__(self, header):
        self.header = header

    def encode(self, raw, listen):
        return None


@pytest.mark.parametrize("end", [b"", b"a", "猫".encode(), "🐚".encode(), b"\x80\x80\x80\x80\x80", b"\xf0\x9f"])
def test_long_texts_are_cut_between_characters(end, coders):
    """At every place that a character can have before the cut."""
    coder = Cheap(coders(EXACT).header)
    for place in range(6):
        raw = b"x" * (SEGMENT_BYTES - place) + end + b"y" * SEGMENT_BYTES + end
        content, facts = pack(raw, coder)
        assert unpack(content, coder) == raw and facts.size_bytes == len(raw)
        sizes = [segment.size for segment in Reader(io.BytesIO(content), "x").segments()]
        starts = numpy.cumsum([0, *sizes])
        if end[:1] != b"\x80":
            assert all(raw[start] & 0xC0 != 0x80 for start in starts[:-1])


def test_bits_are_those_of_the_language_model(coders):
    """The ideal bits are the nats of task: language_model's windows of the same stride, in fp32."""
    model, vocabulary = build.load(GOLDEN).eval(), vocabularies.of_checkpoint(GOLDEN, read_config(GOLDEN))
    raw = TEXT[:400]
    ids = [vocabulary.end_of_text, *vocabulary.tokenizer.encode(raw.decode()).ids, vocabulary.end_of_text]
    cut = windows(numpy.array(ids), vocabulary, block_tokens=64, stride=32, count_ends=False)
    nats = 0.0
    for begin, end, scored in cut.spans:
        with torch.no_grad():
            costs = model.token_nats(torch.tensor([ids[begin:end]]))[0]
        scored_costs = costs[len(costs) - scored :]
        nats += scored_costs[: len(scored_costs) - (end == len(ids))].double().sum().item()
    for arithmetic in (EXACT, NATIVE):
        _, facts = pack(raw, coders(arithmetic, 1))
        assert facts.ideal_bits == pytest.approx(nats / math.log(2), rel=1e-4)
        assert facts.body_bytes <= facts.ideal_bits / 8 * 1.0001 + 3


def damage(generator: random.Random, content: bytes) -> bytes:
    """A file with bits flipped, bytes cut, added or swapped; in half of the cases with its checksum repaired."""
    changed = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 5])):
        kind, place = generator.randrange(5), generator.randrange(5, len(changed))
        if kind == 0:
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            del changed[place : place + generator.randint(1, 9)]
        elif kind == 3:
            changed[place:place] = bytes(generator.randrange(256) for _ in range(generator.randint(1, 9)))
        else:
            other = generator.randrange(5, len(changed))
            changed[place], changed[other] = changed[other], changed[place]
        if len(changed) < 60:
            break
    if generator.random() < 0.5 and len(changed) > 4:
        changed[-4:] = zlib.crc32(changed[:-4]).to_bytes(4, "little")
    return bytes(changed)


def test_damaged_files_are_refused(coders):
    """200 of them, of every kind: none decodes to another text, none ends in another error, or takes long."""
    generator, learner = random.Random(13), learning.Learning(prequential.Settings(segment=8, stretch=4, hidden=8))
    text = TEXT[:300]
    kinds = [(pack(text, coder)[0], text, coder) for coder in (coders(EXACT, 3), coders(NATIVE, 3), learner)]
    kinds.append((pack(CONTENTS["random bytes"], coders(EXACT))[0], CONTENTS["random bytes"], coders(EXACT)))
    begin = time.perf_counter()
    for whole, text, coder in kinds:
        assert unpack(whole, coder) == text
    whole_seconds, begin, refused = time.perf_counter() - begin, time.perf_counter(), 0
    for number in range(200):
        whole, text, coder = kinds[number % 4]
        content = damage(generator, whole)
        try:
            assert unpack(content, coder) == text  # a bit may be one that nothing depends on
        except UserError as error:
            refused += 1
            assert str(error).startswith("text.nut: is") and "\n" not in str(error)
    assert refused >= 190 and time.perf_counter() - begin < 2 * 200 / 4 * whole_seconds


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip", "is no file of nutshell compress"),
        (b"\x89NUT\x07 of the future", "is of version 7"),
        (b"\x89NUT\x01", "is damaged or cut short"),
        (b"\x89N", "is damaged or cut short"),
    ],
)
def test_what_is_no_file(content, reason, coders):
    with pytest.raises(UserError, match=reason):
        unpack(content, coders(EXACT))


def test_causality(coders):
    """What is coded does not depend on what comes after it: the bodies of texts with one beginning share theirs."""
    coder = coders(EXACT, 1)
    first, second = TEXT[:300] + b"X" + TEXT[301:], TEXT
    bodies = [next(iter(Reader(io.BytesIO(pack(raw, coder)[0]), "x").segments())).body for raw in (first, second)]
    assert bodies[0][:60] == bodies[1][:60] and bodies[0] != bodies[1]


def test_a_window_that_the_model_has_not(coders):
    with pytest.raises(UserError, match=r"a window of 65 tokens is more than .* can be fed: 64"):
        coding.load(GOLDEN, EXACT, window=65)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"environment": ("fp32", "1", "AVX9", torch.__version__)},
            "decodes only where it was made: with AVX9 and torch",
        ),
        ({"environment": ("fp32", "1", torch.backends.cpu.get_cpu_capability(), "0.1")}, "and torch 0.1; here are"),
        ({"environment": ("fp8", "1", torch.backends.cpu.get_cpu_capability(), torch.__version__)}, "here are"),
        ({"environment": ("fp32", "-1", torch.backends.cpu.get_cpu_capability(), torch.__version__)}, "here are"),
        ({"environment": ()}, "names no environment"),
        ({"tables": bytes(8)}, "computes other numbers than the one it was made on: its processor"),
    ],
)
def test_native_files_of_another_machine(changes, reason, coders):
    header = replace(coders(NATIVE).header, **changes)
    with pytest.raises(UserError, match=f"x.nut: .*{reason}"):
        coding.of_header(header, GOLDEN, "x.nut")


def test_native_files_are_decoded_with_their_threads(coders):
    """As many as the file names, whatever this process has."""
    before = torch.get_num_threads()
    try:
        coder = coding.load(GOLDEN, NATIVE, threads=3)
        content, _ = pack(TEXT, coder)
        torch.set_num_threads(1)
        decoder = coding.of_header(Reader(io.BytesIO(content), "x").header, GOLDEN, "x.nut")
        assert torch.get_num_threads() == 3 and unpack(content, decoder) == TEXT
    finally:
        torch.set_num_threads(before)


def test_a_network_that_learns_comes_back():
    """The whole of a text, and of nothing; a file that another processor made is refused."""
    coder = learning.Learning(prequential.Settings(lanes=3, segment=8, stretch=4, hidden=8))
    for raw in (b"", b"a", TEXT, b"a word, and another " * 50):
        content, facts = pack(raw, coder)
        reader = Reader(io.BytesIO(content), "x.nut")
        assert unpack(content, learning.of_header(reader.header, "x.nut")) == raw
        assert len(content) - facts.body_bytes < 130 or not facts.coded_bytes
    assert reader.header.arithmetic == PREQUENTIAL
    for changes, reason in (
        ({"tables": bytes(8)}, "the processors or libraries differ"),
        ({"environment": ("AVX9", "2")}, "made with AVX9 and torch 2, here are"),
        ({"weights": bytes(8)}, "its settings are not those that their digest is of"),
    ):
        with pytest.raises(UserError, match=reason):
            learning.of_header(replace(reader.header, **changes), "x.nut")
