"""How many processes a launch has, whether they are as many as were requested, and each one's share of a batch."""

import os
from collections.abc import Sequence

from nutshell.machine.errors import UserError

TOKENS_AT_ONCE = 8192  # in one forward pass of one process: BERT-base and GPT-2 small then train in 16 GB


def processes() -> int:
    """All processes of this launch, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that prints and writes: the only one, or the launcher's rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def precision(mixed_precision: str) -> str:
    """accelerate's word for a precision, with fp32 instead of `no`."""
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


def launcher(processes: int, mixed_precision: str) -> list[str]:
    """The words before `run` that launch so many processes in that precision, at the top of the repository."""
    if processes == 1 and mixed_precision == "no":
        return ["nutshell"]
    fsdp = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    config = "experiments/hardware/fsdp.yaml" if fsdp else "accelerate_config.yaml"
    options = ["--config_file", config, "--num_processes", str(processes), "--mixed_precision", mixed_precision]
    return ["accelerate", "launch", *options, "-m", "nutshell"]


def check(world_size: int, has_accelerator: bool) -> None:
    """Compares the processes that work together with those that were requested.

    Raises:
        UserError: If a launcher should have started more or fewer, or a model is to be divided among GPUs that are not
            there.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and not has_accelerator:
        raise UserError("FSDP divides a model among GPUs, and there is none: use accelerate_config.yaml")
    requested, obstacles = (processes(), []) if "WORLD_SIZE" in os.environ else accelerate_request(_launcher_words())
    if requested != world_size:
        advice = "; ".join(obstacles) or (
            f"start it with `accelerate launch --config_file accelerate_config.yaml --num_processes {requested} ...`"
        )
        raise UserError(f"the launch asked for {requested} processes, but {world_size} work together: {advice}")


def accelerate_request(words: Sequence[str]) -> tuple[int, list[str]]:
    """How many processes `accelerate launch` should start, and which of its settings make it start only one.

    For these settings it starts a single process, whatever --num_processes is, and does not say so. `use_cpu: true`
    is not one of them.

    Args:
        words: What follows `accelerate launch`; empty if accelerate did not start this process.

    Returns:
        The number of processes, and for each obstacle what to leave out or change.
    """
    if not words:
        return 1, []
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    options, config = launch_command_parser().parse_args(list(words)), None
    if options.config_file or (os.path.isfile(default_config_file) and not options.cpu):  # as accelerate decides
        config = load_config_from_file(options.config_file)
    obstacles = []
    if options.cpu:
        obstacles.append(
            "leave out --cpu, with which accelerate starts one process; without a GPU the CPU is used anyway"
        )
    if config is None and not (options.multi_gpu or options.use_fsdp):
        obstacles.append(
            "add --config_file accelerate_config.yaml; without a config file, and without several GPUs, accelerate "
            "starts one process"
        )
    kind = str(getattr(config, "distributed_type", "")).rpartition(".")[-1]
    if kind in ("NO", "MULTI_CPU") and not (options.multi_gpu or options.use_fsdp):
        obstacles.append(
            f"write `distributed_type: MULTI_GPU` in {options.config_file or default_config_file}, which also serves "
            f"CPUs; with {kind} accelerate starts one process"
            + ", and use_cpu: true does not change that"
            * bool(config.use_cpu)
        )
    return options.num_processes or (config.num_processes if config else 0) or 1, obstacles


def _launcher_words() -> list[str]:
    """What follows `accelerate launch` in the command that started this process by itself; empty if none did."""
    import psutil

    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return []
    names = [os.path.basename(word) for word in words]
    for place, name in enumerate(names):
        if name in ("accelerate-launch", "accelerate.commands.launch") or (
            name == "launch" and names[place - 1] in ("accelerate", "accelerate.commands.accelerate_cli")
        ):
            return words[place + 1 :]
    return []
