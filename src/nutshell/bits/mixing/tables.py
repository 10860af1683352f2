"""The tables of the mixer: logistic function, its inverse, reciprocals and bit histories, all made in whole numbers.

A probability is a whole number of 1 / 65,536; a logit (`stretch`) is one of 1 / 256.

Source: Mahoney 2005, "Adaptive weighing of context models for lossless data compression"; the bounds and the discount
of the histories: the ZPAQ specification 2.06, section 4.
"""

from fractions import Fraction

import numpy

CHANCE_BITS, LOGIT_BITS = 16, 8
MOST_LOGIT = 2840  # ln(65,535): squash of it is the last probability below 1
_EXACT_BITS = 128


def squash_table() -> numpy.ndarray:
    """Probabilities 1 / (1 + exp(-x)) of the logits from -MOST_LOGIT to MOST_LOGIT, each in [1, 65,535]."""
    one = 1 << _EXACT_BITS
    step, term = one, Fraction(1)  # exp(1 / 256) by its series
    for power in range(1, 20):
        term /= power << LOGIT_BITS
        step += int(term * one)
    growth, table = one, [1 << (CHANCE_BITS - 1)]
    for _ in range(MOST_LOGIT):
        growth = growth * step >> _EXACT_BITS
        table.append(min((growth << CHANCE_BITS) // (one + growth), (1 << CHANCE_BITS) - 1))
    mirrored = [(1 << CHANCE_BITS) - chance for chance in table[:0:-1]]
    return numpy.array(mirrored + table, dtype=numpy.int32)


def stretch_table(squash: numpy.ndarray) -> numpy.ndarray:
    """Logits of the probabilities 0 to 65,535: the first whose `squash` reaches it."""
    return (numpy.searchsorted(squash, numpy.arange(1 << CHANCE_BITS)) - MOST_LOGIT).clip(max=MOST_LOGIT).astype("i2")


def rate_table() -> numpy.ndarray:
    """By the number of bits that a probability has seen: the share of the error that it learns, of 65,536."""
    return numpy.array([2 * 65536 // (2 * seen + 3) for seen in range(1024)], dtype=numpy.int32)


# By the smaller count, the largest that the other may be.
_BOUNDS = (20, 48, 15, 8, 6, 5)
_LAST_BIT_KEPT = 17


def _fits(zeros: int, ones: int) -> bool:
    fewer, more = sorted((zeros, ones))
    return fewer < len(_BOUNDS) and more <= _BOUNDS[fewer]


def _discount(count: int) -> int:
    return sum(count >= step for step in (1, 2, 3, 4, 5, 7, 8))


def _after(state: tuple[int, int, int], bit: int) -> tuple[int, int, int]:
    counts = list(state[:2])
    mine, other = counts[bit] + 1, _discount(counts[1 - bit])
    while not _fits(mine, other):
        if other < 2:
            mine -= 1
        else:
            mine, other = (mine * (other - 1) + other // 2) // other, other - 1
    counts[bit], counts[1 - bit] = mine, other
    return counts[0], counts[1], bit if min(counts) > 0 and sum(counts) <= _LAST_BIT_KEPT else 0


def history_tables() -> tuple[numpy.ndarray, numpy.ndarray]:
    """The states of a context: how often it saw 0 and 1, and the last bit, with recent bits counting more.

    Returns:
        The next state by state and bit, (256, 2); the counts of zeros and ones, (256, 2). State 0 has seen nothing.
    """
    states = {(0, 0, 0): 0}
    queue = list(states)
    following, counts = numpy.zeros((256, 2), numpy.uint8), numpy.zeros((256, 2), numpy.int32)
    for state in queue:
        counts[states[state]] = state[:2]
        for bit in (0, 1):
            reached = _after(state, bit)
            if reached not in states:
                states[reached] = len(states)
                queue.append(reached)
            following[states[state], bit] = states[reached]
    return following, counts
