"""Attention in integers: a step reads all keys and values of its lane, so these are kept small. See arithmetic.py."""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from nutshell.bits.fixed.arithmetic import HEAD_LIMIT, SOFTMAX_BITS, WEIGHT_BITS, highest_of, kernel
from nutshell.bits.fixed.tables import exp_table


@dataclass(frozen=True)
class Memory:
    """Keys and values of past tokens, small, since a step reads all of them: int16 times a power of two of its own for
    each token and head, which is 1 (a step of 2^-ACTIVATION_BITS) as long as no number is above 8.

    Args:
        keys: (lanes, heads, dim, room), int16.
        values: (lanes, heads, room, dim), int16.
        units: (lanes, 2, heads, room), float32: the powers of two of keys, and of values.
    """

    keys: Tensor
    values: Tensor
    units: Tensor

    @classmethod
    def empty(cls, lanes: int, heads: int, dim: int, room: int) -> "Memory":
        shapes = (lanes, heads, dim, room), (lanes, heads, room, dim)
        return cls(*(torch.empty(shape, dtype=torch.int16) for shape in shapes), torch.empty(lanes, 2, heads, room))

    def of(self, lanes: slice) -> "Memory":
        """The same memory, of some lanes."""
        return Memory(self.keys[lanes], self.values[lanes], self.units[lanes])


def attend(parts: Tensor, memory: Memory, past: int, keep: int, scale: float) -> Tensor:
    """softmax(Q K^T / sqrt(dim)) V of new tokens, each of which sees those before it and itself.

    Args:
        parts: Q, K and V of the new tokens, (lanes, tokens, 3, heads, dim), in steps of 2^-PRODUCT_BITS.
        memory: Of the past tokens; the new ones are added.
        past: How many they are.
        keep: How many of the last tokens ask.
        scale: What a score is multiplied with, 2^STEP_BITS included.

    Returns:
        (lanes, keep, heads, dim) in steps of 2^-ACTIVATION_BITS, at most HEAD_LIMIT.

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    lanes, tokens, _, heads, dim = parts.shape
    out = torch.empty((lanes, keep, heads, dim), dtype=torch.float64)
    arrays = (part.numpy() for part in (parts, memory.keys, memory.values, memory.units))
    _attend(*arrays, past, tokens - keep, scale, _SOFTMAX, out.numpy())
    return out


_SOFTMAX = exp_table(SOFTMAX_BITS).astype(numpy.int32)


@kernel
def _attend(parts, keys, values, units, past, first, scale, table, out):
    lanes, tokens, _, heads, dim = parts.shape
    last = float(len(table) - 1)
    scores, mean, places = numpy.empty(past + tokens), numpy.empty(dim), numpy.empty(past + tokens, numpy.int32)
    for lane in range(lanes):
        for head in range(heads):
            k, v, key_units, value_units = (
                keys[lane, head],
                values[lane, head],
                units[lane, 0, head],
                units[lane, 1, head],
            )
            for token in range(tokens):
                key_units[past + token] = _remember(parts[lane, token, 1, head], k[:, past + token])
                value_units[past + token] = _remember(parts[lane, token, 2, head], v[past + token])
            for token in range(first, tokens):
                seen = past + token + 1
                scores[:seen] = 0.0
                for d in range(dim):
                    q = numpy.rint(parts[lane, token, 0, head, d] * 2.0**-WEIGHT_BITS)
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
