"""What the headers of a checkpoint's safetensors files show before anything is loaded, without torch."""

import re
from collections.abc import Sequence
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


def check_classifier(folder: Path, config: dict[str, Any], labels: Sequence[str]) -> None:
    """Passes a BERT checkpoint whose encoder is whole and whose head, if it has one, tells these labels apart.

    Args:
        folder: Of the checkpoint.
        config: Its config.json.
        labels: What label 0, 1, ... means.

    Raises:
        UserError: If weights are missing or do not fit, or the head has other labels.
    """
    weights = shapes(folder)
    if not weights:  # on the Hub, not fetched yet
        return
    hidden = config.get("hidden_size", 768)
    head = {"classifier.weight": (len(labels), hidden), "classifier.bias": (len(labels),)}
    _check_shapes(folder, weights, _bert(config) | head, f"{len(labels)} labels or its own config")
    try:
        own = [str(name) for _, name in sorted((config.get("id2label") or {}).items(), key=lambda item: int(item[0]))]
    except (AttributeError, ValueError):
        raise UserError(f"{folder / 'config.json'}: id2label: expected the name of each label by its number") from None
    if "classifier.weight" in weights and own not in ([], list(labels), ["LABEL_0", "LABEL_1"]):
        raise UserError(f"{folder}: its head tells {', '.join(own)} apart, this data set {', '.join(labels)}")
    if missing := sorted(_bert(config).keys() - weights.keys()):
        raise UserError(f"{folder}: lacks weights of the encoder, {', '.join(missing[:3])} among them")


def check_language_model(folder: Path, config: dict[str, Any]) -> None:
    """Passes a language model's checkpoint that can be read; of GPT-2, one whose weights are those of its config.

    Raises:
        UserError: If weights are missing, too many, or do not fit.
    """
    weights = shapes(folder)
    if not weights or config["model_type"] != "gpt2":
        return
    expected = _gpt2(config)
    _check_shapes(folder, weights, expected, "its own config")
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
    """A weight's name as it is today: BERT's first checkpoints call a norm's weight gamma and its bias beta."""
    name = re.sub(r"^(bert|transformer)\.", "", name)
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)


def _check_shapes(folder: Path, weights: Shapes, expected: Shapes, purpose: str) -> None:
    for name, shape in expected.items():
        if name in weights and weights[name] != shape:
            sizes = [" x ".join(map(str, each)) for each in (weights[name], shape)]
            raise UserError(f"{folder}: its weights do not fit {purpose}: {name} is {sizes[0]}, expected {sizes[1]}")


def _bert(config: dict[str, Any]) -> Shapes:
    """BERT's embeddings and encoder; the defaults are transformers' own."""
    hidden, inner = config.get("hidden_size", 768), config.get("intermediate_size", 3072)
    sizes = {
        "embeddings.word_embeddings.weight": (config.get("vocab_size", 30522), hidden),
        "embeddings.position_embeddings.weight": (config.get("max_position_embeddings", 512), hidden),
        "embeddings.token_type_embeddings.weight": (config.get("type_vocab_size", 2), hidden),
        **_norm("embeddings.LayerNorm", hidden),
    }
    for number in range(config.get("num_hidden_layers", 12)):
        layer = f"encoder.layer.{number}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            sizes |= _linear(f"{layer}.attention.{name}", hidden, hidden)
        sizes |= _norm(f"{layer}.attention.output.LayerNorm", hidden) | _norm(f"{layer}.output.LayerNorm", hidden)
        sizes |= _linear(f"{layer}.intermediate.dense", inner, hidden) | _linear(f"{layer}.output.dense", hidden, inner)
    return sizes


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


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, hidden: int) -> Shapes:
    return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
