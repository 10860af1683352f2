"""Speed of nutshell's experiments, as they are shipped, next to the stock recipe on the same examples: `make bench`.

    python experiments/benchmarks/throughput.py --workloads mrpc_train generation --alternations 5

The stock recipe is Trainer's defaults in fp32 with every example padded to the maximum (a language model's too, each
document cut or padded to the block), and `generate` one prompt at a time. nutshell's is its experiment file in bf16,
as `accelerate launch --mixed_precision bf16` runs it; on an accelerator also in fp32, and compiled (on a CPU in fp32
for MRPC alone). New texts go through transformers' pipeline in batches of 32, in fp32 and in bf16, and through what
`nutshell predict` calls; a CSV file is read by datasets' load_dataset, without its cache, and by nutshell's reader. The
sides take turns, each in a process of its own, one at a time, so that a slow minute of the machine falls on all; a
ratio is the median of the ratios of neighbours. Results are stored in `results/<processor>.json`; a run of some
workloads replaces those alone.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from arithmetic import PAIRED, UNITS, WORKLOADS, merged, summary
from tables import SPEED, speed_rows
from workloads import EXPERIMENTS, SEEDS, Task, Workloads

from nutshell.experiment.problems import unknown
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json, write_json
from nutshell.machine.provenance import Clock

HERE = Path(__file__).parent
FSDP = EXPERIMENTS / "hardware" / "fsdp.yaml"
PRECISIONS = {
    "stock": "no",
    "stock_bf16": "bf16",  # the pipeline of `predict` alone
    "nutshell": "bf16",
    "nutshell_fp32": "no",
    "nutshell_compiled": "bf16",
}
# What `accelerate launch --dynamo_backend inductor --dynamo_use_dynamic` sets: unpadded batches differ in width.
COMPILED = {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_DYNAMO_USE_DYNAMIC": "True"}


def sides(workload: str, accelerator: bool) -> tuple[str, ...]:
    """Who is measured, in turn."""
    if workload in ("predict", "csv"):
        return ("stock", *("stock_bf16",) * (workload == "predict"), "nutshell")
    if workload in PAIRED:
        fp32 = ("nutshell_fp32",) * workload.startswith("mrpc")  # on a CPU hours would be spent on the others
        on_gpu = tuple(side for side in PRECISIONS if side != "stock_bf16")
        return on_gpu if accelerator else ("stock", "nutshell", *fp32)
    return {"losses": ("nutshell_fp32", "nutshell"), "accuracy": ("stock", "nutshell")}.get(workload, ("nutshell",))


def environment(side: str) -> dict[str, str]:
    """What a launcher would set for a side, on one device, without what is set already."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    alone = {"ACCELERATE_MIXED_PRECISION": PRECISIONS[side], "CUDA_VISIBLE_DEVICES": device}
    return kept | alone | (COMPILED if side == "nutshell_compiled" else {})


def run_child(task: Task, side: str) -> dict[str, Any]:
    """What one process measured; {"failed": why} if it ended badly.

    Raises:
        UserError: If it says that the user has something to correct.
    """
    words = json.dumps(task | {"side": side, "started": time.time()})
    command = [sys.executable, str(HERE / "measurement.py"), words]
    done = subprocess.run(command, env=environment(side), capture_output=True, text=True)
    if done.returncode == 2:
        raise UserError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        return {"failed": _tail(done.stderr) or f"exit code {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_fsdp(task: Task, work: Path) -> dict[str, Any]:
    """One run with the model divided among all devices, as a user would launch it: its exit code and its record."""
    launch = ["accelerate.commands.launch", "--config_file", FSDP, "--num_processes", torch.accelerator.device_count()]
    launch += ["--mixed_precision", "bf16"]
    run = ["-m", "nutshell", "run", task["file"], *task["overrides"], "--output", work / "fsdp"]
    done = subprocess.run([sys.executable, "-m", *map(str, launch + run)], capture_output=True, text=True)
    files = [*(work / "fsdp").rglob("metrics.json")]
    record = read_json(files[0]) if files else {}
    kept = {key: record[key] for key in ("training", "evaluation", "provenance") if key in record}
    return {"exit_code": done.returncode, **kept, **({"failed": _tail(done.stderr)} if done.returncode else {})}


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-5:])


