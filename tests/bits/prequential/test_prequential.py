"""A network that learns what it has coded: the decoder learns the same, alone and as one input of the mixer."""

import dataclasses
import math
import random
import subprocess
import sys

import numpy
import pytest

from nutshell.bits import mixing, prequential
from nutshell.bits.prequential import Damaged, Settings
from nutshell.bits.prequential.network import Learner, one_thread
from tests.bits.mixing.test_mixing import CONTENTS, TEXT
from tests.conftest import ROOT

SMALL = Settings(lanes=3, segment=16, stretch=8, hidden=24, replays=1)
LAYERED = Settings(lanes=1, segment=24, stretch=8, hidden=16, layers=2)
RAW = 2 * TEXT.encode() + b"\xff\0"


def alone(settings: Settings) -> Settings:
    return dataclasses.replace(settings, mixed=False)


@pytest.mark.parametrize("settings", [SMALL, alone(SMALL)], ids=["mixed", "alone"])
@pytest.mark.parametrize("raw", CONTENTS.values(), ids=CONTENTS)
def test_every_content_comes_back(raw, settings):
    raw = raw[:150]
    body = prequential.compress(raw, settings)
    assert prequential.decompress(body, len(raw), settings) == raw


@pytest.mark.parametrize(
    "settings", [LAYERED, alone(LAYERED), Settings(lanes=200, hidden=32), Settings(segment=32, hidden=32)]
)
def test_every_setting_comes_back(settings):
    assert prequential.decompress(prequential.compress(RAW, settings), len(RAW), settings) == RAW


def expectations(raw: bytes, settings: Settings) -> list[numpy.ndarray]:
    """By step of the lanes: the frequencies (lanes, 256), taken before its bytes were told."""
    steps = []
    with one_thread():
        learner = Learner(settings, len(raw) // settings.lanes)
        for start in range(0, len(raw), settings.lanes):
            steps.append(learner.frequencies())
            learner.tell(raw[start : start + settings.lanes])
    return steps


def test_a_body_costs_what_the_network_expects():
    raw = TEXT.encode()[:240]
    interleaved = bytes(raw[lane * 80 + step] for step in range(80) for lane in range(3))
    rows = numpy.concatenate(expectations(interleaved, SMALL))
    bits = math.fsum(math.log2(row.sum() / row[byte]) for row, byte in zip(rows, interleaved, strict=True))
    assert bits / 8 - 1 <= len(prequential.compress(raw, alone(SMALL))) <= bits / 8 * 1.0001 + 3


def test_a_byte_changes_no_earlier_expectation():
    raw, place = TEXT.encode()[:240], 100
    other = raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :]
    pairs = [
        numpy.array_equal(*pair) for pair in zip(expectations(raw, SMALL), expectations(other, SMALL), strict=True)
    ]
    assert all(pairs[: place // 3 + 1]) and not any(pairs[place // 3 + 1 :])


def test_an_expectation_is_a_table_that_a_coder_takes():
    for frequencies in expectations(RAW[:60], SMALL):
        assert frequencies.min() >= 1 and (abs(frequencies.sum(-1) - (1 << 24)) <= 256).all()


def test_the_network_learns():
    raw = 30 * TEXT.encode()[:100]
    settings = Settings(mixed=False, lanes=2, segment=32, stretch=16, hidden=64, rate_millionths=20000)
    assert len(prequential.compress(raw, settings)) < 0.7 * len(raw)


def test_the_mixer_uses_what_the_network_expects():
    """A better expectation makes a shorter code, and one that is wrong costs little."""
    raw, sizes = random.Random(2).randbytes(1000), {}
    for kind, weight in (("right", 1 << 20), ("none", 1), ("wrong", 1 << 20)):
        frequencies = numpy.ones((len(raw), 256), numpy.int64)
        for row, byte in zip(frequencies, raw, strict=True):
            row[byte ^ (kind == "wrong")] = weight
        mixer = mixing.Mixer(len(raw))
        mixer.encode(raw, frequencies)
        sizes[kind] = len(mixer.finish())
        decoder = mixing.Mixer(len(raw), body=mixer.finish())
        assert decoder.decode(len(raw), frequencies) == raw
    assert sizes["right"] < 200 and sizes["wrong"] < 250 and sizes["none"] > 990


def learned() -> str:
    """The digest of a network after some bytes, and the path that it came by."""
    settings = Settings(lanes=2, segment=16, stretch=8, hidden=32, replays=1)
    with one_thread():
        learner = Learner(settings, 64)
        for step in range(64):
            learner.frequencies()
            learner.tell(bytes([step, 255 - step]))
    return f"{learner.digest()} {prequential.fingerprint(SMALL)}"


def test_two_processes_learn_the_same():
    script = f"from {__name__} import learned; print(learned())"
    run = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, cwd=ROOT, text=True)
    assert run.stdout.strip() == learned() and "1 thread" in learned()


def test_the_fingerprint_is_of_this_processor_path():
    import torch

    assert torch.__version__ in prequential.fingerprint(SMALL)
    assert torch.backends.cpu.get_cpu_capability() in prequential.fingerprint(SMALL)
    assert prequential.fingerprint(SMALL) == prequential.fingerprint(SMALL) != prequential.fingerprint(LAYERED)


@pytest.mark.parametrize("settings", [SMALL, alone(SMALL)], ids=["mixed", "alone"])
def test_a_damaged_body_gives_another_text_or_is_damaged(settings):
    raw, generator, refused = RAW[:300], random.Random(4), 0
    body = prequential.compress(raw, settings)
    with pytest.raises(Damaged):
        prequential.decompress(body, 10**15, settings)
    for damage in range(12):
        changed = bytearray(body)
        if damage % 3:
            changed[generator.randrange(len(body))] ^= 1 << generator.randrange(8)
        else:
            del changed[generator.randrange(len(body)) :]
        try:
            assert prequential.decompress(bytes(changed), len(raw), settings) != raw
        except Damaged:
            refused += 1
    assert refused >= 4


def test_settings_are_few_bytes():
    assert len(Settings().to_bytes()) <= 24
    for settings in (Settings(), SMALL, alone(LAYERED), Settings(seed=2**32 - 1, segment=65000, stretch=1000)):
        assert Settings.from_bytes(settings.to_bytes()) == settings
    with pytest.raises(Damaged, match="bytes of settings"):
        Settings.from_bytes(b"abc")
    with pytest.raises(Damaged, match="lanes of 0: 1 to 255"):
        Settings(lanes=0)
    with pytest.raises(Damaged, match="a segment of 100 bytes is no number of stretches of 64"):
        Settings(segment=100, stretch=64)


def test_progress_is_told_and_the_threads_stay_as_they_were():
    import torch

    before, progress = torch.get_num_threads(), []
    prequential.compress(RAW[:100], SMALL, lambda *done: progress.append(done))
    assert progress[-1] == (100, 100) and torch.get_num_threads() == before
