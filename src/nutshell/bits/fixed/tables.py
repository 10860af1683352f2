"""exp and the activations, as tables made by single operations that IEEE 754 rounds correctly: + - * / sqrt round.

No exp, tanh, erf or sin of a library is called: their last bits differ between processors, versions and lengths of a
vector. Constants are hex literals, coefficients are quotients of integers, and no operation is fused with another.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy

LN2 = float.fromhex("0x1.62e42fefa39efp-1")
LOG2_E = float.fromhex("0x1.71547652b82fep+0")
TWO_PI = float.fromhex("0x1.921fb54442d18p+2")
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
SQRT_2_OVER_PI = float.fromhex("0x1.9884533d43651p-1")
TWO_OVER_SQRT_PI = float.fromhex("0x1.20dd750429b6dp+0")

STEP_BITS = 11  # a table's argument is in steps of 2^-11
END = 24  # beyond it exp is 0: e^-24 < 2^-34
SQUASH_END = 12  # beyond it sigmoid and tanh are 1

Array = numpy.ndarray


def exp(x: Array) -> Array:
    """e^x for x <= 0, within 2^-50 of itself: 2^n e^r with n = floor(x / ln 2), r in [0, ln 2), by Taylor's series."""
    halvings = numpy.floor(numpy.maximum(x, -700.0) * LOG2_E)
    remainder = numpy.maximum(x, -700.0) - halvings * LN2
    total = numpy.zeros_like(remainder)
    for power in range(18, -1, -1):
        total = total * remainder
        total = total + 1 / math.factorial(power)
    return numpy.ldexp(total, halvings.astype(numpy.int64))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    small = exp(-numpy.abs(x))
    return numpy.where(x < 0, small, 1.0) / (1.0 + small)


def tanh(x: Array) -> Array:
    """(1 - e^-2x) / (1 + e^-2x)."""
    small = exp(-2.0 * numpy.abs(x))
    return numpy.sign(x) * ((1.0 - small) / (1.0 + small))


def erf(x: Array) -> Array:
    """2 / sqrt(pi) e^(-x^2) sum_n 2^n x^(2n + 1) / (2n + 1)!!, whose terms are all of one sign; 1 beyond 6."""
    x = numpy.clip(x, -6.0, 6.0)
    square, term = x * x, x
    total = term
    for n in range(1, 160):
        term = term * square
        term = term * (2.0 / (2 * n + 1))
        total = total + term
    return exp(-square) * total * TWO_OVER_SQRT_PI


def log(x: float) -> float:
    """ln x for x > 0: e ln 2 + 2 artanh((m - 1) / (m + 1)), by its series, with x = m 2^e and m in [1/2, 1)."""
    mantissa, exponent = math.frexp(x)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    total = 0.0
    for power in range(41, 0, -2):
        total = total * (ratio * ratio) + 1.0 / power
    return exponent * LN2 + 2.0 * ratio * total


def waves(tokens: int, hidden: int, base: float = 10000.0) -> Array:
    """Sinusoidal positions (tokens, hidden): sin and cos, in turn, of p / base^(2i / hidden).

    Source: Vaswani et al. 2017, section 3.5.
    """
    turns = numpy.arange(tokens)[:, None] * (exp(numpy.arange(0, hidden, 2) / hidden * -log(base)) / TWO_PI)
    angles = (turns - numpy.rint(turns)) * TWO_PI
    square, parts = angles * angles, []
    for last in (29, 28):  # Taylor's series at |x| <= pi: the last term is below 2^-54
        total = numpy.ones_like(angles)
        for power in range(last, 1, -2):
            total = total * square
            total = 1.0 - total / (power * (power - 1))
        parts.append(total)
    return numpy.stack([angles * parts[0], parts[1]], axis=-1).reshape(tokens, hidden)


def gelu(x: Array) -> Array:
    """x Phi(x), with the normal distribution's Phi. Source: Hendrycks & Gimpel 2016."""
    return x * 0.5 * (1.0 + erf(x * SQRT_HALF))


def gelu_new(x: Array) -> Array:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. Source: Hendrycks & Gimpel 2016, section 2."""
    inner = x * x * x * 0.044715
    inner = (inner + x) * SQRT_2_OVER_PI
    return x * 0.5 * (1.0 + tanh(inner))


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    return numpy.maximum(x, 0.0)


# All of them are max(x, 0) + t(|x|), because f(x) - f(-x) = x: only t(u) = f(-u) needs a table, and it vanishes.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"gelu": gelu, "gelu_new": gelu_new, "silu": silu, "relu": relu}
ACTIVATIONS |= {"gelu_pytorch_tanh": gelu_new, "swish": silu}


SQUASHES = {"sigmoid": sigmoid, "tanh": tanh}


@cache
def exp_table(bits: int) -> Array:
    """round(2^bits e^-(i 2^-STEP_BITS)), i = 0, 1, ... until END, and 0 as its last entry; float64 integers."""
    table = numpy.rint(exp(-_arguments(END, STEP_BITS)) * float(1 << bits))
    table[-1] = 0.0
    return table


@cache
def activation_table(name: str, bits: int) -> Array:
    """round(2^bits f(-i 2^-STEP_BITS)), i = 0, 1, ... until END, and 0 as its last entry; float64 integers."""
    table = numpy.rint(ACTIVATIONS[name](-_arguments(END, STEP_BITS)) * float(1 << bits))
    assert table[-1] == 0.0
    return table


@cache
def squash_table(name: str, step_bits: int, bits: int) -> Array:
    """round(2^bits f(i 2^-step_bits)), i = 0, 1, ... until SQUASH_END, where it is 2^bits; float64 integers."""
    table = numpy.rint(SQUASHES[name](_arguments(SQUASH_END, step_bits)) * float(1 << bits))
    assert table[-1] == 1 << bits
    return table


def _arguments(end: int, step_bits: int) -> Array:
    return numpy.arange((end << step_bits) + 1) * 2.0**-step_bits