class Progress:
    """A line for each measurement, with how many are left."""

    def __init__(self, total: int):
        self.total, self.done, self.began = total, 0, time.monotonic()

    def say(self, workload: str, side: str, measurement: dict[str, Any]) -> None:
        """Prints what was measured and what remains."""
        self.done += 1
        left = self.total - self.done
        minutes = (time.monotonic() - self.began) / self.done * left / 60
        text, unit = "done", UNITS.get(workload, "")
        if "failed" in measurement:
            text = f"failed: {measurement['failed']}"
        elif unit in measurement:
            text = f"{measurement[unit]:,.1f} {unit.replace('_per_', ' per ')}, {measurement['seconds']:,.1f} s"
        elif workload == "matmul":
            rates = measurement["flop_per_second"].items()
            text = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in rates)
        print(f"{workload} {side}: {text}; {left} of {self.total} left, about {minutes:.0f} min", flush=True)


def measure(every: Workloads, workload: str, turns: int, accelerator: bool, progress: Progress) -> dict[str, Any]:
    """Every single measurement of a workload, and what they come to."""
    tasks, measurements = every.tasks(workload), []
    if workload == "fsdp":
        measurement = run_fsdp(tasks[0], every.work)
        progress.say(workload, "nutshell", measurement)
        return measurement
    for turn in range(turns if workload in PAIRED else 1):
        for task in tasks:
            for side in sides(workload, accelerator):
                measurement = run_child(task, side)
                about = {"side": side, "precision": PRECISIONS[side], "alternation": turn, "seed": task["seed"]}
                measurements.append({**about, **measurement})
                progress.say(workload, side, measurement)
    return summary(workload, measurements)


def chosen(names: Sequence[str] | None, accelerator: bool) -> list[str]:
    """The workloads of these names, or all, in their order.

    Raises:
        UserError: If one is not known or cannot run here.
    """
    usual = [name for name in WORKLOADS if accelerator or name not in ("losses", "fsdp")]
    for name in names or ():
        if name not in WORKLOADS:
            raise UserError(f"--workloads: {unknown(name, WORKLOADS)}")
        if name == "fsdp" and not (accelerator and FSDP.exists()):
            raise UserError("--workloads: fsdp needs an accelerator and experiments/hardware/fsdp.yaml")
    kept = names or [name for name in usual if name != "fsdp" or FSDP.exists()]
    return [name for name in WORKLOADS if name in kept]


def show(results: dict[str, Any]) -> None:
    """Prints the table of what was measured."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=results["device"])
    rows = speed_rows(results)
    for column in SPEED:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    if rows:
        Console(width=None if sys.stdout.isatty() else 150).print(table)


def bench(arguments: argparse.Namespace) -> int:
    """Measures, keeping each workload when it is complete; 1 if a measurement failed."""
    accelerator = torch.accelerator.is_available()
    names = chosen(arguments.workloads, accelerator) + ["accuracy"] * arguments.accuracy
    if arguments.alternations < 1:
        raise UserError(f"--alternations: expected at least 1, not {arguments.alternations}")
    # --quick says nothing about a machine: it is not stored with the others
    folder = arguments.output or (Path("outputs/benchmarks") if arguments.quick else HERE / "results")
    clock, device = Clock(), torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    origin = clock.origin(SimpleNamespace(device=device, mixed_precision="no", world_size=1))
    machine = re.sub(r" \(\d+ threads?\)$", "", origin.device)
    file = folder / f"{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        results = read_json(file) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read or written: {error}") from None
    about = {"date": time.strftime("%Y-%m-%d", time.gmtime(clock.started)), "quick": arguments.quick}
    about |= origin.model_dump(include={"commit", "dirty", "python", "packages", "threads"})
    failed = False
    with tempfile.TemporaryDirectory(prefix="nutshell-bench-") as work:
        every = Workloads(Path(work), "quick" if arguments.quick else "accelerator" if accelerator else "cpu")
        total = 0
        for workload in names:  # missing data is reported here, before hours are spent
            turns = arguments.alternations if workload in PAIRED else 1
            total += turns * len(every.tasks(workload)) * len(sides(workload, accelerator))
        progress = Progress(total)
        for workload in names:
            measured = measure(every, workload, arguments.alternations, accelerator, progress)
            failed |= "failed" in measured or any("failed" in row for row in measured.get("measurements", ()))
            results = merged(results, {"device": machine, "workloads": {workload: {**about, **measured}}})
            write_json(file, results)
    show(results)
    print(file)
    return int(failed)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; 0 if all went well, 1 if a measurement failed, 2 if the user has something to correct."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--alternations", type=int, default=3, metavar="N", help="turns of stock and nutshell")
    seeds = ", ".join(map(str, SEEDS))
    parser.add_argument("--accuracy", action="store_true", help=f"also MRPC's accuracy after one epoch, seeds {seeds}")
    parser.add_argument("--quick", action="store_true", help="tiny models on embedded data, to try the script")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results, next to this file")
    try:
        return bench(parser.parse_args(argv))
    except UserError as error:
        print(f"throughput: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("throughput: interrupted; the workloads that were complete are kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
