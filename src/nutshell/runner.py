"""Experiment -> each seed -> task -> metrics.json; skips what is done, resumes what is not."""

import contextlib
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from scipy import stats
from transformers import TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from nutshell import checkpoints, provenance
from nutshell.experiment import Experiment, UserError, dump
from nutshell.progress import PlainProgress
from nutshell.tasks import TASKS

logger = logging.getLogger("nutshell")

NOT_THE_QUESTION = {"reference"}  # may change without making the results another experiment's


def run(experiment: Experiment, output: Path, force: bool = False) -> dict[str, Any]:
    """Runs every seed that is not complete and sums up.

    Args:
        experiment: A checked experiment.
        output: The root of all results.
        force: Discard what the seeds' folders hold and run again.

    Returns:
        The summary, as in summary.json.

    Raises:
        UserError: If a folder holds another experiment or is in use, or for whatever the task refuses.
    """
    home = output / experiment.place
    for seed in experiment.seeds:
        _check_folder(home / f"seed-{seed}", experiment.resolved(seed), force)
    for seed in experiment.seeds:
        run_seed(experiment, seed, home / f"seed-{seed}", force)
    summary = summarize(experiment, home)
    if _is_main():
        write_json(home / "summary.json", summary)
    return summary


def run_seed(experiment: Experiment, seed: int, folder: Path, force: bool) -> None:
    """One seed, from whatever its folder holds to a complete one with metrics.json."""
    resolved = experiment.resolved(seed)
    with _only_one(folder):
        args = _arguments(experiment, seed, folder)
        if args.process_index == 0 and force and folder.exists():
            shutil.rmtree(folder)
        args.distributed_state.wait_for_everyone()
        if (folder / "metrics.json").exists():
            logger.info("%s: complete, nothing to run", folder)
            return
        if args.process_index == 0:
            for torn in checkpoints.torn(folder):
                logger.info("%s: was not written to its end; passed over and removed", torn)
                shutil.rmtree(torn)
        args.distributed_state.wait_for_everyone()
        resume = checkpoints.newest(folder)
        origin = f"resuming from {resume.name}" if resume else "from the start"
        logger.info("%s: seed %d, %s, on %s", experiment.place, seed, origin, provenance.device_name(args))
        started = time.time()
        try:
            results = TASKS[experiment.task](experiment, args, resume, _callbacks(args, resolved))
        except ImportError as error:  # an optimizer whose package is not installed
            raise UserError(f"training: {error}") from None
        if args.process_index == 0:
            record = {"experiment": resolved, "provenance": provenance.collect(args, started)}
            write_json(folder / "metrics.json", results | record)


def write_json(file: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all."""
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def summarize(experiment: Experiment, home: Path) -> dict[str, Any]:
    """Mean, standard deviation and interval of the mean over all complete seeds of this experiment.

    Returns:
        For each metric: its value by seed, mean, standard deviation (n - 1) and the 95 % interval of the mean
        (Student's t); with one seed the standard deviation is None and the interval that seed's own, over
        examples.
    """
    runs = {}
    for folder in home.glob("seed-*[0-9]"):
        seed = int(folder.name.removeprefix("seed-"))
        if (folder / "metrics.json").exists() and not differences(folder, experiment.resolved(seed)):
            runs[seed] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    runs = dict(sorted(runs.items()))
    first = next(iter(runs.values()))
    metrics = {}
    for name, entry in first["metrics"].items():
        values = [run["metrics"][name]["value"] for run in runs.values()]
        mean, deviation, interval = math.fsum(values) / len(values), None, entry["interval_95"]
        if len(values) > 1:
            deviation = stats.tstd(values)
            half = stats.t.ppf(0.975, len(values) - 1) * deviation / math.sqrt(len(values))
            interval = [float(mean - half), float(mean + half)]
        metrics[name] = {
            "mean": mean,
            "standard_deviation": None if deviation is None else float(deviation),
            "interval_95": interval,
            "interval_is_over": "seeds" if len(values) > 1 else "examples",
            "by_seed": dict(zip(runs, values, strict=True)),
            "unit": entry["unit"],
            "higher_is_better": entry["higher_is_better"],
        }
    rates = [rate for run in runs.values() if (rate := run["training"]["examples_per_second"])]
    return {
        "experiment": str(experiment.place),
        "seeds": list(runs),
        "metrics": metrics,
        "reference": experiment.reference and experiment.reference.model_dump(exclude_none=True),
        "evaluated_on": first["evaluated_on"],
        "train_examples": first["data"]["examples"]["train"],
        "parameters": first["parameters"],
        "wall_seconds": math.fsum(run["provenance"]["wall_seconds"] for run in runs.values()),
        "examples_per_second": math.fsum(rates) / len(rates) if rates else None,
        **{key: first["provenance"][key] for key in ("device", "mixed_precision", "processes")},
        "commits": sorted(
            {f"{run['provenance']['commit']}{'+' * bool(run['provenance']['dirty'])}" for run in runs.values()}
        ),
    }


def differences(folder: Path, resolved: dict[str, Any]) -> list[str]:
    """The dotted keys in which the experiment that a folder holds differs from this one."""
    from ruamel.yaml import YAML

    held = YAML(typ="safe", pure=True).load((folder / "experiment.yaml").read_text(encoding="utf-8"))
    ours, theirs = ({k: v for k, v in _flat(x) if k.split(".")[0] not in NOT_THE_QUESTION} for x in (resolved, held))
    return sorted(key for key in ours | theirs if ours.get(key) != theirs.get(key))


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_folder(folder: Path, resolved: dict[str, Any], force: bool) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "experiment.yaml").exists():
        raise UserError(f"{folder}: holds files that no run has written; choose another --output")
    keys = [] if force else differences(folder, resolved)
    if keys:
        raise UserError(
            f"{folder}: holds another experiment; {', '.join(keys)} differ. Choose another --output, or "
            "discard those results with --force"
        )


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Holds the folder's lock on the main process; the system drops it with the process, however it ends."""
    if not _is_main():
        yield
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise UserError(f"{folder}: another process is running in it") from None


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _arguments(experiment: Experiment, seed: int, folder: Path) -> TrainingArguments:
    try:
        return TrainingArguments(
            output_dir=str(folder),
            seed=seed,
            report_to="none",
            use_cpu=not torch.accelerator.is_available(),
            disable_tqdm=not sys.stderr.isatty(),
            ddp_find_unused_parameters=False,  # every trained parameter is used; searching costs a pass per step
            **experiment.training,
        )
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"training: {error}") from None


def _callbacks(args: TrainingArguments, resolved: dict[str, Any]) -> list[TrainerCallback]:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return [_Record(resolved), *([PlainProgress()] if args.disable_tqdm else [])]


class _Record(TrainerCallback):
    """Puts experiment.yaml into the folder when model and data have proved good and training begins."""

    def __init__(self, resolved: dict[str, Any]):
        self.resolved = resolved

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            dump(self.resolved, Path(args.output_dir) / "experiment.yaml")
