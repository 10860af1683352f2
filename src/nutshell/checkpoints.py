"""Which of a run's checkpoints were written to their end.

Trainer's own `resume_from_checkpoint=True` takes the highest number without a look inside.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open


def newest(folder: Path, processes: int) -> Path | None:
    """The checkpoint with the most steps among a run's whole ones."""
    return max((c for c in _all(folder) if is_whole(c, processes)), key=_steps, default=None)


def torn(folder: Path, processes: int) -> list[Path]:
    """The checkpoints whose writing was cut short."""
    return [c for c in _all(folder) if not is_whole(c, processes)]


def is_whole(checkpoint: Path, processes: int) -> bool:
    """True if a run of this many processes can go on from it.

    The main process writes trainer_state.json last, after weights, optimizer and schedule; every process writes
    its own random state. The weights' header says how long their file must be.
    """
    weights = list(checkpoint.glob("*.safetensors"))
    try:
        state(checkpoint)
        for file in weights:
            with safe_open(file, "pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    others = ["optimizer.pt", "scheduler.pt"]
    others += ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    return bool(weights) and all((checkpoint / name).exists() for name in others)


def state(checkpoint: Path) -> dict[str, Any]:
    """Trainer's record in a checkpoint: global_step, max_steps, log_history, best_model_checkpoint and more."""
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))


def _all(folder: Path) -> list[Path]:
    return [c for c in folder.glob("checkpoint-*") if c.is_dir() and c.name.removeprefix("checkpoint-").isdecimal()]


def _steps(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
