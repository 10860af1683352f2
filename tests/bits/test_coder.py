"""The range coder: what goes in comes out, in as many bytes as it is worth."""

import math
import random

import constriction
import numpy
import pytest

from nutshell.bits.coder import MOST_TOTAL, Damaged, Decoder, Encoder


def code(parts) -> bytes:
    encoder = Encoder()
    for part in parts:
        encoder.encode(*part)
    return encoder.finish()


def decode(body, parts) -> None:
    decoder = Decoder(body)
    for start, frequency, total in parts:
        assert start <= decoder.target(total) < start + frequency
        decoder.take(start, frequency)
    decoder.end()


def draw(generator: random.Random, count: int) -> list[tuple[int, int, int]]:
    """Symbols that are likely, unlikely, certain, first and last, of any total."""
    parts = []
    for _ in range(count):
        total = generator.choice([1, 2, 16, 1000, 2**24 + 7, 2**32 + 2048, MOST_TOTAL])
        frequency = generator.choice([1, total, max(1, total - 1), generator.randint(1, total)])
        parts.append(
            (generator.choice([0, total - frequency, generator.randint(0, total - frequency)]), frequency, total)
        )
    return parts


@pytest.mark.parametrize("seed", range(40))
def test_symbols_come_back_at_their_price(seed):
    generator = random.Random(seed)
    parts = draw(generator, generator.choice([0, 1, 2, 50, 3000]))
    body = code(parts)
    decode(body, parts)
    bits = math.fsum(math.log2(total / frequency) for _, frequency, total in parts)
    waste = math.fsum(math.log2(1 + total / 2**48) for *_, total in parts)
    assert bits / 8 - 1 <= len(body) <= (bits + waste) / 8 + 3


@pytest.mark.parametrize("side", ["first", "last"])
def test_carries_go_through_long_runs(side):
    """Ever the last part of the interval: words of ones, which a carry at the end turns into zeros; and the first."""
    total = 2**32
    parts = [(0 if side == "first" else total - 1, 1, total)] * 500 + [(total - 2, 1, total), (total - 1, 1, total)] * 9
    decode(code(parts), parts)


def test_nothing_is_no_byte():
    assert code([]) == b"" and code([(0, 7, 7)] * 1000) == b""


def test_a_body_that_ends_early_is_damaged():
    decoder = Decoder(code([(0, 1, 3)] * 100)[:10])
    with pytest.raises(Damaged, match="ends before"):
        for _ in range(100):
            decoder.target(3)
            decoder.take(0, 1)


def test_bytes_that_are_left_are_damage():
    parts = [(0, 1, 3)] * 100
    with pytest.raises(Damaged, match="left"):
        decode(code(parts) + bytes(9), parts)


def test_as_short_as_a_trusted_coder():
    """Constriction's range coder with the same probabilities."""
    generator = numpy.random.default_rng(0)
    weights = generator.integers(1, 1000, 64)
    symbols = generator.choice(64, 20_000, p=weights / weights.sum())
    starts, total = weights.cumsum() - weights, int(weights.sum())
    ours = len(code([(int(starts[s]), int(weights[s]), total) for s in symbols]))
    other = constriction.stream.queue.RangeEncoder()
    model = constriction.stream.model.Categorical(weights / weights.sum(), perfect=True)
    other.encode(symbols.astype(numpy.int32), model)
    assert ours <= 4 * len(other.get_compressed()) + 1
