"""Tracking off line, and what wandb has written of it."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import wandb
from wandb.util import get_core_path

KEY = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def tracked_off_line(folder: Path) -> Iterator[None]:
    """Off line, with a key; wandb, which reads its variables once and sets some, begins and ends within it."""
    before = dict(os.environ)
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    os.environ |= {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "NETRC": str(folder / "netrc")}
    os.environ |= {"WANDB_CONFIG_DIR": str(folder / "config"), "WANDB_CACHE_DIR": str(folder / "cache")}
    try:
        yield
    finally:
        wandb.teardown()
        os.environ.clear()
        os.environ.update(before)


def records(folder: Path, kind: str) -> list[dict]:
    """What wandb has written of the one run in a seed's folder."""
    wandb.teardown()  # waits until all is written; `finish` does not
    (file,) = folder.glob("wandb/*/*.wandb")
    # What `wandb leet inspect --json` runs.
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", file, file.parent]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line[kind] for line in map(json.loads, lines) if line["type"] == kind]


def summary(folder: Path) -> dict:
    return {key: value for record in records(folder, "summary") for key, value in record.get("update", {}).items()}
