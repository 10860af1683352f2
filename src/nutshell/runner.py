"""Experiment -> each seed -> task -> metrics.json; skips what is done, resumes what is not."""

import contextlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from scipy import stats
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from nutshell import checkpoints, folders, interruption, launch, provenance
from nutshell.experiment import LostProcess, UserError
from nutshell.launch import is_main
from nutshell.record import Record, write_json, writing
from nutshell.schema import Experiment
from nutshell.tasks import TASKS

logger = logging.getLogger("nutshell")


def run(experiment: Experiment, output: Path, force: bool = False) -> dict[str, Any] | None:
    """Runs every seed that is not complete and sums up.

    Args:
        experiment: A checked experiment.
        output: The root of all results.
        force: Run again, and discard what the seeds' folders hold once model and data have proved good.

    Returns:
        The summary, as in summary.json; None on every process but the main one.

    Raises:
        UserError: If a folder holds another experiment or is in use, or for whatever the task refuses.
        LostProcess: If another process of the launch ended before its time.
        Terminated: If a SIGTERM came.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # those of loading and saving; training's own stay
    home, read = output.resolve() / experiment.place, {}
    if is_main():
        read = provenance.digests(experiment)
        for seed in experiment.seeds:  # before hours are spent on the first
            folders.check(home / f"seed-{seed}", experiment.resolved(seed) | {"read": read}, force)
    for seed in experiment.seeds:
        if interruption.asked():
            raise interruption.Terminated
        folder = home / f"seed-{seed}"
        try:
            with writing(folder):
                _run_seed(experiment, seed, folder, read, force)
        except RuntimeError as error:
            if launch.processes() == 1 or not _of_a_connection(error):
                raise
            time.sleep(2)  # the launcher sees the other one's end first, and does not name this one as the cause
            raise LostProcess(
                f"rank {os.environ['RANK']} lost another process of this launch ({str(error).splitlines()[0]}). Which "
                "one failed first stands in the launchers' reports; the same command goes on from the newest checkpoint"
            ) from None
        finally:
            interruption.training(False)
    if not is_main():
        return None
    summary = summarize(experiment, home, read)
    with writing(home):
        write_json(home / "summary.json", summary)
    return summary


def end() -> None:
    """Ends the processes' connection, when all of them have come to the end: a worker thread that outlives it can
    abort its process while Python shuts down."""
    if torch.distributed.is_initialized():
        with contextlib.suppress(RuntimeError):  # one that has been lost by now takes nothing with it
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _of_a_connection(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _run_seed(experiment: Experiment, seed: int, folder: Path, read: dict[str, str], force: bool) -> None:
    """One seed, from whatever its folder holds to a complete one with metrics.json."""
    resolved = experiment.resolved(seed) | {"read": read}
    with folders.only_one(folder):
        if is_main():
            folders.check(folder, resolved, force)
        args = _arguments(experiment, seed, folder)
        launch.check(args.world_size, torch.accelerator.is_available())
        began = provenance.begin()
        _check_alike(experiment.resolved(seed) | {"commit": began["commit"]})
        launched = {"processes": args.world_size, "mixed_precision": args.mixed_precision}
        resume = None
        if not folders.lock(folder).exists():
            raise UserError(f"{folder}: is another one on this machine than on the main one; all need the same files")
        if not force:
            complete, name = _agreed(_found, folder, launched)
            if complete:
                logger.info("%s: complete, nothing to run", folder)
                return
            resume = folder / name if name else None
        origin = f"resuming from {resume.name}" if resume else "from the start"
        where = f"{provenance.device_name(args)}, {launched['mixed_precision'].replace('no', 'fp32')}"
        logger.info("%s: seed %d, %s, on %s", experiment.place, seed, origin, where)
        record = Record({**resolved, "launch": launched}, force)
        results = TASKS[experiment.task](experiment, args, resume, record)
        if is_main():
            results |= {
                "experiment": experiment.resolved(seed),
                "read": read,
                "provenance": provenance.collect(args, began),
            }
            write_json(folder / "metrics.json", results)
        args.distributed_state.wait_for_everyone()


def _found(folder: Path, launched: dict[str, Any]) -> tuple[bool, str | None]:
    """Whether a seed's folder is complete, and the name of the checkpoint to go on from.

    Raises:
        UserError: If that was made by a launch of another kind.
    """
    if (folder / "metrics.json").exists():
        return True, None
    checkpoints.clear(folder)
    newest = checkpoints.newest(folder)
    if newest and (held := folders.held(folder).get("launch", launched)) != launched:
        raise UserError(
            f"{folder}: was begun with {_launch(held)}, this launch has {_launch(launched)}: launch it alike, choose "
            "another --output, or discard what it holds with --force"
        )
    for checkpoint in checkpoints.found(folder):
        if not checkpoints.is_whole(checkpoint):
            logger.info("%s: files are missing or cut short; passed over and removed", checkpoint)
            checkpoints.remove(checkpoint)
    return False, newest and newest.name


def _launch(launched: dict[str, Any]) -> str:
    count = launched["processes"]
    return f"{count} process{'es' * (count > 1)} in {launched['mixed_precision'].replace('no', 'fp32')}"


def _check_alike(view: dict[str, Any]) -> None:
    """Each process has read its own files.

    Raises:
        UserError: If they are not the main process's.
    """
    views = [dict(folders.flat(view)) for view in gather_object([view])]
    for rank, other in enumerate(views):
        if keys := folders.unequal(other, views[0]):
            raise UserError(
                f"process {rank} has another experiment or code than the main process, {', '.join(keys)} differ: give "
                "every machine the same command and the same files"
            )


def _agreed(look, *words) -> Any:
    """What the main process sees, on every process: their views of a file system may differ for a while."""
    return broadcast_object_list([look(*words) if is_main() else None])[0]


def summarize(experiment: Experiment, home: Path, read: dict[str, str]) -> dict[str, Any]:
    """Mean, standard deviation and interval of the mean over all complete seeds of this experiment.

    Returns:
        For each metric: its value by seed, mean, standard deviation (n - 1) and the 95 % interval of the mean
        (Student's t); with one seed the standard deviation is None and the interval that seed's own, over
        examples. Beside them the experiment, its data's digests and what the seeds were run on.

    Raises:
        UserError: If the seeds were measured on different data.
    """
    runs = {}
    for folder in home.glob("seed-*"):
        if (match := re.fullmatch(r"seed-(\d+)", folder.name)) and (folder / "metrics.json").exists():
            seed = int(match[1])
            if not folders.differences(folder, experiment.resolved(seed) | {"read": read}):
                runs[seed] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    runs = dict(sorted(runs.items()))
    first = next(iter(runs.values()))
    if any(run["data"]["sha256"] != first["data"]["sha256"] for run in runs.values()):
        raise UserError(f"{home}: its seeds were run on different data; run them again with --force")
    metrics = {}
    for name, entry in first["metrics"].items():
        values = [run["metrics"][name]["value"] for run in runs.values()]
        mean, deviation, interval = math.fsum(values) / len(values), None, entry["interval_95"]
        if len(values) > 1:
            deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
            half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
            interval = [mean - half, mean + half]
        metrics[name] = {
            "mean": mean,
            "standard_deviation": deviation,
            "interval_95": interval,
            "interval_is_over": "seeds" if len(values) > 1 else first.get("intervals_over", "examples"),
            "by_seed": dict(zip(runs, values, strict=True)),
            "unit": entry["unit"],
            "higher_is_better": entry["higher_is_better"],
        }
    places = [run["provenance"] for run in runs.values()]
    blocks = [run.get("training") or run.get("generation") or {} for run in runs.values()]
    rates = {
        key: [block[key] for block in blocks if block.get(key)] for key in ("examples_per_second", "tokens_per_second")
    }
    commits = {f"{place['commit']}{' with changes' if place['dirty'] else ''}" for place in places}
    return {
        "experiment": str(experiment.place),
        "seeds": list(runs),
        "metrics": metrics,
        "evaluated_on": first["evaluated_on"],
        "parameters": first["parameters"],
        "wall_seconds": math.fsum(place["wall_seconds"] for place in places),
        "resumed": any(block.get("resumed_from_step") for block in blocks),
        **{key: math.fsum(values) / len(values) if values else None for key, values in rates.items()},
        **({"training_tokens": first["training"]["tokens"]} if first["training"] else {}),
        **{key: first[key] for key in ("measured", "compressors") if key in first},
        **{key: _listed(place[key] for place in places) for key in ("device", "mixed_precision", "processes")},
        "commits": sorted(commits),
        "data": {key: first["data"][key] for key in ("source", "examples", "sha256")},
        "resolved": experiment.resolved(),
    }


def _listed(values: Iterator[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _arguments(experiment: Experiment, seed: int, folder: Path) -> TrainingArguments:
    try:
        args = TrainingArguments(
            output_dir=str(folder),
            seed=seed,
            report_to="none",
            use_cpu=not torch.accelerator.is_available(),
            disable_tqdm=not sys.stderr.isatty(),
            ddp_find_unused_parameters=False,  # every trained parameter is used; searching costs a pass per step
            **launch.training(experiment),
        )
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"training: {error}") from None
    if args.n_gpu > 1:
        logger.warning("one of %d GPUs is used; all: accelerate launch --num_processes %d", args.n_gpu, args.n_gpu)
        args._n_gpu = 1  # or Trainer wraps the model in DataParallel, which multiplies the batch
    return args
