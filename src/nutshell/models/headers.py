"""What the headers of a checkpoint's safetensors files show before anything is loaded, without torch."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json
from nutshell.models import targets
from nutshell.models.language import architectures

Shapes = dict[str, tuple[int, ...]]
INDEX = "model.safetensors.index.json"
_PREFIX = re.compile(r"^(bert|distilbert|roberta|electra|albert|deberta|mpnet|model|transformer|gpt_neox)\.")
_HEAD = re.compile(r"^(lm_head|embed_out)\.(weight|bias)$")
_LAYER = re.compile(r"^(?:decoder\.)?(?:h|layers|blocks)\.(\d+)\.(.*)|^lstm\.((?:weight|bias)_[ih]h)_l(\d+)$")
# Of the layers of language models: the key of the config that says how many outputs a weight has.
_OUTPUTS = {
    r"\.q_proj\.weight$": "num_attention_heads",
    r"\.[kv]_proj\.weight$": "num_key_value_heads",
    r"\.(gate_proj|up_proj|fc1|fc_in|dense_h_to_4h)\.weight$|\.(feed_forward\.input|c_fc)\.bias$": "intermediate_size",
}


def shapes(folder: Path) -> Shapes:
    """Each weight's shape by its name, as the stock base model calls it (`encoder.layer.0...`, `h.0...`); none where
    the weights are on the Hub and not fetched yet.

    Raises:
        UserError: If a file is missing or cut short.
    """
    from safetensors import SafetensorError, safe_open

    weights: Shapes = {}
    for file in _files(folder):
        try:
            with safe_open(file, framework="np") as content:
                weights |= {_plain(name): tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder}: its weights cannot be read: {file.name}: {error}") from None
    return weights


def check_rows(folder: Path, weights: Shapes, expected: Mapping[str, tuple[str, int | None]]) -> None:
    """Passes weights with as many rows as the config says.

    Args:
        folder: The checkpoint's.
        weights: From `shapes`.
        expected: By a pattern of names, the config's key and the number of rows; None where the config leaves it open.

    Raises:
        UserError: If one has others.
    """
    for name, shape in weights.items():
        key, rows = next((value for pattern, value in expected.items() if re.search(pattern, name)), ("", None))
        if rows is not None and shape[0] != rows:
            raise UserError(
                f"{folder}: its weights do not fit its own config: {name} has {shape[0]:,} rows, expected {rows:,} by "
                f"its {key}"
            )


def check_layers(folder: Path, layers: Mapping[int, str], expected: int) -> None:
    """Passes a checkpoint with all layers and no more.

    Args:
        folder: The checkpoint's.
        layers: By a layer's number, the name of one of its weights.
        expected: How many the config says.

    Raises:
        UserError: If there are more or fewer.
    """
    _check_room(folder, [name for layer, name in layers.items() if layer >= expected])
    if missing := sorted({*range(expected)} - {*layers}):
        raise UserError(f"{folder}: lacks weights, all of layer {missing[0]} among them")


def check_targets(folder: Path, lora) -> None:
    """Passes the targets of a `model.lora` block, or none, that are the ends of the names of a checkpoint's matrices,
    as far as its headers tell.

    Raises:
        UserError: If one is the end of no name.
    """
    names = [name.removesuffix(".weight") for name, shape in shapes(folder).items() if len(shape) == 2]
    if names and lora and lora.targets:
        in_layers = [name for name in names if re.search(r"\.\d+\.", f".{name}")]
        targets.check_targets("model.lora.targets", lora.targets, names, in_layers)


def check_language_model(folder: Path, config: Mapping[str, Any]) -> None:
    """Passes a language model's checkpoint whose config asks for nothing that would make figures wrong, and whose
    weights are those of its config.

    Raises:
        UserError: If it is not, or weights are missing, too many, or do not fit.
    """
    if problem := architectures.problem(config):
        raise UserError(f"{folder / 'config.json'}: {problem}")
    weights = {name: shape for name, shape in shapes(folder).items() if not architectures.BUFFERS.search(name)}
    if not weights:
        return
    config, kind = architectures.complete(config), architectures.ARCHITECTURES[config["model_type"]]
    _check_sizes(folder, weights, config, kind)
    layers: dict[int, dict[str, str]] = {}  # by number, each weight's name within its layer and as a whole
    for name in weights:
        if match := _LAYER.search(name):
            layers.setdefault(int(match[1] or match[4]), {})[match[2] or match[3]] = name
    check_layers(folder, {number: min(parts.values()) for number, parts in layers.items()}, config["num_hidden_layers"])
    every = {part for parts in layers.values() for part in parts}
    missing = [f"{part} of layer {number}" for number, parts in layers.items() for part in sorted(every - {*parts})]
    others = {name for name in weights if not _LAYER.search(name)}
    needed = {kind.embedding, *kind.beyond}
    if not config["tie_word_embeddings"] and not {"lm_head.weight", "embed_out.weight"} & others:
        needed.add("lm_head.weight")
    if missing := [*sorted(needed - others), *missing]:
        raise UserError(f"{folder}: lacks weights, {', '.join(missing[:3])} among them")
    _check_room(folder, [name for name in others - needed - {*kind.sometimes} if not _HEAD.match(name)])


def _check_sizes(folder: Path, weights: Shapes, config: Mapping[str, Any], kind: architectures.Architecture) -> None:
    embedding, positions = re.escape(kind.embedding), config["max_position_embeddings"]
    expected = {
        rf"^{embedding}$|{_HEAD.pattern}": ("vocab_size", config["vocab_size"]),
        r"^(wpe|positions)\.weight$": ("max_position_embeddings", positions),
        r"^decoder\.embed_positions\.weight$": ("max_position_embeddings", positions and positions + 2),
    }
    outputs = architectures.outputs(config)
    check_rows(folder, weights, expected | {pattern: (key, outputs.get(key)) for pattern, key in _OUTPUTS.items()})
    width = config.get("word_embed_proj_dim") or config.get("embedding_size") or config.get("hidden_size")
    columns = weights.get(kind.embedding, (0, width))[-1]
    if width and columns != width:
        raise UserError(
            f"{folder}: its weights do not fit its own config: {kind.embedding} has {columns:,} columns, expected "
            f"{width:,}"
        )


def _check_room(folder: Path, surplus: Sequence[str]) -> None:
    if surplus:
        names = ", ".join(sorted(surplus)[:3])
        raise UserError(f"{folder}: has weights that its config has no room for, {names} among them")


def _files(folder: Path) -> list[Path]:
    """The files that from_pretrained would read."""
    if not any(folder.glob("*.safetensors")):
        return []
    if (folder / "model.safetensors").exists() or not (folder / INDEX).exists():
        return [folder / "model.safetensors"]
    try:
        names = read_json(folder / INDEX)["weight_map"].values()
        return [folder / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{folder / INDEX}: is damaged; it should say in which file each weight is") from None


def _plain(name: str) -> str:
    """A weight's name without what a model with a head puts before its base model's names."""
    return _PREFIX.sub("", name)
