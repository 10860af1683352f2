"""Where a number comes from: code, packages, machine, time. torch is imported only where it is needed."""

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from nutshell.machine.errors import plural
from nutshell.machine.files import reading

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "evaluate", "tokenizers", "peft", "numpy", "scipy")


class Origin(BaseModel):
    """What is known before the work begins.

    Attributes:
        commit: None outside a git checkout.
        dirty: Whether the tree differed from it; None outside a git checkout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str | None
    dirty: bool | None
    python: str
    packages: dict[str, str]
    platform: str
    device: str
    threads: int
    mixed_precision: str
    processes: int


class Provenance(Origin):
    """The record next to every figure.

    Attributes:
        wall_seconds: Of this launch on this seed.
        peak_memory_bytes: Of this process since it started.
        peak_gpu_memory_bytes: Of its GPU during this seed; None without one.
    """

    distributed: str
    finished: str
    wall_seconds: float
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None


class Clock:
    """What must be noted when a seed begins, since it may change meanwhile: time, commit, changes."""

    def __init__(self):
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        changes = _git("status", "--porcelain")
        self.started, self.commit = time.time(), _git("rev-parse", "HEAD")
        self.dirty = None if changes is None else bool(changes)

    def origin(self, args) -> Origin:
        """What is known now, of a run with these TrainingArguments."""
        import torch

        return Origin(
            commit=self.commit,
            dirty=self.dirty,
            python=platform.python_version(),
            packages={name: version(name) for name in PACKAGES},
            platform=platform.platform(),
            device=device_name(args),
            threads=torch.get_num_threads(),
            mixed_precision=args.mixed_precision,
            processes=args.world_size,
        )

    def provenance(self, args) -> Provenance:
        """The whole record, at the end of a run with these TrainingArguments."""
        import torch
        from accelerate.state import AcceleratorState, is_initialized

        state = AcceleratorState() if is_initialized() else args.distributed_state  # a task may do without Trainer
        return Provenance(
            **self.origin(args).model_dump(),
            distributed=state.distributed_type.value,
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            wall_seconds=time.time() - self.started,
            peak_memory_bytes=peak_memory_bytes(),
            peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if args.device.type == "cuda" else None,
        )


def digests(reads: Mapping[str, Mapping[str, Sequence[Path]] | str]) -> dict[str, str]:
    """sha256 of what a run reads, by what it is; what does not exist has none.

    Args:
        reads: By name, such as `data`: the local files of each part, of which the part, the name below their common
            folder and the content count; or the name of what cannot change, such as a commit on the Hub.

    Raises:
        UserError: If a file cannot be read.
    """
    names = {key: hashlib.sha256(name.encode()).hexdigest() for key, name in reads.items() if isinstance(name, str)}
    files = {key: _digest(parts) for key, parts in reads.items() if parts and not isinstance(parts, str)}
    return dict(sorted({**names, **files}.items()))


def _digest(parts: Mapping[str, Sequence[Path]]) -> str:
    folder = os.path.commonpath([file.parent for files in parts.values() for file in files])
    digest = hashlib.sha256()
    for part, files in sorted(parts.items()):
        for file in files:
            with reading(file), file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            digest.update(b"\0".join([part.encode(), os.fsencode(file.relative_to(folder)), content]))
    return digest.hexdigest()


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    for line in lines:  # Linux counts what started this process into ru_maxrss
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    import resource  # Windows lacks it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(args) -> str:
    """The processor or GPU by its maker's name."""
    import torch

    if args.device.type == "cuda":
        return torch.cuda.get_device_name(args.device)
    if args.device.type == "cpu" and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return f"{names[0]} ({plural(torch.get_num_threads(), 'thread')})"
    return platform.processor() or args.device.type


def _git(*words: str) -> str | None:
    try:
        output = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip()
