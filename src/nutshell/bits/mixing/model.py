"""The predictions, compiled: contexts, counters, mixer and refinement.

`predict` is given the state alone, and `update` tells it each bit afterwards: no prediction can know its own bit.

Source: Mahoney 2005, "Adaptive weighing of context models for lossless data compression"; Mahoney 2013, "Data
compression explained", chapters 4.2 and 4.3.
"""

import numba
import numpy

from nutshell.bits.mixing.state import CONTEXTS, INPUTS, LONGEST_MATCH, MATCHES, NODES, REFINEMENTS, SELECTORS, STEPS
from nutshell.bits.mixing.state import INPUTS_PER_CONTEXT as PER_CONTEXT
from nutshell.bits.mixing.tables import MOST_LOGIT

LAYER = len(SELECTORS)
FIRST_SETS = tuple(sum(SELECTORS[:place]) for place in range(LAYER))
MOST_SEEN = 1023  # of a counter
RATE, FINAL_RATE, RATE_SHIFT = 28, 10, 18
WORD32 = 0xFFFFFFFF

# By lane: the last 4 bytes, the 4 before; the present word's hash and the last three words'; its length; bytes so far;
# by match model: where the text continues (0: nowhere), and how many bytes were right.
LAST4, LAST8, WORD, WORD1, WORD2, WORD3, LETTERS, LENGTH, MATCH, MATCHED = (*range(9), 10)
# The byte's lane; its bits so far, with a one before them; their count; all bytes so far; the mixer's chance; by match
# model: the byte that it expects (-1: none) and its counter (-1: none); by refinement: its cell.
# Of the outer frequencies: the sum of those that go with the bits so far (0: there are none), and of those that have a
# one next.
LANE, PARTIAL, BITS, DONE, MIXED, EXPECTED, COUNTER, CELL, MASS, ONES = (*range(5), 8, 10, 12, 16, 17)

# Without numba's reference counts: they took 40 % of the time, and nothing here allocates.
compiled = numba.njit(_nrt=False)


@compiled
def whole(value):
    return numpy.int64(value)  # numba makes floats of uint64 with int64


@compiled
def _hash(key, value):
    """32 bits of both; no product reaches 2^63."""
    return (((key ^ (key >> 15)) * 0x2C1B3C6D & WORD32) + value * 0x297A2D39 + 0x5851) & WORD32


@compiled
def _spread(key):
    key = (key ^ (key >> 16)) * 0x45D9F3B & WORD32
    return key ^ (key >> 15)


@compiled
def _learned(value, bit, rates):
    """The counter after the bit: moved to it by 1 / (bits seen + 1.5) of the error."""
    seen, chance = value & 1023, value >> 10
    chance += (((bit << 22) - chance) * whole(rates[seen])) >> 16
    return min(max(chance, 1), (1 << 22) - 1) << 10 | min(seen + 1, MOST_SEEN)


@compiled
def _locate(s, partial):
    """Sets `roots` to the buckets of all contexts for the next half byte, emptied where the context is new."""
    for context in range(CONTEXTS):
        key = _spread(s.hashes[context] if partial == 1 else _hash(s.hashes[context] + 0x1234567, partial))
        bucket = (key * 0x1E3779B1 & WORD32) >> (32 - s.bucket_bits[context])
        check = (key ^ (key >> 13)) * 0x35EBCA6B & WORD32 | 1
        fewest, place = 1 << 30, 0
        for near in range(3):
            candidate = s.first_buckets[context] + (bucket ^ near)
            root = candidate * NODES
            if s.chances[root] == check:
                fewest, place = -1, candidate
                break
            seen = s.seen[s.histories[root + 1]] if s.chances[root] else -1
            if seen < fewest:
                fewest, place = seen, candidate
        root = place * NODES
        if s.chances[root] != check:
            s.chances[root] = check
            for node in range(1, NODES):
                s.histories[root + node] = 0
                s.chances[root + node] = 1 << 31
            s.runs[place] = 0
        s.roots[context] = root
        if partial == 1:
            s.run_places[context] = place


@compiled
def begin(s):
    """The contexts of the next byte, from its lane's bytes so far."""
    s.now[LANE] = s.now[DONE] % len(s.lanes)
    s.now[PARTIAL], s.now[BITS] = 1, 0
    lane, hashes = s.lanes[s.now[LANE]], s.hashes
    last, before, word, one = lane[LAST4], lane[LAST8], lane[WORD], lane[LAST4] & 0xFF
    hashes[0], hashes[1] = 0, one + 1
    for order in range(2, 5):
        hashes[order] = _hash(order, last & ((1 << 8 * order) - 1))
    for order in range(5, 9):
        hashes[order] = _hash(_hash(order, last), before & ((1 << 8 * (order - 4)) - 1))
    hashes[9] = _hash(_hash(9, word), one)
    hashes[10] = _hash(_hash(_hash(10, word), lane[WORD1]), one)
    hashes[11] = _hash(_hash(_hash(_hash(11, word), lane[WORD1]), lane[WORD2]), one)
    hashes[12] = _hash(_hash(12, word), lane[WORD2])
    hashes[13] = _hash(_hash(13, word), lane[WORD3])
    hashes[14] = _hash(_hash(14, lane[WORD1]), one)
    hashes[15] = _hash(15, last & 0xFFFF00)
    hashes[16] = _hash(16, last & 0xFF00FF)
    hashes[17] = _hash(_hash(17, lane[LETTERS]), last & 0xFFFF)
    _locate(s, 1)
    for model in range(len(MATCHES)):
        follows = lane[MATCH + model]
        s.now[EXPECTED + model] = whole(s.text[follows]) if follows else -1


