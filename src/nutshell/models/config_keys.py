"""The keys a `model.config:` block may have: those of the named architecture's own transformers config."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

_FROM_TOKENIZER = "it follows from the tokenizer"
REFUSED = {
    "vocab_size": f"{_FROM_TOKENIZER}; model.vocab_size is the size of one to be trained",
    "bos_token_id": _FROM_TOKENIZER,
    "eos_token_id": _FROM_TOKENIZER,
    "pad_token_id": _FROM_TOKENIZER,
    "use_cache": "generation.use_cache settles it",
    "add_cross_attention": "there is no encoder to attend to",
}


@cache
def schema(architecture: str) -> type[BaseModel]:
    """A strict pydantic model of the block, from the annotations and defaults of the architecture's config class."""
    from transformers.activations import ACT2FN

    from nutshell.models.find import config_classes

    config = config_classes()[architecture]
    fields: dict[str, Any] = {"model_type": (str, ...)}
    for name, kind in config.__annotations__.items():
        kind = Literal[tuple(sorted(ACT2FN))] if name in ("activation", "activation_function") else kind
        if name in REFUSED or name.startswith("summary_") or not hasattr(config, name):
            continue
        limits = {int: {"ge": 1}, float: {"ge": 0}, float | int: {"ge": 0}, int | None: {"ge": 1}}.get(kind, {})
        fields[name] = (Annotated[kind, Field(**limits)] if limits else kind, Field(default=None))
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    return create_model("Config", __config__=strict, **fields)


def check(block: Any) -> dict[str, Any]:
    """The block, if every key is one of its architecture's and of the right type.

    Raises:
        ValueError: If it is no mapping, or names no architecture that can be trained here.
    """
    if not isinstance(block, dict):
        raise ValueError(f"expected a mapping with model_type and the keys of its config, not {block!r}")
    from nutshell.models.find import ARCHITECTURES

    if block.get("model_type") not in ARCHITECTURES:
        raise ValueError(f"expected model_type: {', '.join(ARCHITECTURES)}, not {block.get('model_type')!r}")
    return schema(block["model_type"]).model_validate(block).model_dump(exclude_unset=True)
