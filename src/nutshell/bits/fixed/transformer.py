"""A decoder-only Transformer in integers: GPT-2, and the one that nutshell writes from its formulas.

Every activation is an integer in float64; which steps it is in is said where it changes. See arithmetic.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nutshell.bits.fixed.arithmetic import (
    ACTIVATION_BITS,
    HEAD_LIMIT,
    MOST_TOKENS,
    PRODUCT_BITS,
    STREAM_BITS,
    WEIGHT_BITS,
    Activation,
    Linear,
    Norm,
    linear,
    norm,
    quantize,
    rescale,
    softmax,
)
from nutshell.bits.fixed.tables import STEP_BITS

ROWS = 8  # lanes whose windows are computed at once: what they need fits into a processor's cache


@dataclass(frozen=True)
class Layer:
    """x + attention(norm(x)), then x + down(activation(up(norm(x)))); the input's three parts are Q, K, V."""

    attention_norm: Norm
    input: Linear
    output: Linear
    feed_norm: Norm
    up: Linear
    down: Linear


@dataclass
class State:
    """Keys (lanes, heads, dim, tokens) and values (lanes, heads, tokens, dim) of each layer, as float32 integers."""

    keys: list[Tensor]
    values: list[Tensor]
    seen: int = 0


class Transformer:
    """Integer logits in steps of 2^-LOGIT_BITS.

    Args:
        embedding: (vocab, hidden), in steps of 2^-STREAM_BITS.
        positions: (tokens, hidden), in steps of 2^-STREAM_BITS.
        layers: From the first to the last.
        norm: After the last layer.
        head: hidden to vocab.
        heads: Of a layer.
        activation: Of the feed-forward layers.
    """

    def __init__(
        self,
        embedding: Tensor,
        positions: Tensor,
        layers: Sequence[Layer],
        norm: Norm,
        head: Linear,
        heads: int,
        activation: Activation,
    ):
        self.embedding, self.positions, self.layers, self.norm, self.head = embedding, positions, layers, norm, head
        self.heads, self.activation = heads, activation
        self.vocab, self.hidden = embedding.shape
        self.dim = self.hidden // heads
        # A score is q k / sqrt(dim), and the table of exp is in steps of its own.
        self.scale = 2.0 ** (STEP_BITS - 2 * ACTIVATION_BITS) / math.sqrt(self.dim)

    def state(self, lanes: int, tokens: int) -> State:
        """An empty cache for at most so many tokens of each lane."""
        keys, values = (lanes, self.heads, self.dim, tokens), (lanes, self.heads, tokens, self.dim)
        return State([torch.empty(keys) for _ in self.layers], [torch.empty(values) for _ in self.layers])

    @torch.inference_mode()
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
        assert past + tokens <= min(len(self.positions), MOST_TOKENS)
        out = torch.empty((lanes, keep, self.vocab), dtype=torch.float64)
        rows = lanes if tokens == 1 else ROWS
        for first in range(0, lanes, rows):
            part = slice(first, min(first + rows, lanes))
            cache = state or self.state(part.stop - first, tokens)
            caches = [(k[part], v[part]) if state else (k, v) for k, v in zip(cache.keys, cache.values, strict=True)]
            hidden = self._stream(ids[part], caches, past, keep)
            out[part] = (self.norm(hidden) @ self.head.weight).view(out[part].shape)
        if state:
            state.seen += tokens
        return out

    def _stream(self, ids: Tensor, caches: Sequence[tuple[Tensor, Tensor]], past: int, keep: int) -> Tensor:
        """What leaves the last layer at the last `keep` tokens: (lanes * keep, hidden) in steps of 2^-STREAM_BITS."""
        lanes, tokens = ids.shape
        stream = (self.embedding[ids] + self.positions[past : past + tokens]).view(-1, self.hidden)
        for layer, cache in zip(self.layers, caches, strict=True):
            needed = keep if layer is self.layers[-1] else tokens
            parts = rescale(layer.input(layer.attention_norm(stream)), WEIGHT_BITS, HEAD_LIMIT)
            heads = self._attend(parts.view(lanes, tokens, 3, self.heads, self.dim), cache, past, needed)
            stream = stream.view(lanes, tokens, -1)[:, tokens - needed :].reshape(-1, self.hidden)
            stream = stream + layer.output(heads).mul_(2.0 ** (STREAM_BITS - PRODUCT_BITS)).round_()
            inner = self.activation(layer.up(layer.feed_norm(stream)))
            stream = stream + layer.down(inner).mul_(2.0 ** (STREAM_BITS - PRODUCT_BITS)).round_()
        return stream

    def _attend(self, parts: Tensor, cache: tuple[Tensor, Tensor], past: int, needed: int) -> Tensor:
        """softmax(Q K^T / sqrt(dim)) V at the last `needed` tokens: (lanes * needed, hidden)."""
        lanes, tokens, seen = *parts.shape[:2], past + parts.shape[1]
        cache[0][..., past:seen] = parts[:, :, 1].permute(0, 2, 3, 1)
        cache[1][:, :, past:seen] = parts[:, :, 2].transpose(1, 2)
        queries = parts[:, tokens - needed :, 0].transpose(1, 2).reshape(lanes * self.heads, needed, self.dim)
        scores = queries @ cache[0][..., :seen].double().view(len(queries), self.dim, seen)
        sums = softmax(scores, seen - needed, self.scale)
        heads = scores @ cache[1][:, :, :seen].double().view(len(queries), seen, self.dim)
        heads = (heads / sums).round_().view(lanes, self.heads, needed, self.dim)
        return heads.transpose(1, 2).reshape(-1, self.hidden)


def gpt2(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Transformer:
    """A GPT-2 of its config and weights, as they are named in its own file."""
    weights = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    epsilon = config.get("layer_norm_epsilon", 1e-5)

    def _norm(name: str) -> Norm:
        return norm(weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    def _linear(name: str) -> Linear:
        return linear(name, weights[f"{name}.weight"], weights[f"{name}.bias"])

    layers = [
        Layer(
            _norm(f"h.{i}.ln_1"),
            _linear(f"h.{i}.attn.c_attn"),
            _linear(f"h.{i}.attn.c_proj"),
            _norm(f"h.{i}.ln_2"),
            _linear(f"h.{i}.mlp.c_fc"),
            _linear(f"h.{i}.mlp.c_proj"),
        )
        for i in range(config["n_layer"])
    ]
    embedding = weights["wte.weight"]
    head = embedding if config.get("tie_word_embeddings", True) else weights["lm_head.weight"]
    return Transformer(
        quantize(embedding, STREAM_BITS),
        quantize(weights["wpe.weight"], STREAM_BITS),
        layers,
        _norm("ln_f"),
        linear("lm_head", head.T),
        config["n_head"],
        Activation(config.get("activation_function", "gelu_new")),
    )
