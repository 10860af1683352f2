"""Experiment -> each seed -> task -> metrics.json; skips what is done, resumes what is not."""

import contextlib
import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from nutshell.experiment.blocks import Experiment
from nutshell.machine import checkpoints, interruption, launch, provenance
from nutshell.machine.errors import LostProcess, UserError
from nutshell.machine.files import write_json, writing
from nutshell.machine.launch import is_main
from nutshell.report import card as publishing
from nutshell.report import results, tracking
from nutshell.run import folder as folders
from nutshell.run.record import Record, lost_process
from nutshell.tasks import TASKS

logger = logging.getLogger("nutshell")


def run(
    experiment: Experiment, output: Path, force: bool = False, mode: tracking.Mode | None = None
) -> dict[str, Any] | None:
    """Runs every seed that is not complete and sums up.

    Args:
        experiment: A checked experiment.
        output: The root of all results.
        force: Run again, and discard what the seeds' folders hold once model and data have proved good.
        mode: How it is tracked, as tracking.mode found; None: not.

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
                _run_seed(experiment, seed, folder, read, force, mode or tracking.Mode("disabled"))
        except RuntimeError as error:
            if launch.processes() == 1 or not lost_process(error):
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
    summary = _summary(experiment, home, read)
    with writing(home):
        write_json(home / "summary.json", summary)
        for seed in experiment.seeds:
            publishing.push(home / f"seed-{seed}", experiment.training)
    return summary


def end() -> None:
    """Ends the processes' connection, when all of them have come to the end: a worker thread that outlives it can
    abort its process while Python shuts down."""
    if torch.distributed.is_initialized():
        with contextlib.suppress(RuntimeError):  # one that has been lost by now takes nothing with it
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _run_seed(
    experiment: Experiment, seed: int, folder: Path, read: dict[str, str], force: bool, mode: tracking.Mode
) -> None:
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
        where = f"{provenance.device_name(args)}, {launch.precision(launched['mixed_precision'])}"
        logger.info("%s: seed %d, %s, on %s", experiment.place, seed, origin, where)
        command = launch.command(experiment, seed, folder.parents[2], launched)
        tracker = tracking.Tracker(mode, str(experiment.place), seed, folder)
        about = {**resolved, "launch": launched, "command": command}
        record = Record(folder, about, force, resume is not None, tracker, provenance.made_with(args, began))
        try:
            found = TASKS[experiment.task](experiment, args, resume, record)
            if is_main():
                found |= {
                    "experiment": experiment.resolved(seed),
                    "read": read,
                    "provenance": provenance.collect(args, began),
                }
                if (folder / "model").exists():
                    publishing.card(found, str(experiment.place), command).save(folder / "model" / "README.md")
                write_json(folder / "metrics.json", found)
        except BaseException as error:
            record.fail(error)
            raise
        if is_main():
            record.end(found)
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
    return f"{count} process{'es' * (count > 1)} in {launch.precision(launched['mixed_precision'])}"


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


def _summary(experiment: Experiment, home: Path, read: dict[str, str]) -> dict[str, Any]:
    """All complete seeds of this experiment summed up.

    Raises:
        UserError: If the seeds were measured on different data.
    """
    runs = {}
    for folder in home.glob("seed-*"):
        if (match := re.fullmatch(r"seed-(\d+)", folder.name)) and (folder / "metrics.json").exists():
            seed = int(match[1])
            if not folders.differences(folder, experiment.resolved(seed) | {"read": read}):
                try:
                    runs[seed] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
                except ValueError:
                    raise UserError(f"{folder / 'metrics.json'}: is damaged; run seed {seed} with --force") from None
    if len({json.dumps(run["data"]["sha256"]) for run in runs.values()}) > 1:
        raise UserError(f"{home}: its seeds were run on different data; run them again with --force")
    return results.summarize(str(experiment.place), experiment.resolved(), dict(sorted(runs.items())))


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
