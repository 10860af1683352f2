"""How many processes a launch has, whether they are those that were asked for, and what of a batch each takes."""

import os
import shlex
from pathlib import Path
from typing import Any

from nutshell.data.datasets import DATASETS, TEXTS
from nutshell.experiment.blocks import Experiment
from nutshell.machine.errors import UserError

TOKENS_AT_ONCE = 8192  # in one forward pass of one process: BERT-base and GPT-2 small then train in 16 GB


def processes() -> int:
    """All processes of this launch, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that prints and writes: the only one, or the launcher's rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def precision(mixed_precision: str) -> str:
    """accelerate's word for it, with `no` said as fp32."""
    return {"no": "fp32"}.get(mixed_precision, mixed_precision)


def split(global_batch_size: int, processes: int, tokens: int) -> tuple[int, int]:
    """How one optimizer step's examples are divided.

    Args:
        global_batch_size: Examples of the step.
        processes: That share them.
        tokens: Of one example, at most.

    Returns:
        Examples that a process takes at once, as many as TOKENS_AT_ONCE allows, and its accumulated batches.

    Raises:
        UserError: If the processes' shares would not be equal.
    """
    share, rest = divmod(global_batch_size, processes)
    if rest:
        near = [size for size in (share * processes, (share + 1) * processes) if size]
        raise UserError(
            f"global_batch_size: {global_batch_size} does not divide among {processes} processes; the nearest that do: "
            f"{' and '.join(map(str, near))}"
        )
    fitting = [size for size in range(1, share + 1) if share % size == 0 and size * tokens <= TOKENS_AT_ONCE]
    at_once = max(fitting, default=1)
    return at_once, share // at_once


def training(experiment: Experiment) -> dict[str, Any]:
    """The `training:` block for this launch: what `global_batch_size` comes to is filled in."""
    size = getattr(experiment, "global_batch_size", None)
    if size is None:
        return experiment.training
    tokens = experiment.data.max_tokens if experiment.task == "classify" else experiment.data.block_tokens
    at_once, accumulated = split(size, processes(), tokens)
    return experiment.training | {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": accumulated,
    }


def command(experiment: Experiment, seed: int, output: Path, launched: dict[str, Any]) -> str:
    """What runs one seed of an experiment alike: for a shell at the top of the repository.

    Args:
        experiment: As it was loaded.
        seed: The seed.
        output: The root of all results.
        launched: How many `processes` there are, and in which `mixed_precision`.
    """
    words = ["run", str(experiment._file), *experiment._overrides, "--seed", str(seed)]
    if output.resolve() != Path("outputs").resolve():
        words += ["--output", str(output)]
    launcher, data = ["nutshell"], getattr(experiment, "data", None)
    if launched["processes"] > 1 or launched["mixed_precision"] != "no":
        fsdp = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
        config = "experiments/hardware/fsdp.yaml" if fsdp else "accelerate_config.yaml"
        launcher = ["accelerate", "launch", "--config_file", config, "--num_processes", str(launched["processes"])]
        launcher += ["--mixed_precision", launched["mixed_precision"], "-m", "nutshell"]
    local = os.environ.get("NUTSHELL_DATA")
    known = {**DATASETS, **TEXTS}[data.name] if data else None
    prefix = f"NUTSHELL_DATA={shlex.quote(local)} " if local and known and known.repository and not data.path else ""
    return prefix + shlex.join([*launcher, *words])


def check(world_size: int, has_accelerator: bool) -> None:
    """Compares what works together with what was asked for.

    Raises:
        UserError: If a launcher was told to start other processes than these, or to divide a model among GPUs that
            are not there.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and not has_accelerator:
        raise UserError("FSDP divides a model among GPUs, and there is none: use accelerate_config.yaml")
    wanted = _asked_of_accelerate() if "WORLD_SIZE" not in os.environ else processes()
    if wanted != world_size:
        raise UserError(
            f"the launch asked for {wanted} processes, but {world_size} work together; use `accelerate launch "
            f"--config_file accelerate_config.yaml --num_processes {wanted} ...`, whose MULTI_GPU also serves CPUs"
        )


def _asked_of_accelerate() -> int:
    """The processes that `accelerate launch` was to start, if that is what started this one by itself: for some
    values of distributed_type it starts a single process, whatever it was told, and does not say so."""
    import psutil
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return 1
    names = [os.path.basename(word) for word in words]
    place = next(
        (
            n + 1
            for n, name in enumerate(names)
            if name in ("accelerate-launch", "accelerate.commands.launch")
            or (name == "launch" and names[n - 1] in ("accelerate", "accelerate.commands.accelerate_cli"))
        ),
        None,
    )
    if place is None:
        return 1
    told = launch_command_parser().parse_args(words[place:])
    if told.num_processes is None and (told.config_file or os.path.isfile(default_config_file)):
        return load_config_from_file(told.config_file).num_processes or 1
    return told.num_processes or 1
