"""A language model as a codec asks it: how often each token comes next, in whole numbers."""

import hashlib
from typing import Any, Protocol

import torch
from torch import Tensor

from nutshell.bits.fixed.arithmetic import frequencies
from nutshell.bits.fixed.build import FixedModel

PROBE_LANES, PROBE_TOKENS = 3, 24


class Tables(Protocol):
    """A language model as a codec asks it.

    Attributes:
        parallel: Whether many tokens at once give the same tables as one after the other.
    """

    vocab: int
    parallel: bool

    def state(self, lanes: int, tokens: int) -> Any:
        """What it remembers of nothing yet, for so many lanes of at most so many tokens."""

    def fill(self, ids: Tensor, state: Any) -> None:
        """Reads ids (lanes, tokens) of which no prediction is needed."""

    def frequencies(self, ids: Tensor, state: Any) -> Tensor:
        """How often each token comes after each of ids (lanes, tokens), which it reads: int64 (lanes, tokens, vocab),
        each at least 1, their sum at most coder.MOST_TOTAL."""


class Exact:
    """A model in exact arithmetic: the same tables on every machine, many tokens at once or one after the other."""

    parallel = True

    def __init__(self, model: FixedModel):
        self._model = model
        self.vocab = model.vocab

    def state(self, lanes: int, tokens: int) -> Any:
        """As the model's."""
        return self._model.state(lanes, tokens)

    def fill(self, ids: Tensor, state: Any) -> None:
        """Reads ids (lanes, tokens)."""
        self._model(ids, state, 0)

    def frequencies(self, ids: Tensor, state: Any) -> Tensor:
        """(lanes, tokens, vocab), as bits.fixed.arithmetic counts them."""
        return frequencies(self._model(ids, state))


def probe(tables: Tables, window: int) -> bytes:
    """A digest of what it computes, 8 bytes: the tables of a few steps after a few tokens.

    Args:
        window: The most tokens that it is fed.
    """
    tokens = min(PROBE_TOKENS, window)
    ids = torch.arange(PROBE_LANES * tokens).view(PROBE_LANES, tokens) * 7919 % tables.vocab
    state, digest = tables.state(PROBE_LANES, tokens), hashlib.sha256()
    if tokens > 1:
        tables.fill(ids[:, : tokens // 2], state)
    for at in range(tokens // 2, tokens):
        digest.update(tables.frequencies(ids[:, at : at + 1], state).numpy().tobytes())
    return digest.digest()[:8]
