"""Where a checkpoint is, and what is refused before any of it is loaded. Imports no torch."""

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nutshell.machine import hub
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json
from nutshell.models.embedded.registry import EMBEDDED, served

SMALL_FILES = ("config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")
CHAT_FILES = ("chat_template.jinja", "generation_config.json")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# The most that a config may say: what is checked with it must not run out of memory.
SIZES = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_hidden_groups"), 1000),
    **dict.fromkeys(("hidden_size", "n_embd", "dim", "intermediate_size", "n_inner", "hidden_dim"), 2**20),
    **dict.fromkeys(("vocab_size", "type_vocab_size"), 2**20),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 2**20),
}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def find(name: str, revision: str | None, architectures: Sequence[str], weights: bool = True) -> Path:
    """The folder of a checkpoint that is safe to load: from the Hub, a local folder or an embedded one.

    Args:
        name: With a revision, one on the Hub; without, an embedded one, a checkpoint's folder or an earlier run's.
        revision: A commit on the Hub, or None.
        architectures: The `model_type`s that are served, such as bert.
        weights: False if only config and tokenizer are needed: the weights are then not fetched, and no digest of them
            is computed; that there are some, and in which format, is checked all the same.

    Raises:
        UserError: If it is not there, is a pickle, wants to run code of its own, is of another architecture, or is
            not what its digest promises.
    """
    embedded = " or ".join(served(architectures))
    if revision and name in EMBEDDED:
        raise UserError(f"model.revision: {name} is embedded and has no revision: leave it out")
    if revision:
        instead = "without a network, name a local folder in model.name"
        instead += f", or take the embedded {embedded}" * bool(embedded)
        folder = hub.fetch(name, revision, SMALL_FILES + CHAT_FILES + WEIGHTS * weights, "model", instead)
    elif name in EMBEDDED:
        _check_architecture(f"model.name: {name}", EMBEDDED[name].MODEL_TYPE, architectures)
        folder = EMBEDDED[name].folder(weights)
    else:
        folder = local(name, f"; embedded is {embedded}" * bool(embedded))
    config = read_config(folder)
    _check_architecture(str(folder), config.get("model_type"), architectures)
    if config.get("quantization_config"):
        raise UserError(
            f"{folder}: its weights are quantized (quantization_config), and only whole ones are read: name the "
            "checkpoint that they were made of"
        )
    _check_sizes(folder / "config.json", config)
    names = [file.name for file in folder.iterdir()]
    if not weights and revision and not any(name.endswith(".safetensors") for name in names):
        names = hub.file_names(name, revision)  # None: off line, they may be anything
    if names is not None:
        _check_weights(folder, names)
    return folder


def files(name: str | None, revision: str | None, chat: bool = False) -> dict[str, list[Path]]:
    """The files of a local checkpoint that a run reads: config, tokenizer and weights, for a conversation those that
    say how it is held; none of the Hub's or an embedded one, which cannot change, or of one that is not there."""
    if not name or revision or name in EMBEDDED:
        return {}
    try:
        folder = local(name, "")
    except UserError:  # which the task reports
        return {}
    patterns = SMALL_FILES + CHAT_FILES * chat + WEIGHTS
    every = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return {"": every} if every else {}


def weights_origin(name: str | None, revision: str | None) -> str | None:
    """What its config.json says that readers of any figure of this checkpoint should know of its weights, such as that
    they were 4-bit ones; saved models hand it on. None if nothing, or if it is on the Hub."""
    if not name or revision:
        return None
    folder = EMBEDDED[name].folder() if name in EMBEDDED else local(name, "")
    origin = read_config(folder).get("weights_origin")
    return origin if isinstance(origin, str) else None


def local(name: str, embedded: str) -> Path:
    """A checkpoint's folder, an earlier run's, or that of its only seed."""
    folder = Path(name).expanduser()
    if not os.path.isdir(folder):  # before 3.14 Path.is_dir raises for a name that is too long
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
    checkpoint = runs[0] / "model" if runs else folder
    if runs and not (checkpoint / "config.json").exists():
        raise UserError(f"model.name: {runs[0]} keeps no weights{_pointer(checkpoint)}")
    return checkpoint


def _pointer(folder: Path) -> str:
    """Which model a run's own folder names instead of holding one: any of its JSON files may have `model: {name}`."""
    for file in sorted(folder.glob("*.json")):
        content = _json(file)
        if isinstance(model := content.get("model"), dict) and model.get("name"):
            revision = f" at revision {model['revision']}" if model.get("revision") else ""
            return f"; it was of {model['name']}{revision}, which {file.name} points to: name that"
    return ""


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint that comes without code of its own."""
    config = _json(folder / "config.json")
    tokenizer = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    if "auto_map" in config or "auto_map" in tokenizer:
        raise UserError(
            f"{folder}: its config names code of its own (auto_map); code that comes with a checkpoint is not run, "
            "since it could do anything on this machine"
        )
    return config


def _check_architecture(place: str, model_type: Any, architectures: Sequence[str]) -> None:
    if model_type not in architectures:
        kind = f"is a {model_type} checkpoint" if isinstance(model_type, str) else "names no model_type"
        raise UserError(f"{place}: {kind}; this task runs {', '.join(architectures)}")


def _json(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise UserError(f"{file.parent}: holds no checkpoint (no {file.name})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object, not {str(content)[:40]}")
    return content


def _check_sizes(file: Path, config: dict[str, Any]) -> None:
    for key, most in SIZES.items():
        size = config.get(key, 1)
        without = (key, size) in (("n_inner", None), ("type_vocab_size", 0))  # 4 x n_embd; no token types
        if not (isinstance(size, int) and 0 < size <= most) and not without:
            raise UserError(f"{file}: {key}: expected a whole number from 1 to {most:,}")


def _check_weights(folder: Path, names: Sequence[str]) -> None:
    if any(fnmatch(name, "*.safetensors") for name in names):
        return
    pickles = [name for pattern in PICKLES for name in names if fnmatch(name, pattern)]
    raise UserError(
        f"{folder}: no model.safetensors{f' but {pickles[0]}' if pickles else ''}; weights in a pickle are not loaded, "
        "since loading one can run any code that is in it. Save the model again with save_pretrained, which writes "
        "safetensors"
    )