@compiled
def _enter(s, place, chance, sign):
    """A probability becomes two inputs: its logit, and itself."""
    s.inputs[place] = sign * s.stretch[chance]
    s.inputs[place + 1] = sign * ((chance - 32768) >> 5)


@compiled
def _collect(s):
    """Fills `inputs` and `chosen` for the next bit."""
    now, inputs, lane = s.now, s.inputs, s.lanes[s.now[LANE]]
    partial, bits = now[PARTIAL], now[BITS]
    node = partial if bits < 4 else partial & ((1 << (bits - 4)) - 1) | 1 << (bits - 4)
    known = 0
    for context in range(CONTEXTS):
        place, entry = s.roots[context] + node, context * PER_CONTEXT
        s.places[context] = place
        history = whole(s.histories[place])
        if history:
            _enter(s, entry, whole(s.history_counters[context, history]) >> 16, 1)
            inputs[entry + 2] = s.stretch[whole(s.chances[place]) >> 16]
            known += 1 <= context < 8
        else:
            inputs[entry : entry + 3] = 0
        inputs[entry + 3] = 0
        run = whole(s.runs[s.run_places[context]])
        if run and (run & 0xFF | 0x100) >> (8 - bits) == partial:
            logit = s.stretch[whole(s.run_counters[context, run >> 8]) >> 16]
            inputs[entry + 3] = logit if run >> (7 - bits) & 1 else -logit
    longest = 0
    for model in range(len(MATCHES)):
        entry, byte = CONTEXTS * PER_CONTEXT + 2 * model, now[EXPECTED + model]
        now[COUNTER + model] = -1
        inputs[entry : entry + 2] = 0
        if byte >= 0 and (byte | 0x100) >> (8 - bits) == partial:
            length = min(lane[MATCHED + model], LONGEST_MATCH)
            now[COUNTER + model], longest = length, max(longest, length)
            _enter(s, entry, whole(s.match_counters[model, length]) >> 16, 1 if byte >> (7 - bits) & 1 else -1)
    entry = INPUTS - 3
    inputs[entry : entry + 2] = 0
    outer = 0
    if now[MASS]:
        half = 128 >> bits
        first = (partial << (8 - bits)) - 256
        now[ONES] = 0
        for byte in range(first + half, first + 2 * half):
            now[ONES] += s.outer[byte]
        chance = min(max((now[ONES] << 16) // now[MASS], 1), 65535)
        _enter(s, entry, chance, 1)
        outer = min(max((s.stretch[chance] + 2048) >> 7, 0), 31)
    inputs[INPUTS - 1] = 256
    last, chosen = lane[LAST4], s.chosen
    chosen[0] = partial
    chosen[1] = longest * 8 + bits
    chosen[2] = last & 0xFF
    chosen[3] = known * 8 + bits
    chosen[4] = min(lane[LETTERS], 7) * 256 + partial
    chosen[5] = (last >> 8 & 0xFF) * 8 + bits
    chosen[6] = (last >> 5 & 7) * 256 + partial
    chosen[7] = outer * 8 + bits
    for layer in range(LAYER):
        chosen[layer] += FIRST_SETS[layer]


@compiled
def predict(s):
    """The chance of 65,536 that the next bit is 1."""
    _collect(s)
    now, lane = s.now, s.lanes[s.now[LANE]]
    partial, last = now[PARTIAL], lane[LAST4]
    total = 0
    for layer in range(LAYER):
        row, dot = s.chosen[layer], 0
        for place in range(INPUTS):
            dot += whole(s.weights[row, place]) * whole(s.inputs[place])
        dot = min(max((dot + (1 << 19)) >> 20, -MOST_LOGIT), MOST_LOGIT)
        s.dots[layer], s.outputs[layer] = dot, s.squash[dot + MOST_LOGIT]
        total += dot * whole(s.final_weights[partial, layer])
    logit = min(max((total + (1 << 19)) >> 20, -MOST_LOGIT), MOST_LOGIT)
    now[MIXED] = s.squash[logit + MOST_LOGIT]
    at = min(max(logit + 2048, 0), 4095)
    step, share = at >> 7, at & 127
    refined = 4 * now[MIXED] + 4
    for model in range(REFINEMENTS):
        if model == 0:
            context = (last & 0xFF) << 8 | partial
        elif model == 3:
            context = _spread(_hash(lane[WORD], partial)) & 0xFFFF
        else:
            context = _spread(_hash(last & (0xFFFF if model == 1 else 0xFFFFFF), partial)) & 0xFFFF
        lower, upper = whole(s.refinements[model, context, step]), whole(s.refinements[model, context, step + 1])
        refined += (lower * (128 - share) + upper * share) >> 7
        now[CELL + model] = context * STEPS + step + (share >> 6)
    return min(max(refined >> 3, 1), 65535)


@compiled
def update(s, bit):
    """Teaches the bit to all that predicted it."""
    now = s.now
    partial, bits, sign = now[PARTIAL], now[BITS], 1 << (RATE_SHIFT - 1)
    error = ((bit << 16) - now[MIXED]) * FINAL_RATE
    for layer in range(LAYER):
        s.final_weights[partial, layer] += (s.dots[layer] * error + sign) >> RATE_SHIFT
    for layer in range(LAYER):
        row, error = s.chosen[layer], ((bit << 16) - s.outputs[layer]) * RATE
        for place in range(INPUTS):
            s.weights[row, place] += (whole(s.inputs[place]) * error + sign) >> RATE_SHIFT
    for model in range(REFINEMENTS):
        context, step = now[CELL + model] // STEPS, now[CELL + model] % STEPS
        chance = whole(s.refinements[model, context, step])
        s.refinements[model, context, step] = chance + ((bit * 65535 - chance + 32) >> 6)
    for context in range(CONTEXTS):
        place = s.places[context]
        history = s.histories[place]
        s.history_counters[context, history] = _learned(whole(s.history_counters[context, history]), bit, s.rates)
        s.histories[place] = s.following[history, bit]
        s.chances[place] = _learned(whole(s.chances[place]), bit, s.rates)
        run = whole(s.runs[s.run_places[context]])
        if run and (run & 0xFF | 0x100) >> (8 - bits) == partial:
            right = 1 if run >> (7 - bits) & 1 == bit else 0
            counter = whole(s.run_counters[context, run >> 8])
            s.run_counters[context, run >> 8] = _learned(counter, right, s.rates)
    for model in range(len(MATCHES)):
        place = now[COUNTER + model]
        if place >= 0:
            right = 1 if now[EXPECTED + model] >> (7 - bits) & 1 == bit else 0
            s.match_counters[model, place] = _learned(whole(s.match_counters[model, place]), right, s.rates)
    now[MASS] = now[ONES] if bit else now[MASS] - now[ONES]
    now[PARTIAL], now[BITS] = partial * 2 + bit, bits + 1
    if bits == 3:
        _locate(s, now[PARTIAL])
    if bits == 7:
        _end(s, now[PARTIAL] & 0xFF)


@compiled
def _end(s, byte):
    """The byte joins its lane's text."""
    now, lane, stride = s.now, s.lanes[s.now[LANE]], len(s.lanes)
    for context in range(CONTEXTS):
        place = s.run_places[context]
        run = whole(s.runs[place])
        s.runs[place] = min(run >> 8, 254) + 1 << 8 | byte if run & 0xFF == byte else 1 << 8 | byte
    done = now[DONE]
    s.text[done] = byte
    now[DONE] = done + 1
    lane[LENGTH] += 1
    lane[LAST8] = (lane[LAST8] << 8 | lane[LAST4] >> 24) & WORD32
    lane[LAST4] = (lane[LAST4] << 8 | byte) & WORD32
    letter = byte | 32
    if 97 <= letter <= 122 or byte >= 128:
        lane[WORD] = _hash(lane[WORD], letter)
        lane[LETTERS] += 1
    elif lane[LETTERS]:
        lane[WORD3], lane[WORD2], lane[WORD1], lane[WORD], lane[LETTERS] = lane[WORD2], lane[WORD1], lane[WORD], 0, 0
    for model in range(len(MATCHES)):
        least, table_bits = MATCHES[model]
        if lane[MATCH + model] and s.text[lane[MATCH + model]] == byte:
            lane[MATCH + model] += stride
            lane[MATCHED + model] += 1
        else:
            lane[MATCH + model] = lane[MATCHED + model] = 0
        if lane[LENGTH] < least:
            continue
        key = 0
        for back in range(least):
            key = _hash(key, whole(s.text[done - back * stride]))
        place = _spread(key) >> (32 - table_bits)
        follows = s.match_heads[model, place]
        if follows and not lane[MATCH + model]:
            length = 0
            while length < LONGEST_MATCH and length < lane[LENGTH] and follows >= (length + 1) * stride:
                if s.text[follows - (length + 1) * stride] != s.text[done - length * stride]:
                    break
                length += 1
            if length >= least:
                lane[MATCH + model], lane[MATCHED + model] = follows, length
        s.match_heads[model, place] = done + stride
