"""The context mixer: what goes in comes out, at the price of its own predictions, and nothing knows its own byte."""

import math
import random
import subprocess
import sys

import numpy
import pytest

from nutshell.bits import mixing
from nutshell.bits.coder import Damaged
from nutshell.bits.mixing.tables import MOST_LOGIT, history_tables, squash_table, stretch_table

TEXT = (
    "It was a bright cold day in April, and the clocks were striking thirteen. The film is bright, and the day is "
    "cold; what the clocks say is what the film says.<br /><br />I would not see it again, but I would say that it was "
    "a film of its day. Ten of ten.\n"
)
CONTENTS = {
    "empty": b"",
    "one byte": b"x",
    "one zero": b"\0",
    "zeros": bytes(500),
    "ones": b"\xff" * 500,
    "one letter": b"a" * 3000,
    "text": TEXT.encode(),
    "text twice": 2 * TEXT.encode(),
    "long repeats": 20 * TEXT[:200].encode(),
    "random": random.Random(0).randbytes(700),
    "random twice": 2 * random.Random(1).randbytes(300),
    "all bytes": bytes(range(256)) * 2,
    "bytes downwards": bytes(range(255, -1, -1)),
    "umlauts": "Schöne Grüße aus Köln, für alle Übungen. ".encode() * 5,
    "chinese": "人工智能是一门科学，".encode() * 9,
    "emoji": "🙂🚀👩‍👩‍👧‍👦".encode() * 12,
    "combining": "e\u0301o\u0308".encode() * 40,
    "not utf-8": b"\xc3\x28\xf0\x9f\xed\xa0\x80" * 30,
    "latin-1": "déjà vu, naïve".encode("latin-1") * 9,
    "utf-16": TEXT[:150].encode("utf-16"),
    "windows lines": TEXT.replace(". ", ".\r\n").encode(),
    "old lines": b"a\rb\rc\r" * 30,
    "blank": b" \t\n" * 90,
    "numbers": "".join(f"{number * number}," for number in range(150)).encode(),
    "table": "".join(f"{row}\t{row % 7}\tx\n" for row in range(90)).encode(),
    "upper case": TEXT.upper().encode(),
    "end of text": b"<|endoftext|>" * 20,
    "two bytes": b"ab" * 300,
    "floats": numpy.linspace(0, 1, 90).tobytes(),
}


@pytest.mark.parametrize("raw", CONTENTS.values(), ids=CONTENTS)
def test_every_content_comes_back(raw):
    assert mixing.decompress(mixing.compress(raw), len(raw)) == raw


def chances(raw: bytes) -> list[list[int]]:
    """By byte: the chance of 65,536 of each of its bits."""
    return mixing.Mixer(len(raw)).encode(raw).reshape(-1, 8).tolist()


def test_a_body_costs_what_its_predictions_say():
    raw = 3 * TEXT.encode() + random.Random(5).randbytes(300)
    bits = -math.fsum(math.log2(chance / 65536) for byte in chances(raw) for chance in byte)
    assert bits / 8 - 1 <= len(mixing.compress(raw)) <= bits / 8 * 1.0001 + 3


@pytest.mark.parametrize("place", [0, 1, 100, 239])
def test_a_byte_changes_no_earlier_prediction(place):
    raw = TEXT.encode()[:240]
    other = raw[:place] + bytes([raw[place] ^ 0x01]) + raw[place + 1 :]  # its last bit: seven bits are as before
    assert chances(raw)[:place] == chances(other)[:place]
    assert chances(raw)[place][:7] == chances(other)[place][:7]
    assert chances(raw)[place][7] + chances(other)[place][7] == 65536


def test_text_is_learned_and_random_bytes_are_not():
    """A mixer that knew its own byte would code random bytes too."""
    assert len(mixing.compress(20 * TEXT.encode())) < len(mixing.compress(TEXT.encode())) + 60
    for seed in range(3):
        raw = random.Random(seed).randbytes(1500)
        assert 1500 <= len(mixing.compress(raw)) < 1600


def test_another_process_gives_the_same_body():
    script = "import sys; from nutshell.bits import mixing; sys.stdout.buffer.write(mixing.compress(sys.stdin.buffer.read()))"
    run = subprocess.run([sys.executable, "-c", script], input=TEXT.encode(), stdout=subprocess.PIPE, check=True)
    assert run.stdout == mixing.compress(TEXT.encode())


def refused(body: bytes, raw: bytes) -> bool:
    """Whether a body that is not the text's is refused; if not, it is another text's."""
    try:
        assert mixing.decompress(body, len(raw)) != raw
    except Damaged:
        return True
    return False


def test_a_body_that_is_cut_or_longer_is_damaged():
    raw = 4 * TEXT.encode()
    body = mixing.compress(raw)
    assert sum(refused(body[:kept], raw) for kept in range(0, len(body), 7)) >= len(body) // 7 - 2
    assert all(refused(body + more, raw) for more in (b"\0", b"x", bytes(100)))


def test_a_size_that_no_body_of_that_length_has_is_refused_at_once():
    with pytest.raises(Damaged):
        mixing.decompress(b"abc", 10**15)


def test_a_changed_body_gives_another_text_or_is_damaged():
    raw, generator = 4 * TEXT.encode(), random.Random(3)
    body, count = mixing.compress(raw), 0
    for _ in range(60):
        changed = bytearray(body)
        changed[generator.randrange(len(body))] ^= 1 << generator.randrange(8)
        count += refused(bytes(changed), raw)
    assert count > 40


def test_progress_is_told_to_the_end():
    told = []
    mixing.compress(bytes(40_000), lambda *progress: told.append(progress))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (40_000, 40_000)


def test_squash_is_the_logistic_function_and_stretch_its_inverse():
    squash = squash_table()
    logits = numpy.arange(-MOST_LOGIT, MOST_LOGIT + 1) / 256
    assert numpy.abs(squash - 65536 / (1 + numpy.exp(-logits))).max() <= 1
    assert (squash + squash[::-1] == 65536).all() and (numpy.diff(squash) >= 0).all()
    stretch = stretch_table(squash)
    inner = numpy.arange(300, 65236)
    assert numpy.abs(stretch[inner] / 256 - numpy.log(inner / (65536 - inner))).max() < 0.01


def test_a_history_says_what_was_seen():
    following, counts = history_tables()
    assert counts[0].tolist() == [0, 0]
    state = 0
    for bit in [1, 1, 1, 0]:
        state = following[state, bit]
    assert counts[state].tolist() == [1, 3]
    for bit in (0, 1):
        state = 0
        for _ in range(100):
            state = following[state, bit]
        assert counts[state][bit] > 15 and counts[state][1 - bit] == 0
