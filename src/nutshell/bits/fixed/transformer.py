"""A decoder-only Transformer in integers, with its norms before or after the sublayers.

Every activation is an integer in float64; which steps it is in is said where it changes. See arithmetic.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nutshell.bits.fixed.arithmetic import (
    ACTIVATION_BITS,
    LIMIT,
    MOST_TOKENS,
    PRODUCT_BITS,
    STREAM_BITS,
    Activation,
    Linear,
    Norm,
    rescale,
)
from nutshell.bits.fixed.attention import Memory, Rotary, attend
from nutshell.bits.fixed.tables import STEP_BITS
from nutshell.bits.fixed.threads import spread
from nutshell.machine.errors import UserError

ROWS = 512  # tokens of all lanes that are computed at once: what they need fits into a processor's cache


@dataclass(frozen=True)
class Layer:
    """Attention, then feed-forward, down(activation(up(x))); the input's three parts are Q, K, V."""

    attention_norm: Norm
    input: Linear
    output: Linear
    feed_norm: Norm
    up: Linear
    down: Linear


@dataclass
class State:
    """The keys and values of each layer, and of how many tokens they are."""

    layers: list[Memory]
    seen: int = 0


class Transformer:
    """Integer logits in steps of 2^-LOGIT_BITS.

    Args:
        embedding: (vocab, hidden), in steps of 2^-STREAM_BITS.
        positions: (tokens, hidden), in steps of 2^-STREAM_BITS, which are added, or a Rotary.
        layers: From the first to the last.
        norm: After the last layer, where the layers' own are before each sublayer, x + f(norm(x)); None where they are
            after each sum, norm(x + f(x)), in steps of 2^-STREAM_BITS.
        head: hidden to vocab.
        heads: Of a layer, and in how many groups they share keys and values.
        activation: Of the feed-forward layers.
    """

    def __init__(
        self,
        embedding: Tensor,
        positions: Tensor | Rotary,
        layers: Sequence[Layer],
        norm: Norm | None,
        head: Linear,
        heads: tuple[int, int],
        activation: Activation,
    ):
        self.embedding, self.positions, self.layers, self.norm, self.head = embedding, positions, layers, norm, head
        (self.heads, self.groups), self.activation = heads, activation
        self.vocab, self.hidden = embedding.shape
        self.dim = layers[0].output.weight.shape[0] // self.heads
        self.tokens = MOST_TOKENS if isinstance(positions, Rotary) else min(len(positions), MOST_TOKENS)
        # A score is q k / sqrt(dim), and the table of exp is in steps of its own.
        self.scale = 2.0 ** (STEP_BITS - 2 * ACTIVATION_BITS) / math.sqrt(self.dim)

    def state(self, lanes: int, tokens: int) -> State:
        """An empty cache for at most so many tokens of each lane.

        Raises:
            UserError: If it has no positions for them, or they are more than sums of attention are proven for.
        """
        if tokens > self.tokens:
            raise UserError(f"this model reads at most {self.tokens:,} tokens in exact arithmetic, not {tokens:,}")
        return State([Memory.empty(lanes, self.groups, self.dim, tokens) for _ in self.layers])

    def __call__(self, ids: Tensor, state: State | None = None, keep: int | None = None) -> Tensor:
        """Logits of the last tokens; the state, if there is one, grows by all of them.

        Args:
            ids: (lanes, tokens), int64; only the new ones when the state holds others.
            state: The past tokens of the same lanes.
            keep: Of how many last tokens the logits are needed; None: all.

        Returns:
            (lanes, keep, vocab), float64 integers in steps of 2^-LOGIT_BITS.
        """
        lanes, tokens = ids.shape
        keep, past = tokens if keep is None else keep, state.seen if state else 0
        assert not state or past + tokens <= state.layers[0].values.shape[2]  # or a kernel would write beyond its end
        out = torch.empty((lanes, keep, self.vocab), dtype=torch.float64)

        @torch.inference_mode()
        def _compute(part: slice):
            if state:
                memories = [memory.of(part) for memory in state.layers]
            else:
                memories = self.state(part.stop - part.start, tokens).layers
            hidden = self._stream(ids[part], memories, past, keep)
            torch.mm(hidden, self.head.weight, out=out[part].flatten(0, 1))

        spread(_compute, lanes, max(1, ROWS // tokens))
        if state:
            state.seen += tokens
        return out

    def _stream(self, ids: Tensor, memories: Sequence[Memory], past: int, keep: int) -> Tensor:
        """What the head reads at the last `keep` tokens: (lanes * keep, hidden) in steps of 2^-ACTIVATION_BITS."""
        lanes, tokens = ids.shape
        rotary = self.positions if isinstance(self.positions, Rotary) else None
        stream = self.embedding[ids]
        if rotary is None:
            stream += self.positions[past : past + tokens]
        stream = stream.view(-1, self.hidden)
        for layer, memory in zip(self.layers, memories, strict=True):
            needed = keep if layer is self.layers[-1] else tokens
            parts = layer.input(self._enter(layer.attention_norm, stream)).view(lanes, tokens, -1, self.dim)
            if rotary is not None:
                rotary(parts, self.heads + self.groups, past)
            heads = attend(parts, memory, past, needed, self.scale).flatten(0, 1).flatten(1)
            stream = stream.view(lanes, tokens, -1)[:, tokens - needed :].reshape(-1, self.hidden)
            stream = self._add(layer.attention_norm, stream, layer.output(heads))
            inner = self.activation(layer.up(self._enter(layer.feed_norm, stream)))
            stream = self._add(layer.feed_norm, stream, layer.down(inner))
        return self._enter(self.norm, stream)

    def _enter(self, norm: Norm | None, stream: Tensor) -> Tensor:
        """What a matrix product reads of the stream, in steps of 2^-ACTIVATION_BITS."""
        return norm(stream) if self.norm else rescale(stream.clone(), STREAM_BITS - ACTIVATION_BITS, LIMIT)

    def _add(self, norm: Norm, stream: Tensor, product: Tensor) -> Tensor:
        """The stream and a sublayer's product, which is taken."""
        total = product.mul_(2.0 ** (STREAM_BITS - PRODUCT_BITS)).round_().add_(stream)
        return total if self.norm else norm(total)
