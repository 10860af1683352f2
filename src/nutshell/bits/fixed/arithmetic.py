"""Integers carried by float64: the grid, matrix products, norms, softmax, and probabilities as integer frequencies.

A real number x is kept as the integer round(2^bits x). A sum of integers is exact in float64, in any order, as long as
no partial sum reaches 2^53; so a matrix product is the same bits whatever library, threads, batch or padding compute
it, if inputs * max |a| * max |w| < 2^53. What is not a sum is one of + - * / sqrt round floor, which IEEE 754 rounds
correctly on every processor, each an operation of its own (numba's strict mode fuses none), and a look-up in a table.

Source: the idea of integer networks for coding is Balle et al. 2019, "Integer Networks for Data Compression with
Latent-Variable Models".
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy
import torch
from torch import Tensor

from nutshell.bits.fixed.tables import STEP_BITS, activation_table, exp_table
from nutshell.bits.fixed.threads import spread
from nutshell.machine.errors import UserError

ACTIVATION_BITS = 12  # what enters a matrix product is in steps of 2^-12
WEIGHT_BITS = 14
STREAM_BITS = 18  # what layers add to
PRODUCT_BITS = LOGIT_BITS = ACTIVATION_BITS + WEIGHT_BITS
SOFTMAX_BITS = 20  # attention's weights before they are divided by their sum: 2^20 for the highest score
FREQUENCY_BITS = 32
# Beyond these an activation is clamped, which is as deterministic as all else.
LIMIT = 1 << (14 + ACTIVATION_BITS)
HEAD_LIMIT = 1 << (8 + ACTIVATION_BITS)  # queries, keys and values
STREAM_LIMIT = 1 << (18 + STREAM_BITS)
NORM_BITS = 20  # of the numbers whose squares a norm sums
MOST_TOKENS = 4096
MOST_HIDDEN = 4096
EXACT = 1 << 53

# q k summed over a head, e v summed over the tokens, and the scaled stream's squares over the hidden dimensions.
assert MOST_HIDDEN * HEAD_LIMIT**2 < EXACT
assert MOST_TOKENS * (HEAD_LIMIT << SOFTMAX_BITS) < EXACT
assert MOST_HIDDEN << 2 * NORM_BITS < EXACT

_SOURCES = hashlib.sha256(
    b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


def kernel(function: Callable) -> Callable:
    """The function compiled, strictly: no operation is fused with another, no sum of floats is taken in another order.

    numba's cache notices a change of the file that a function is in, but not of the constants that it has from others;
    its files are named by this.
    """
    function.__qualname__ += f"_{_SOURCES[:16]}"
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@kernel
def highest_of(x):
    a = b = c = d = x[0]  # four, so that a comparison need not wait for the one before
    fours = len(x) // 4 * 4
    for i in range(0, fours, 4):
        a, b, c, d = max(a, x[i]), max(b, x[i + 1]), max(c, x[i + 2]), max(d, x[i + 3])
    for i in range(fours, len(x)):
        a = max(a, x[i])
    return max(max(a, b), max(c, d))


def real(name: str, weight: Tensor) -> Tensor:
    """A weight in float64.

    Raises:
        UserError: If it holds what is no number, which no processor has to treat as another does.
    """
    if not weight.isfinite().all():
        raise UserError(f"{name}: exact arithmetic needs weights that are finite numbers, and it holds others")
    return weight.double()


def quantize(name: str, weight: Tensor, bits: int) -> Tensor:
    """round(2^bits w), in float64.

    Raises:
        UserError: As `real`.
    """
    return real(name, weight).mul(float(1 << bits)).round_()


@dataclass(frozen=True)
class Linear:
    """a W + b in steps of 2^-PRODUCT_BITS.

    Args:
        weight: (inputs, outputs), integers in steps of 2^-WEIGHT_BITS.
        bias: (outputs,), integers in steps of 2^-PRODUCT_BITS.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, a: Tensor) -> Tensor:
        """(rows, inputs) integers of at most LIMIT to (rows, outputs)."""
        return torch.addmm(self.bias, a, self.weight)


def linear(name: str, weight: Tensor, bias: Tensor | None = None) -> Linear:
    """A product that is proven to be exact.

    Args:
        name: For the message.
        weight: (inputs, outputs), real numbers.
        bias: (outputs,), real numbers, or None.

    Raises:
        UserError: If LIMIT sum_i |w_ij| + |b_j| can reach 2^52 in some column j, or as `real`.
    """
    whole = quantize(name, weight, WEIGHT_BITS)
    added = torch.zeros(whole.shape[1], dtype=torch.float64)
    if bias is not None:
        added = quantize(name, bias, PRODUCT_BITS)
    most = (whole.abs().sum(0) * LIMIT + added.abs()).max().item()
    if most >= EXACT / 2:
        raise UserError(
            f"{name}: exact arithmetic needs sums below 2^52, and its weights allow {most:.3g}: use native arithmetic"
        )
    return Linear(whole.contiguous(), added)


@dataclass(frozen=True)
class Norm:
    """(x - mean) / sqrt(var + epsilon) * gain + bias of integers in steps of 2^-STREAM_BITS, in steps of 2^-bits.

    Args:
        gain, bias: (hidden,), times 2^bits.
        epsilon: Times 4^STREAM_BITS.
        centre: Whether the mean is taken off; if not, this is RMSNorm.

    Source: Ba et al. 2016, "Layer Normalization"; Zhang & Sennrich 2019, "Root Mean Square Layer Normalization".
    """

    gain: numpy.ndarray
    bias: numpy.ndarray
    epsilon: float
    limit: int
    centre: bool = True

    def __call__(self, stream: Tensor) -> Tensor:
        out = torch.empty_like(stream)
        _normalize(stream.numpy(), self.gain, self.bias, self.epsilon, float(self.limit), self.centre, out.numpy())
        return out


