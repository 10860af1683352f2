"""What the mixer knows after the bytes that were coded: counters, weights and places, in arrays of whole numbers."""

from typing import NamedTuple

import numpy

from nutshell.bits.mixing import tables

CONTEXTS = 18
INPUTS_PER_CONTEXT = 4  # the history's probability as a logit and as it is; the node's own; the run's
OTHER_INPUTS = 7  # two matches and the outer frequencies, each as a logit and as it is; a constant
INPUTS = CONTEXTS * INPUTS_PER_CONTEXT + OTHER_INPUTS
# How many weight sets each selector of the first layer chooses from.
SELECTORS = (256, 32 * 8, 256, 8 * 8, 8 * 256, 256 * 8, 8 * 256, 32 * 8)
NODES = 16  # in a bucket: a checksum, then the 15 nodes of half a byte's tree
MOST_BUCKETS_BITS = 20
MATCHES = ((6, 16), (12, 18))  # bytes that a match needs at least, and bits of its table
LONGEST_MATCH = 31
REFINEMENTS, REFINED = 4, 1 << 16
STEPS = 33
_WEIGHT = 1 << 20
CODE_BITS = 56  # of the interval of the binary coder


class State(NamedTuple):
    """Arrays alone, because the compiled code takes nothing else. A counter is a probability and how often it learned.

    Counters are uint32: 22 bits of probability, 10 of the count. `chances` has a bucket's checksum in place of node 0.
    """

    squash: numpy.ndarray
    stretch: numpy.ndarray
    rates: numpy.ndarray
    following: numpy.ndarray
    seen: numpy.ndarray  # by history: how many bits
    first_buckets: numpy.ndarray  # by context: where its buckets begin
    bucket_bits: numpy.ndarray
    histories: numpy.ndarray
    chances: numpy.ndarray
    runs: numpy.ndarray  # by bucket: the last byte, and how often in a row
    history_counters: numpy.ndarray
    run_counters: numpy.ndarray
    match_counters: numpy.ndarray
    match_heads: numpy.ndarray  # by match model and hash: where the text went on after the same bytes
    refinements: numpy.ndarray  # by model, context and step of the logit: probability
    weights: numpy.ndarray
    final_weights: numpy.ndarray
    text: numpy.ndarray  # what was coded, in the order of coding
    lanes: numpy.ndarray  # by lane: LANE_FIELDS of model.py
    now: numpy.ndarray  # NOW_FIELDS of model.py: what predict leaves for update
    outer: numpy.ndarray  # by byte: another model's frequency
    hashes: numpy.ndarray
    roots: numpy.ndarray  # by context: where the bucket of the present half byte begins
    run_places: numpy.ndarray
    places: numpy.ndarray
    inputs: numpy.ndarray
    chosen: numpy.ndarray
    dots: numpy.ndarray
    outputs: numpy.ndarray


def fresh_state(size: int, lanes: int = 1) -> State:
    """A state that has seen nothing.

    Args:
        size: Bytes that will be coded: the tables are made for so many.
        lanes: Texts that are coded in turn, a byte of each.
    """
    squash = tables.squash_table()
    following, counts = tables.history_tables()
    bits = numpy.full(CONTEXTS, min(MOST_BUCKETS_BITS, max(10, size.bit_length())))
    bits[:3] = numpy.minimum(bits[:3], (4, 13, 18))  # orders 0, 1 and 2 have no more contexts
    buckets = int((1 << bits).sum())
    zeros, ones = counts.T
    steps = numpy.arange(STEPS) * 128 - STEPS // 2 * 128
    weights = numpy.zeros((sum(SELECTORS), INPUTS), numpy.int32)
    weights[:, : CONTEXTS * INPUTS_PER_CONTEXT : 2] = _WEIGHT * 3 // 2 // CONTEXTS
    for place in range(3, CONTEXTS * INPUTS_PER_CONTEXT, INPUTS_PER_CONTEXT):
        weights[:, place - 1 : place + 1] = _WEIGHT * 3 // 2 // CONTEXTS, 0
    run_chances = (numpy.arange(256) + 1 << 16) // (numpy.arange(256) + 2)
    return State(
        squash,
        tables.stretch_table(squash),
        tables.rate_table(),
        following,
        (zeros + ones).astype(numpy.int32),
        numpy.concatenate(([0], numpy.cumsum(1 << bits)[:-1])),
        bits,
        numpy.zeros(buckets * NODES, numpy.uint8),
        numpy.zeros(buckets * NODES, numpy.uint32),
        numpy.zeros(buckets, numpy.uint16),
        numpy.tile(_counters(((2 * ones + 1) << 16) // (2 * (zeros + ones + 1))), (CONTEXTS, 1)),
        numpy.tile(_counters(run_chances), (CONTEXTS, 1)),
        numpy.tile(_counters(run_chances[: LONGEST_MATCH + 1]), (len(MATCHES), 1)),
        numpy.zeros((len(MATCHES), 1 << max(bits for _, bits in MATCHES)), numpy.int64),
        numpy.tile(
            squash[(steps + tables.MOST_LOGIT).clip(0, 2 * tables.MOST_LOGIT)].astype(numpy.uint16),
            (REFINEMENTS, REFINED, 1),
        ),
        weights,
        numpy.full((256, len(SELECTORS)), _WEIGHT // len(SELECTORS), numpy.int32),
        numpy.zeros(size, numpy.uint8),
        numpy.zeros((lanes, 16), numpy.int64),
        numpy.zeros(32, numpy.int64),
        numpy.zeros(256, numpy.int64),
        *(numpy.zeros(CONTEXTS, numpy.int64) for _ in range(4)),
        numpy.zeros(INPUTS, numpy.int32),
        *(numpy.zeros(len(SELECTORS), numpy.int64) for _ in range(3)),
    )


def _counters(chances: numpy.ndarray) -> numpy.ndarray:
    return chances.clip(64, 65536 - 64).astype(numpy.uint32) << 16
