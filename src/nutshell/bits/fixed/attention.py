"""Attention in integers: a step reads all keys and values of its lane, so these are kept small. See arithmetic.py."""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from nutshell.bits.fixed.arithmetic import HEAD_LIMIT, MOST_TOKENS, SOFTMAX_BITS, WEIGHT_BITS, highest_of, kernel
from nutshell.bits.fixed.tables import exp_table, waves


@dataclass(frozen=True)
class Memory:
    """Keys and values of past tokens, small, since a step reads all of them: int16 times a power of two of its own for
    each token and head, which is 1 (a step of 2^-ACTIVATION_BITS) as long as no number is above 8.

    Args:
        keys: (lanes, groups, dim, room), int16; heads in a group share theirs.
        values: (lanes, groups, room, dim), int16.
        units: (lanes, 2, groups, room), float32: the powers of two of keys, and of values.

    Source: for groups, Ainslie et al. 2023, "GQA"; without them there are as many as heads.
    """

    keys: Tensor
    values: Tensor
    units: Tensor

    @classmethod
    def empty(cls, lanes: int, groups: int, dim: int, room: int) -> "Memory":
        shapes = (lanes, groups, dim, room), (lanes, groups, room, dim)
        return cls(*(torch.empty(shape, dtype=torch.int16) for shape in shapes), torch.empty(lanes, 2, groups, room))

    def of(self, lanes: slice) -> "Memory":
        """The same memory, of some lanes."""
        return Memory(self.keys[lanes], self.values[lanes], self.units[lanes])


def attend(parts: Tensor, memory: Memory, past: int, keep: int, scale: float) -> Tensor:
    """softmax(Q K^T / sqrt(dim)) V of new tokens, each of which sees those before it and itself.

    Args:
        parts: Of the new tokens, all heads' Q, then all groups' K and V: (lanes, tokens, heads + 2 groups, dim), in
            steps of 2^-PRODUCT_BITS.
        memory: Of the past tokens; the new ones are added.
        past: How many they are.
        keep: How many of the last tokens ask.
        scale: What a score is multiplied with, 2^STEP_BITS included.

    Returns:
        (lanes, keep, heads, dim) in steps of 2^-ACTIVATION_BITS, at most HEAD_LIMIT.

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    lanes, tokens, heads, dim = parts.shape
    heads -= 2 * memory.keys.shape[1]
    out = torch.empty((lanes, keep, heads, dim), dtype=torch.float64)
    arrays = (part.numpy() for part in (parts, memory.keys, memory.values, memory.units))
    _attend(*arrays, past, tokens - keep, scale, _SOFTMAX, out.numpy())
    return out


_SOFTMAX = exp_table(SOFTMAX_BITS).astype(numpy.int32)


@kernel
def _attend(parts, keys, values, units, past, first, scale, table, out):
    lanes, tokens, _, dim = parts.shape
    groups, heads, last = keys.shape[1], out.shape[2], float(len(table) - 1)
    scores, mean, places = numpy.empty(past + tokens), numpy.empty(dim), numpy.empty(past + tokens, numpy.int32)
    for lane in range(lanes):
        for group in range(groups):
            k, v = keys[lane, group], values[lane, group]
            for token in range(tokens):
                key, value = parts[lane, token, heads + group], parts[lane, token, heads + groups + group]
                units[lane, 0, group, past + token] = _remember(key, k[:, past + token])
                units[lane, 1, group, past + token] = _remember(value, v[past + token])
        for head in range(heads):
            group = head * groups // heads
            k, v = keys[lane, group], values[lane, group]
            key_units, value_units = units[lane, 0, group], units[lane, 1, group]
            for token in range(first, tokens):
                seen = past + token + 1
                scores[:seen] = 0.0
                for d in range(dim):
                    q = numpy.rint(parts[lane, token, head, d] * 2.0**-WEIGHT_BITS)
                    q = min(max(q, float(-HEAD_LIMIT)), float(HEAD_LIMIT))
                    for i in range(seen):
                        scores[i] += q * k[d, i]
                for i in range(seen):
                    scores[i] *= key_units[i]
                highest = highest_of(scores[:seen])
                for i in range(seen):
                    places[i] = int(min(numpy.rint((highest - scores[i]) * scale), last))
                mean[:] = 0.0
                total = 0
                for i in range(seen):
                    e = table[places[i]]
                    total += e
                    weight = e * value_units[i]
                    for d in range(dim):
                        mean[d] += weight * v[i, d]
                for d in range(dim):
                    out[lane, token - first, head, d] = numpy.rint(mean[d] / total)


@kernel
def _remember(product, place):
    """Writes a token's key or value as int16, and returns their unit."""
    most, unit = 0.0, 1.0
    for x in product:
        most = max(most, abs(x))
    while most > 32767.0 * unit * (1 << WEIGHT_BITS) and unit < HEAD_LIMIT >> 15:
        unit *= 2.0
    for d in range(len(product)):
        x = numpy.rint(product[d] * (2.0**-WEIGHT_BITS / unit))
        place[d] = int(min(max(x, -32767.0), 32767.0))
    return unit


class Rotary:
    """Turns queries and keys, in their own place, by an angle that grows with their position: halves (a, b) of a head
    become (a cos - b sin, b cos + a sin), with sin and cos of position / base^(2i / dim).

    Source: Su et al. 2021, "RoFormer", section 3.2.2.
    """

    def __init__(self, dim: int, base: float):
        table = waves(MOST_TOKENS, dim, base)
        self.sin, self.cos = (numpy.ascontiguousarray(table[:, i::2]) for i in range(2))

    def __call__(self, parts: Tensor, heads: int, past: int):
        """The first `heads` of parts (lanes, tokens, all heads, dim), after so many past tokens."""
        _turn(parts.numpy(), heads, self.sin[past:], self.cos[past:])


@kernel
def _turn(parts, heads, sin, cos):
    lanes, tokens, _, dim = parts.shape
    half = dim // 2
    for lane in range(lanes):
        for token in range(tokens):
            for head in range(heads):
                part = parts[lane, token, head]
                for i in range(half):
                    a, b = part[i], part[half + i]
                    part[i] = a * cos[token, i] - b * sin[token, i]
                    part[half + i] = b * cos[token, i] + a * sin[token, i]
