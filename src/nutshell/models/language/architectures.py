"""Which architectures of language models there are, and what their configs may say. Only its functions import torch."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

# By architecture, what transformers takes where a config.json leaves a key out.
DEFAULTS = {
    "gpt2": {"vocab_size": 50257, "n_positions": 1024, "bos_token_id": 50256, "eos_token_id": 50256},
    "llama": {"vocab_size": 32000, "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2},
    "qwen2": {"vocab_size": 151936, "max_position_embeddings": 32768},
    "gpt_neox": {"vocab_size": 50432, "max_position_embeddings": 2048, "bos_token_id": 0, "eos_token_id": 2},
    "opt": {"vocab_size": 50272, "max_position_embeddings": 2048, "bos_token_id": 2, "eos_token_id": 2},
    "mistral": {"vocab_size": 32000, "max_position_embeddings": 131072, "bos_token_id": 1, "eos_token_id": 2},
    "gemma": {"vocab_size": 256000, "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": 1},
    "scratch": {"vocab_size": 50257, "max_position_embeddings": 1024},
    "lstm": {"vocab_size": 50257},
}
CAUSAL = tuple(DEFAULTS)
OWN = ("scratch", "lstm")  # which transformers knows only after `import nutshell`
_FROM_TOKENIZER = "it follows from the tokenizer"
REFUSED = {
    "vocab_size": f"{_FROM_TOKENIZER}; model.vocab_size is the size of one to be trained",
    "bos_token_id": _FROM_TOKENIZER,
    "eos_token_id": _FROM_TOKENIZER,
    "pad_token_id": _FROM_TOKENIZER,
    "use_cache": "generation.use_cache settles it",
    "add_cross_attention": "there is no encoder to attend to",
}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with transformers' own values for what it leaves out."""
    return {**DEFAULTS[config["model_type"]], **config}


def model_class(architecture: str) -> type:
    """The model class of an architecture."""
    if architecture in OWN:
        return own_model_classes()[architecture]
    from nutshell.models.language.wrapper import language_model_class

    return language_model_class(architecture)


def own_model_classes() -> dict[str, type]:
    """The model classes of the architectures that transformers does not have itself."""
    from nutshell.models.language.own.lstm import LstmForCausalLM
    from nutshell.models.language.own.transformer import ScratchForCausalLM

    return {"scratch": ScratchForCausalLM, "lstm": LstmForCausalLM}


def context(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a language model's config.json says it can be fed; None if there is no limit."""
    if config["model_type"] == "lstm" or config.get("positions") == "sinusoidal":
        return None
    config = complete(config)
    return config.get("n_positions", config.get("max_position_embeddings"))


@cache
def schema(architecture: str) -> type[BaseModel]:
    """A strict pydantic model of a `model.config:` block, from the annotations and defaults of the config class."""
    from transformers.activations import ACT2FN

    config = model_class(architecture).config_class
    fields: dict[str, Any] = {"model_type": (str, ...)}
    for name, kind in config.__annotations__.items():
        kind = Literal[tuple(sorted(ACT2FN))] if name in ("activation", "activation_function") else kind
        if name in REFUSED or name.startswith("summary_") or not hasattr(config, name):
            continue
        limits = {int: {"ge": 1}, float: {"ge": 0}, float | int: {"ge": 0}, int | None: {"ge": 1}}.get(kind, {})
        fields[name] = (Annotated[kind, Field(**limits)] if limits else kind, Field(default=None))
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    block = create_model("Config", __config__=strict, **fields)
    block.refused = REFUSED
    return block


def check_config(block: Any) -> dict[str, Any]:
    """A `model.config:` block, if every key is one of its architecture's and of the right type.

    Raises:
        ValueError: If it is no mapping, or names no architecture that can be trained here.
    """
    if not isinstance(block, dict):
        raise ValueError("expected a mapping with model_type and the keys of its config")
    if block.get("model_type") not in CAUSAL:
        raise ValueError(f"expected model_type: {', '.join(CAUSAL)}")
    return schema(block["model_type"]).model_validate(block).model_dump(exclude_unset=True)
