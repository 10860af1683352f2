"""The `model:` block of a language model, and the `model.config:` of a new one. Only its functions import torch."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args

from huggingface_hub.errors import StrictDataclassError
from pydantic import BaseModel, ConfigDict, Field, create_model

from nutshell.models.language.architectures import CAUSAL, complete, model_class, problem

_ACTIVATIONS = ("activation", "activation_function", "hidden_act", "hidden_activation")
_FROM_TOKENIZER = "it follows from the tokenizer"
REFUSED = {
    "vocab_size": f"{_FROM_TOKENIZER}; model.vocab_size is the size of one to be trained",
    "bos_token_id": _FROM_TOKENIZER,
    "eos_token_id": _FROM_TOKENIZER,
    "pad_token_id": _FROM_TOKENIZER,
    "use_cache": "generation.use_cache settles it",
    "add_cross_attention": "there is no encoder to attend to",
    "use_bidirectional_attention": "each token would see those after it, which it is to predict",
    "is_decoder": "a language model is always one",
    "classifier_dropout": "there is no classifier",
    "pretraining_tp": "transformers reads it no more",
    "slow_but_exact": "transformers reads it no more",
}


def problems(model: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the well-formed keys of a `model:` block together, and with those of `training:`."""
    if ("name" in model) == ("config" in model):
        yield ("model",), "model: state either name, a checkpoint, or config, a model to be trained from the start"
    elif "name" in model:
        for key in ("tokenizer", "vocab_size"):
            if key in model:
                yield ("model", key), f"model.{key}: a checkpoint comes with its own tokenizer; leave it out"
        if "lora" in model and training.get("num_train_epochs") == 0 and "max_steps" not in training:
            yield ("model", "lora"), "model.lora: nothing is trained where training.num_train_epochs is 0"
    else:
        if "lora" in model:
            yield ("model", "lora"), "model.lora adapts a checkpoint; a model of model.config is trained whole"
        if "revision" in model:
            yield ("model", "revision"), "model.revision is a checkpoint's commit; a model of model.config has none"
        if "tokenizer" not in model:
            yield ("model",), "model.tokenizer is missing: bytes, or bpe with model.vocab_size"
        if (model.get("tokenizer") == "bpe") != ("vocab_size" in model):
            yield ("model",), "model.vocab_size is the size of a bpe to be trained: state both or neither"
        steps = training.get("max_steps")
        if training.get("num_train_epochs") == 0 and not (isinstance(steps, int) and steps > 0):
            path = ("training", "num_train_epochs")
            yield path, "training.num_train_epochs: 0 leaves a model of model.config untrained"


@cache
def schema(architecture: str) -> type[BaseModel]:
    """A strict pydantic model of a `model.config:` block, from the annotations and defaults of the config class."""
    from transformers.activations import ACT2FN

    config = model_class(architecture).config_class
    fields: dict[str, Any] = {"model_type": (str, ...)}
    for name, kind in config.__annotations__.items():
        if name in REFUSED or name.startswith(("summary_", "_")) or not hasattr(config, name):
            continue
        kind = Literal[tuple(sorted(ACT2FN))] if name in _ACTIVATIONS else dict if name == "rope_parameters" else kind
        numbers = {part for part in (kind, *get_args(kind)) if part in (int, float)}
        limits = {"ge": 0 if float in numbers else 1} if numbers and not _other(kind) else {}
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
    keys = schema(block["model_type"]).model_validate(block).model_dump(exclude_unset=True)
    if found := problem(keys) or _heads(complete(keys)):
        raise ValueError(found)
    architecture = keys["model_type"]
    try:
        model_class(architecture).config_class(**{key: value for key, value in keys.items() if key != "model_type"})
    except (StrictDataclassError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"no {architecture} can be made of it: {str(error).strip().splitlines()[-1].strip()}"
        ) from None
    return keys


def _heads(config: dict[str, Any]) -> str | None:
    """What is wrong with how many heads of attention there are."""
    size, heads, groups = (config.get(key) for key in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if size and heads and size % heads and "head_dim" not in config:
        return f"hidden size {size} is no multiple of {heads} heads"
    if heads and groups and heads % groups:
        return f"{heads} heads are no multiple of num_key_value_heads, {groups}"
    return None


def _other(kind: Any) -> bool:
    """Whether a key may be something else than a number or null."""
    return any(part not in (int, float, type(None)) for part in get_args(kind) or (kind,))
