"""Which language models can be computed in exact arithmetic, and the computation of one. Imports no torch at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

# By architecture, the config's key of the activation, and its default.
_ACTIVATION = {
    "gpt2": ("activation_function", "gelu_new"),
    "scratch": ("activation", "gelu_new"),
    "llama": ("hidden_act", "silu"),
    "lstm": ("", "silu"),  # it has none to choose
}


class FixedModel(Protocol):
    """What a codec asks of a model in exact arithmetic."""

    vocab: int

    def state(self, lanes: int, tokens: int) -> Any:
        """An empty state for so many lanes, of at most so many tokens each."""

    def __call__(self, ids: Tensor, state: Any = None, keep: int | None = None) -> Tensor:
        """Integer logits (lanes, keep, vocab) of the last `keep` of ids (lanes, tokens), as float64 in steps of
        2^-LOGIT_BITS; None keeps all. A state grows by all of the tokens."""


def problem(config: Mapping[str, Any]) -> str | None:
    """Why there is no exact arithmetic for the model of this config.json; None if there is.

    Args:
        config: With the keys of its architecture; those that are missing have its defaults.
    """
    kind = config.get("model_type")
    if kind not in _ACTIVATION:
        return f"exact arithmetic is written for {', '.join(_ACTIVATION)}, not for {kind}"
    from nutshell.bits.fixed.tables import ACTIVATIONS  # numpy, which takes a moment

    activation = config.get(*_ACTIVATION[kind])
    if activation not in ACTIVATIONS:
        return f"exact arithmetic has no table for the activation {activation}, only for {', '.join(ACTIVATIONS)}"
    if not config.get("scale_attn_weights", True) or config.get("scale_attn_by_inverse_layer_idx", False):
        return "exact arithmetic divides scores by sqrt(head size), and this config asks for another scale"
    if biases := [key for key in ("attention_bias", "mlp_bias") if config.get(key)]:
        return f"exact arithmetic of a Llama knows no {biases[0]}"
    for rope in (config.get("rope_parameters") or {}, config.get("rope_scaling") or {}):
        if (variant := rope.get("rope_type", rope.get("type", "default"))) != "default":
            return f"exact arithmetic knows rotary positions of the default type, not of {variant}"
    return None


def build(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> FixedModel:
    """The model of a config without a problem, in exact arithmetic.

    Args:
        config: Its config.json.
        weights: By the names of its safetensors file or its state_dict, of any float dtype.

    Raises:
        UserError: If its weights are so large that a sum could leave the exact range.
    """
    from nutshell.bits.fixed import checkpoints

    return getattr(checkpoints, config["model_type"])(config, weights)
