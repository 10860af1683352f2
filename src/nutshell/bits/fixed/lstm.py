"""Long short-term memory in integers. See arithmetic.py, and models/language/own/lstm.py for the formulas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from nutshell.bits.fixed.arithmetic import (
    ACTIVATION_BITS,
    LIMIT,
    PRODUCT_BITS,
    STREAM_BITS,
    WEIGHT_BITS,
    Linear,
    kernel,
    linear,
    quantize,
    rescale,
)
from nutshell.bits.fixed.tables import squash_table
from nutshell.bits.fixed.threads import spread

GATE_BITS = 16  # gates, and tanh, are in steps of 2^-16
STEP_BITS = 13  # what their tables are asked with, in steps of 2^-13
MEMORY_LIMIT = 1 << (16 + STREAM_BITS)  # f c stays below 2^53
assert MEMORY_LIMIT << GATE_BITS < 1 << 53

_SIGMOID, _TANH = (squash_table(name, STEP_BITS, GATE_BITS).astype(numpy.int32) for name in ("sigmoid", "tanh"))


def lstm_layer(name: str, of_input: Tensor, of_hidden: Tensor, bias: Tensor) -> Linear:
    """(x, h) to the gates i, f, g, o: one product of W (4 hidden, inputs) next to U (4 hidden, hidden)."""
    return linear(name, torch.cat([of_input, of_hidden], 1).T, bias)


@dataclass
class State:
    """Of each layer, outputs h in steps of 2^-ACTIVATION_BITS and memory c of 2^-STREAM_BITS, (lanes, hidden) each."""

    h: list[Tensor]
    c: list[Tensor]


class Lstm:
    """Integer logits in steps of 2^-LOGIT_BITS.

    Args:
        embedding: (vocab, inputs), real numbers.
        layers: From the first to the last; of `lstm_layer`.
        projection: From the last layer's output to what the head reads, or None.
        head: To vocab.
    """

    def __init__(self, embedding: Tensor, layers: Sequence[Linear], projection: Linear | None, head: Linear):
        self.embedding = quantize("embedding", embedding, ACTIVATION_BITS).clamp_(-LIMIT, LIMIT)
        self.layers, self.projection, self.head = layers, projection, head
        self.vocab, self.hidden = len(embedding), layers[0].weight.shape[1] // 4

    def state(self, lanes: int, tokens: int) -> State:
        """The state before any token; it has room for any number of them."""
        return State(*([torch.zeros(lanes, self.hidden, dtype=torch.float64) for _ in self.layers] for _ in range(2)))

    def __call__(self, ids: Tensor, state: State | None = None, keep: int | None = None) -> Tensor:
        """Logits of the last tokens; the state, if there is one, moves on over all of them.

        Args:
            ids: (lanes, tokens), int64; only the new ones when the state is that after others.
            state: After the past tokens of the same lanes.
            keep: Of how many last tokens the logits are needed; None: all.

        Returns:
            (lanes, keep, vocab), float64 integers in steps of 2^-LOGIT_BITS.
        """
        lanes, tokens = ids.shape
        state, keep = state or self.state(lanes, tokens), tokens if keep is None else keep
        outputs = torch.empty((lanes, keep, self.hidden), dtype=torch.float64)

        @torch.inference_mode()
        def _compute(part: slice):
            h, c = [h[part] for h in state.h], [c[part] for c in state.c]
            for token in range(tokens):
                x = self.embedding[ids[part, token]]
                for i, layer in enumerate(self.layers):
                    _remember(layer(torch.cat([x, h[i]], 1)).numpy(), c[i].numpy(), h[i].numpy(), _SIGMOID, _TANH)
                    x = h[i]
                if token >= tokens - keep:
                    outputs[part, token - tokens + keep] = x

        spread(_compute, lanes, lanes)
        outputs = outputs.view(-1, self.hidden)
        if self.projection:
            outputs = rescale(self.projection(outputs), WEIGHT_BITS, LIMIT)
        return self.head(outputs).view(lanes, keep, self.vocab)


@kernel
def _look(table, x, bits, odd):
    """sigmoid or tanh of an integer in steps of 2^-bits: f(-x) is 1 - f(x), or -f(x) if odd."""
    place = int(min(numpy.rint(abs(x) * 2.0 ** (STEP_BITS - bits)), len(table) - 1))
    value = float(table[place])  # the product of two of them is no int32
    if x < 0:
        return -value if odd else (1 << GATE_BITS) - value
    return value


@kernel
def _remember(gates, c, h, sigmoid, tanh):
    hidden = c.shape[1]
    for lane in range(c.shape[0]):
        for j in range(hidden):
            i = _look(sigmoid, gates[lane, j], PRODUCT_BITS, False)
            f = _look(sigmoid, gates[lane, hidden + j], PRODUCT_BITS, False)
            g = _look(tanh, gates[lane, 2 * hidden + j], PRODUCT_BITS, True)
            o = _look(sigmoid, gates[lane, 3 * hidden + j], PRODUCT_BITS, False)
            kept = numpy.rint(f * c[lane, j] * 2.0**-GATE_BITS)
            memory = kept + numpy.rint(i * g * 2.0 ** (STREAM_BITS - 2 * GATE_BITS))
            memory = min(max(memory, -MEMORY_LIMIT), MEMORY_LIMIT)
            c[lane, j] = memory
            output = o * _look(tanh, memory, STREAM_BITS, True)
            h[lane, j] = numpy.rint(output * 2.0 ** (ACTIVATION_BITS - 2 * GATE_BITS))