def norm(
    weights: Mapping[str, Tensor], name: str, epsilon: float, bits: int = ACTIVATION_BITS, centre: bool = True
) -> Norm:
    """The norm with the parameters of this name; its output in steps of 2^-bits and at most LIMIT there.

    Raises:
        UserError: If its squares are more than can be summed, or as `real`.
    """
    gain = real(name, weights[f"{name}.weight"])
    bias = real(name, weights[f"{name}.bias"]) if centre else torch.zeros_like(gain)
    if len(gain) > MOST_HIDDEN:
        raise UserError(f"{name}: exact arithmetic is proven for {MOST_HIDDEN:,} hidden dimensions, not {len(gain):,}")
    parts = ((part * float(1 << bits)).numpy() for part in (gain, bias))
    return Norm(*parts, epsilon * 4.0**STREAM_BITS, LIMIT >> ACTIVATION_BITS << bits, centre)


@kernel
def _normalize(stream, gain, bias, epsilon, limit, centre, out):
    rows, hidden = stream.shape
    x = numpy.empty(hidden)
    for row in range(rows):
        total = 0
        for i in range(hidden):
            x[i] = min(max(stream[row, i], float(-STREAM_LIMIT)), float(STREAM_LIMIT))
            total += int(x[i])
        mean = total / hidden if centre else 0.0
        for i in range(hidden):
            x[i] -= mean
        # So that no sum of squares is too large, however large the stream is.
        scale = float(1 << NORM_BITS) / max(highest_of(numpy.abs(x)), 1.0)
        squares = 0
        for i in range(hidden):
            y = int(numpy.rint(x[i] * scale))
            squares += y * y
        variance = squares / hidden
        variance = variance / scale
        variance = variance / scale
        inverse = 1.0 / math.sqrt(variance + epsilon)
        for i in range(hidden):
            y = x[i] * inverse
            y = y * gain[i]
            out[row, i] = min(max(numpy.rint(y + bias[i]), -limit), limit)


def rescale(x: Tensor, bits: int, limit: int) -> Tensor:
    """round(x / 2^bits), clamped to the limit, in x's own place."""
    return x.mul_(2.0**-bits).round_().clamp_(-limit, limit)


class Activation:
    """max(x, 0) + t(|x|) with a table t, of products (in steps of 2^-PRODUCT_BITS) in their own place, then in steps of
    2^-ACTIVATION_BITS and at most LIMIT."""

    def __init__(self, name: str):
        self.table = activation_table(name, ACTIVATION_BITS).astype(numpy.int32)

    def __call__(self, x: Tensor) -> Tensor:
        _activate(x.view(-1).numpy(), self.table)
        return x


@kernel
def _activate(x, table):
    last, places = float(len(table) - 1), numpy.empty(len(x), numpy.int32)
    for i in range(len(x)):  # two loops, since a compiler makes vectors of the first
        places[i] = int(min(numpy.rint(abs(x[i]) * 2.0 ** (STEP_BITS - PRODUCT_BITS)), last))
    for i in range(len(x)):
        x[i] = min(numpy.rint(max(x[i], 0.0) * 2.0**-WEIGHT_BITS) + table[places[i]], float(LIMIT))


class Gate(Activation):
    """activation(g) * u of products (rows, 2 inner), all g before all u; in steps of 2^-ACTIVATION_BITS, at most LIMIT.

    Source: Shazeer 2020, "GLU Variants Improve Transformer".
    """

    def __call__(self, x: Tensor) -> Tensor:
        gates, others = x.chunk(2, 1)
        gates = super().__call__(gates.contiguous())
        return rescale(gates.mul_(others), PRODUCT_BITS, LIMIT)


_FREQUENCIES = exp_table(FREQUENCY_BITS)


def frequencies(logits: Tensor) -> Tensor:
    """floor(2^32 e_i / sum_j e_j) + 1, e_i = exp(logit_i - highest logit): how often each token comes, for a coder.

    Args:
        logits: (..., vocab), integers in steps of 2^-LOGIT_BITS.

    Returns:
        int64 (..., vocab): each at least 1, their sum at most 2^32 + vocab.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    out = torch.empty(rows.shape, dtype=torch.int64)
    spread(lambda part: _count(rows[part].numpy(), _FREQUENCIES, out[part].numpy()), len(rows), len(rows))
    return out.view(logits.shape)


@kernel
def _count(logits, table, out):
    # The sum is exact up to a vocabulary of 2^21. A quotient may be rounded up to the next integer, by less than 2^-20:
    # up to a vocabulary of 2^20 all floors together stay at 2^32.
    rows, vocab = logits.shape
    last, places, powers = float(len(table) - 1), numpy.empty(vocab, numpy.int32), numpy.empty(vocab)
    for row in range(rows):
        highest, total = highest_of(logits[row]), 0.0
        for i in range(vocab):
            places[i] = int(min(numpy.rint((highest - logits[row, i]) * 2.0 ** (STEP_BITS - LOGIT_BITS)), last))
        for i in range(vocab):
            powers[i] = table[places[i]]
            total += powers[i]
        scale = 2.0**FREQUENCY_BITS / total
        for i in range(vocab):
            out[row, i] = int(powers[i] * scale) + 1
