"""Where a number comes from: code, packages, machine, time."""

import contextlib
import hashlib
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from transformers import TrainingArguments

from nutshell.experiment.blocks import Experiment
from nutshell.machine.errors import UserError
from nutshell.models import find as models

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "evaluate", "tokenizers", "numpy", "scipy")


def begin() -> dict[str, Any]:
    """What must be noted before a run, since it may change meanwhile: time, commit (None outside a git checkout)
    and whether the tree differed from it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    changed = _git("status", "--porcelain")
    dirty = None if changed is None else bool(changed)
    return {"started": time.time(), "commit": _git("rev-parse", "HEAD"), "dirty": dirty}


def made_with(args: TrainingArguments, began: dict[str, Any]) -> dict[str, Any]:
    """What is known before the work begins: commit, versions, device, precision, processes.

    Args:
        args: The run's arguments, which know processes and precision.
        began: What `begin` noted.
    """
    return {
        "commit": began["commit"],
        "dirty": began["dirty"],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": device_name(args),
        "threads": torch.get_num_threads(),
        "mixed_precision": args.mixed_precision,
        "processes": args.world_size,
    }


def collect(args: TrainingArguments, began: dict[str, Any]) -> dict[str, Any]:
    """The record beside every figure.

    Args:
        args: The run's arguments, which know processes and precision.
        began: What `begin` noted.

    Returns:
        `made_with`, wall seconds of this launch on this seed, and in bytes the peak memory of this process since it
        started and of its GPU during this seed.
    """
    return {
        **made_with(args, began),
        "distributed": AcceleratorState().distributed_type.value,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_seconds": time.time() - began["started"],
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if args.device.type == "cuda" else None,
    }


def digests(experiment: Experiment) -> dict[str, str]:
    """sha256 of the local files that an experiment names and that are there: `model`, `data`, `prompts`."""
    model, data = experiment.model, getattr(experiment, "data", None)
    named = {"data": data and data.path, "prompts": getattr(experiment, "prompts", None)}
    paths = {key: Path(name).expanduser() for key, name in named.items() if isinstance(name, str)}
    if model.name and not model.revision and model.name != "minilm":
        with contextlib.suppress(UserError):  # which the task will say
            paths["model"] = models.local(model.name, "")
    found = {}
    for key, path in sorted(paths.items()):
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        digest = hashlib.sha256()
        for file in files:
            digest.update(str(file.relative_to(path)).encode())
            with contextlib.suppress(OSError), file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        if files:
            found[key] = digest.hexdigest()
    return found


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    for line in lines:  # Linux counts what started this process into ru_maxrss
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(args: TrainingArguments) -> str:
    """The processor or GPU by its maker's name."""
    if args.device.type == "cuda":
        return torch.cuda.get_device_name(args.device)
    if args.device.type == "cpu" and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return f"{names[0]} ({torch.get_num_threads()} threads)"
    return platform.processor() or args.device.type


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
