"""A language model in its processor's own arithmetic: quick, and the same only on a machine like it.

In floating point a sum depends on its order, and that on the shape of a batch, the number of threads and the
processor. So the encoder runs the very steps that the decoder will run, and a file names where it was made.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

FREQUENCY_BITS = 32


class Room(DynamicLayer):
    """A layer's keys and values in a place that is large enough from the start: nothing is copied as it fills.

    Args:
        tokens: The most that it will hold.
    """

    def __init__(self, tokens: int):
        super().__init__()
        self.tokens, self.seen = tokens, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Adds those of new tokens, (lanes, heads, tokens, dim) each, and gives all."""
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys, self.values = (
                part.new_empty(*part.shape[:2], self.tokens, part.shape[-1]) for part in (key_states, value_states)
            )
        begin, self.seen = self.seen, self.seen + key_states.shape[-2]
        self.keys[:, :, begin : self.seen] = key_states
        self.values[:, :, begin : self.seen] = value_states
        return self.keys[:, :, : self.seen], self.values[:, :, : self.seen]

    def get_seq_length(self) -> int:
        """How many tokens it holds."""
        return self.seen


@dataclass
class State:
    """What the model remembers: transformers' cache, or what a recurrent model has in its place."""

    cache: Any


class Native:
    """A causal model of transformers in the precision of its weights.

    Args:
        model: In evaluation mode, on the CPU.
    """

    parallel = False

    def __init__(self, model: Any):
        self._model = model
        self.vocab = model.config.vocab_size

    def state(self, lanes: int, tokens: int) -> State:
        """An empty cache."""
        layers = getattr(self._model.config, "num_hidden_layers", 0)
        own = self._model._supports_default_dynamic_cache()
        return State(Cache(layers=[Room(tokens) for _ in range(layers)]) if own else None)

    @torch.inference_mode()
    def fill(self, ids: Tensor, state: State) -> None:
        """Reads ids (lanes, tokens)."""
        self._logits(ids, state)

    @torch.inference_mode()
    def frequencies(self, ids: Tensor, state: State) -> Tensor:
        """floor(2^32 p) + 1 of each token's probability after the last of ids (lanes, tokens): (lanes, 1, vocab)."""
        probabilities = self._logits(ids, state).float().softmax(-1)
        return probabilities.double().mul_(float(1 << FREQUENCY_BITS)).long().add_(1)

    def _logits(self, ids: Tensor, state: State) -> Tensor:
        output = self._model(input_ids=ids, past_key_values=state.cache, use_cache=True, logits_to_keep=1)
        state.cache = output.past_key_values
        return output.logits
