"""A seed's folder: which experiment it holds, and that one run at a time is in it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nutshell.machine.errors import UserError
from nutshell.machine.launch import is_main

NOT_THE_QUESTION = {"reference", "launch", "command"}  # may differ without making the results another experiment's


def differences(folder: Path, resolved: dict[str, Any]) -> list[str]:
    """The dotted keys in which the experiment that a folder holds differs from this one; a file that it read and that
    is gone is no difference."""
    ours, theirs = (
        {key: value for key, value in flat(tree) if key.split(".")[0] not in NOT_THE_QUESTION}
        for tree in (resolved, held(folder))
    )
    return unequal(ours, {key: value for key, value in theirs.items() if key in ours or not key.startswith("read.")})


def unequal(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The keys in which two flat trees differ."""
    return sorted(key for key in one | other if one.get(key) != other.get(key))


def held(folder: Path) -> dict[str, Any]:
    """The experiment that a folder holds."""
    file = folder / "experiment.yaml"
    try:
        tree = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        tree = None
    if not isinstance(tree, dict):
        raise UserError(f"{file}: cannot be read as an experiment; choose another --output, or remove the folder")
    return tree


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested blocks under its dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check(folder: Path, resolved: dict[str, Any], force: bool) -> None:
    """Passes a folder that a run of this experiment may use.

    Raises:
        UserError: If it holds another experiment, unless that is to be discarded, or what no run has written.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "experiment.yaml").exists():
        raise UserError(f"{folder}: holds files that no run has written; choose another --output")
    keys = [] if force else differences(folder, resolved)
    if keys:
        raise UserError(
            f"{folder}: holds another experiment; {', '.join(keys)} differ. Choose another --output, or discard those "
            "results with --force"
        )


def lock(folder: Path) -> Path:
    """The file whose lock says that a run is in the folder; it stays: removing it would race."""
    return folder.with_name(f".{folder.name}.lock")


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the folder's lock on the main process; the system drops it with the process, however it ends."""
    if not is_main():
        yield
        return
    taken = FileLock(lock(folder), timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        taken.acquire()
    except Timeout:
        raise UserError(f"{folder}: another process is running in it") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None
    try:
        yield
    finally:
        taken.release()
