"""Which of a run's checkpoints were written to their end.

Trainer's own `resume_from_checkpoint=True` takes the highest number without a look inside.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most steps among a run's whole ones."""
    return max((c for c in _all(folder) if is_whole(c)), key=_steps, default=None)


def torn(folder: Path) -> list[Path]:
    """The checkpoints whose writing was cut short."""
    return [c for c in _all(folder) if not is_whole(c)]


def is_whole(checkpoint: Path) -> bool:
    """True if a run can go on from it: Trainer writes trainer_state.json last, after weights, optimizer,
    schedule and random state; the weights' header says how long their file must be."""
    weights = list(checkpoint.glob("*.safetensors"))
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        for file in weights:
            with safe_open(file, "pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    others = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")
    return bool(weights) and all(any(checkpoint.glob(name)) for name in others)


def _all(folder: Path) -> list[Path]:
    return [c for c in folder.glob("checkpoint-*") if c.is_dir() and c.name.removeprefix("checkpoint-").isdecimal()]


def _steps(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
