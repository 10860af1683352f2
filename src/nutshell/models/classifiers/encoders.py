"""The encoders that a classifier can be made of, and which of their checkpoints are refused. Imports no torch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nutshell.machine.errors import UserError, plural
from nutshell.models import headers
from nutshell.models.find import read_config

_SIZES = {
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "num_hidden_layers": 12,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
_NO_TYPES = {"type_vocab_size": 0}
# By architecture, what transformers takes where a config.json leaves a key out.
DEFAULTS = {
    "bert": _SIZES,
    "distilbert": _SIZES | _NO_TYPES | {"num_hidden_layers": 6},
    "roberta": _SIZES | {"vocab_size": 50265, "pad_token_id": 1},
    "electra": _SIZES,
    "albert": _SIZES | {"vocab_size": 30000, "num_hidden_groups": 1},
    "deberta-v2": _SIZES | _NO_TYPES | {"vocab_size": 128100, "num_hidden_layers": 24},
    "mpnet": _SIZES | _NO_TYPES | {"vocab_size": 30527, "pad_token_id": 1},
    "modernbert": _SIZES
    | _NO_TYPES
    | {"vocab_size": 50368, "max_position_embeddings": 8192, "num_hidden_layers": 22, "pad_token_id": 50283},
    "xlm-roberta": _SIZES | {"pad_token_id": 1},
}
ENCODERS = tuple(DEFAULTS)
UNTYPED = ("distilbert", "mpnet", "modernbert")  # have no token types, whatever their config says
ONE_TYPE = ("roberta", "xlm-roberta")  # were trained on one token type, also for pairs
COUNTED = ("roberta", "xlm-roberta", "mpnet")  # count positions from the one after the padding token's id
# The queries and values of attention. Source: Hu et al. 2021, "LoRA", section 4.2 and table 5.
ADAPTED = dict.fromkeys(ENCODERS, ("query", "value")) | {
    "distilbert": ("q_lin", "v_lin"),
    "deberta-v2": ("query_proj", "value_proj"),
    "mpnet": ("attn.q", "attn.v"),
    "modernbert": ("Wqkv",),
}
_ROWS = {
    r"^embeddings\.(word|tok)_embeddings\.weight$": "vocab_size",
    r"^embeddings\.position_embeddings\.weight$": "max_position_embeddings",
    r"^embeddings\.token_type_embeddings\.weight$": "type_vocab_size",
}
_HEAD = ("classifier.weight", "classifier.out_proj.weight")  # one row for each label


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with transformers' own values for the sizes that it leaves out."""
    kind = config["model_type"]
    layers = {"num_hidden_layers": config["n_layers"]} if "n_layers" in config else {}
    return {**DEFAULTS[kind], **config, **layers, **(_NO_TYPES if kind in UNTYPED else {})}


def positions(config: Mapping[str, Any]) -> int | None:
    """The most tokens that an encoder has positions for; None where they are relative alone."""
    config = complete(config)
    if config["model_type"] == "deberta-v2" and config.get("position_biased_input") is False:
        return None
    before = config["pad_token_id"] + 1 if config["model_type"] in COUNTED else 0
    return config["max_position_embeddings"] - before


def input_names(config: Mapping[str, Any]) -> list[str]:
    """What a model is fed: token types only where it has two of them or more."""
    types = ["token_type_ids"] if complete(config)["type_vocab_size"] > 1 else []
    return ["input_ids", *types, "attention_mask"]


def problems(model: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the well-formed keys of a `model:` block together."""
    if model.get("lora") and model.get("trainable", "all") != "all":
        yield (
            ("model", "trainable"),
            "model.trainable: model.lora settles which parameters are trained, its adapters and the head: state one",
        )


def check(folder: Path, model, max_tokens: int) -> None:
    """Passes a checkpoint that has the layers and positions that an experiment needs, and weights for its config.

    Args:
        folder: One that `find` has passed.
        model: The experiment's block: name and trainable.
        max_tokens: Of the longest example.

    Raises:
        UserError: If it has too few, or its positions are relative to each other, or its weights are another model's.
    """
    config = complete(read_config(folder))
    relative = config.get("position_embedding_type", "absolute")
    if relative != "absolute":
        raise UserError(
            f"{folder / 'config.json'}: position_embedding_type is {relative}, which transformers reads no more: the "
            "model would run without its positions"
        )
    if (most := positions(config)) is not None and max_tokens > most:
        raise UserError(f"data.max_tokens: {max_tokens} is more than the {most} positions of {model.name}")
    if model.trainable.startswith("last_"):
        layers = config["num_hidden_layers"]
        if config["model_type"] == "albert":
            raise UserError(
                f"model.trainable: {model.trainable}, but ALBERT uses one layer {layers} times: all or head"
            )
        if int(model.trainable.removeprefix("last_")) > layers:
            raise UserError(f"model.trainable: {model.trainable}, but the model has {layers} layers")
    _check_weights(folder, config, headers.shapes(folder))
    headers.check_targets(folder, model.lora)


def check_head(folder: Path, labels: Sequence[str], new_head: bool) -> None:
    """Passes a checkpoint without a head, with one that is to be drawn again, or with one for these labels.

    Args:
        folder: One that `find` has passed.
        labels: What label 0, 1, ... means; none where a number is predicted.
        new_head: Whether the head's last layer is drawn again.

    Raises:
        UserError: If the head tells other labels apart.
    """
    file = folder / "config.json"
    try:
        own = [str(name) for _, name in sorted((read_config(folder).get("id2label") or {}).items(), key=_number)]
    except (AttributeError, ValueError):
        raise UserError(f"{file}: id2label: expected the name of each label by its number") from None
    weights = headers.shapes(folder)
    rows = next((weights[name][0] for name in _HEAD if name in weights), None)
    if rows is None or new_head:
        return
    unnamed = [f"LABEL_{number}" for number in range(rows)]
    if rows == max(1, len(labels)) and (not labels or own in ([], unnamed, list(labels))):
        return
    known = f"tells {', '.join(own)} apart" if own not in ([], unnamed) else f"has {plural(rows, 'output')}"
    wanted = f"labels {', '.join(labels)}" if labels else "numbers, which need one output"
    raise UserError(
        f"{folder}: its head {known}, this data set has {wanted}; model.new_head: true draws the head's last layer "
        "again"
    )


def _number(item: tuple[str, str]) -> int:
    return int(item[0])


def _check_weights(folder: Path, config: Mapping[str, Any], weights: headers.Shapes) -> None:
    if not weights:  # on the Hub, not fetched yet
        return
    headers.check_rows(folder, weights, {pattern: (key, config[key]) for pattern, key in _ROWS.items()})
    shared = config["model_type"] == "albert"
    number = r"\balbert_layer_groups\.(\d+)\." if shared else r"\blayers?\.(\d+)\."
    layers = {int(match[1]): name for name in weights if (match := re.search(number, name))}
    headers.check_layers(folder, layers, config["num_hidden_groups" if shared else "num_hidden_layers"])
