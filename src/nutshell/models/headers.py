"""What the headers of a checkpoint's safetensors files show before anything is loaded, without torch."""

import re
from pathlib import Path
from typing import Any

from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json

Shapes = dict[str, tuple[int, ...]]
INDEX = "model.safetensors.index.json"


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


def check_language_model(folder: Path, config: dict[str, Any]) -> None:
    """Passes a language model's checkpoint that can be read; of GPT-2, one whose weights are those of its config.

    Raises:
        UserError: If weights are missing, too many, or do not fit.
    """
    weights = shapes(folder)
    if not weights or config["model_type"] != "gpt2":
        return
    expected = _gpt2(config)
    _check_shapes(folder, weights, expected)
    if missing := sorted(expected.keys() - weights.keys()):
        raise UserError(f"{folder}: lacks weights, {', '.join(missing[:3])} among them")
    surplus = weights.keys() - expected.keys() - {"lm_head.weight"}  # which may be there next to the embedding
    if surplus := sorted(name for name in surplus if not name.endswith("attn.bias")):  # an old mask, which is not read
        raise UserError(f"{folder}: has weights that its config has no room for, {', '.join(surplus[:3])} among them")


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
    return re.sub(r"^(bert|distilbert|roberta|electra|albert|deberta|mpnet|model|transformer)\.", "", name)


def _check_shapes(folder: Path, weights: Shapes, expected: Shapes) -> None:
    for name, shape in expected.items():
        if name in weights and weights[name] != shape:
            sizes = [" x ".join(map(str, each)) for each in (weights[name], shape)]
            raise UserError(
                f"{folder}: its weights do not fit its own config: {name} is {sizes[0]}, expected {sizes[1]}"
            )


def _gpt2(config: dict[str, Any]) -> Shapes:
    """GPT-2's weights, whose matrices have the inputs first; the defaults are transformers' own."""
    hidden = config.get("n_embd", 768)
    inner = config.get("n_inner") or 4 * hidden
    vocab = config.get("vocab_size", 50257)
    sizes = {"wte.weight": (vocab, hidden), "wpe.weight": (config.get("n_positions", 1024), hidden)}
    if config.get("tie_word_embeddings") is False:
        sizes["lm_head.weight"] = (vocab, hidden)
    for number in range(config.get("n_layer", 12)):
        layer = f"h.{number}"
        for name, rows, columns in (
            ("attn.c_attn", hidden, 3 * hidden),
            ("attn.c_proj", hidden, hidden),
            ("mlp.c_fc", hidden, inner),
            ("mlp.c_proj", inner, hidden),
        ):
            sizes |= {f"{layer}.{name}.weight": (rows, columns), f"{layer}.{name}.bias": (columns,)}
        sizes |= _norm(f"{layer}.ln_1", hidden) | _norm(f"{layer}.ln_2", hidden)
    return sizes | _norm("ln_f", hidden)


def _norm(name: str, hidden: int) -> Shapes:
    return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
