"""Which architectures of language models there are, and what their configs may say. Only its functions import torch."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

CAUSAL = ("gpt2", "scratch", "lstm")
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


def model_classes() -> dict[str, type]:
    """The model class of each architecture."""
    from nutshell.models.language.gpt2 import Gpt2LanguageModel

    return {"gpt2": Gpt2LanguageModel, **own_model_classes()}


def own_model_classes() -> dict[str, type]:
    """Those of them that transformers does not have itself."""
    from nutshell.models.language.own.lstm import LstmForCausalLM
    from nutshell.models.language.own.transformer import ScratchForCausalLM

    return {"scratch": ScratchForCausalLM, "lstm": LstmForCausalLM}


def context(config: dict[str, Any]) -> int | None:
    """The most tokens that a language model's config.json says it can be fed; None if there is no limit."""
    if config["model_type"] == "lstm" or config.get("positions") == "sinusoidal":
        return None
    return config.get("n_positions", config.get("max_position_embeddings", 1024))  # 1,024 is both classes' default


@cache
def schema(architecture: str) -> type[BaseModel]:
    """A strict pydantic model of a `model.config:` block, from the annotations and defaults of the config class."""
    from transformers.activations import ACT2FN

    config = model_classes()[architecture].config_class
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
