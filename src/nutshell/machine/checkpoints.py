"""A run's checkpoints: written under another name and then renamed, so that one is there whole or not at all.

Trainer's own `resume_from_checkpoint=True` takes the highest number and does not look inside.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from nutshell.machine.files import read_json, write_json

CONTENT = "checkpoint.json"  # written last: the size of each file, and what was cut short at this step


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most steps among a run's whole ones."""
    return max((c for c in all_of(folder) if is_whole(c)), key=_steps, default=None)


def all_of(folder: Path) -> list[Path]:
    """Every checkpoint of a run, the oldest first."""
    every = (c for c in folder.glob("checkpoint-*") if c.is_dir())
    return sorted((c for c in every if c.name.removeprefix("checkpoint-").isdecimal()), key=_steps)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is there, as long as when it was written."""
    try:
        sizes = _content(checkpoint)["bytes"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


def still_to_do(checkpoint: Path) -> list[str]:
    """What belongs to its step and was cut short: "evaluate", and "save" after it."""
    return _content(checkpoint)["still_to_do"]


def state(checkpoint: Path) -> dict[str, Any]:
    """Trainer's record in a checkpoint: global_step, max_steps, log_history, best_model_checkpoint and more."""
    return read_json(checkpoint / "trainer_state.json")


def publish(partial: Path, checkpoint: Path, still_to_do: list[str]) -> None:
    """Gives a checkpoint its name, after the disk has all of it."""
    files = [file for file in sorted(partial.rglob("*")) if file.is_file()]
    for file in files:
        _flush(file)
    sizes = {str(file.relative_to(partial)): file.stat().st_size for file in files}
    write_json(partial / CONTENT, {"still_to_do": still_to_do, "bytes": sizes})
    _flush(partial)
    earlier = _hidden(checkpoint)
    if checkpoint.exists():  # of the same step: one whose evaluation was cut short
        checkpoint.rename(earlier)
    partial.rename(checkpoint)
    _flush(checkpoint.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def rotate(folder: Path, limit: int | None, best: str | None) -> None:
    """Removes the oldest checkpoints beyond a limit, but never the newest nor the best."""
    every = all_of(folder)
    kept = {every[-1].name, Path(best or every[-1]).name}
    surplus = len(every) - max(limit, len(kept)) if limit else 0
    for checkpoint in [c for c in every if c.name not in kept][: max(0, surplus)]:
        remove(checkpoint)


def remove(checkpoint: Path) -> None:
    """Removes a checkpoint, first its name: a kill leaves it whole or gone."""
    hidden = _hidden(checkpoint)
    shutil.rmtree(hidden, ignore_errors=True)
    checkpoint.rename(hidden)
    shutil.rmtree(hidden)


def discard(folder: Path) -> None:
    """Removes every checkpoint of a run, and what is left of those that a killed one was removing."""
    clear(folder)
    for checkpoint in all_of(folder):
        remove(checkpoint)


def clear(folder: Path) -> None:
    """Removes what a killed run was writing or removing, except a whole checkpoint that it was about to replace."""
    for hidden in folder.glob(".checkpoint-*"):
        checkpoint = hidden.with_name(hidden.name.removeprefix(".").removesuffix(".removed"))
        if is_whole(hidden) and not checkpoint.exists():
            hidden.rename(checkpoint)
        else:
            shutil.rmtree(hidden)


def _hidden(checkpoint: Path) -> Path:
    return checkpoint.with_name(f".{checkpoint.name}.removed")


def _content(checkpoint: Path) -> dict[str, Any]:
    return read_json(checkpoint / CONTENT)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _steps(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
