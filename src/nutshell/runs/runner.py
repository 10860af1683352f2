"""Experiment -> each seed -> task -> metrics.json; skips what is complete, resumes what is not."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object

from nutshell.experiment.blocks import Experiment
from nutshell.machine import checkpoints, hub, interruption, launch, progress, provenance
from nutshell.machine.errors import LostProcess, UserError, plural
from nutshell.machine.files import write_json, writing
from nutshell.machine.launch import is_main
from nutshell.models.find import read_config, weights_origin
from nutshell.models.language.architectures import OWN
from nutshell.report.card import card
from nutshell.report.results.result import Result, read_result
from nutshell.report.results.runs import Run, settings
from nutshell.report.results.summary import Summary, summarize
from nutshell.report.tracking.mode import Mode
from nutshell.report.tracking.tracker import Tracker
from nutshell.runs import folder as folders
from nutshell.runs import session
from nutshell.runs.folder import Record, lost_process

logger = logging.getLogger("nutshell")


@progress.beating()
def run(
    task,
    experiment: Experiment,
    output: Path,
    force: bool = False,
    mode: Mode | None = None,
    number: tuple[int, int] = (1, 1),
) -> Summary | None:
    """Runs every seed that is not complete and sums up.

    Args:
        task: The tasks.task.Task of the experiment's word.
        experiment: A checked experiment.
        output: The root of all results.
        force: Run again, and discard what the seeds' folders hold after the model and data have loaded.
        mode: How it is tracked; None: not.
        number: Which experiment of how many this is, for the console.

    Returns:
        The summary, as in summary.json; None on every process but the main one.

    Raises:
        UserError: If a folder holds another experiment or is in use, or for whatever the task refuses.
        LostProcess: If another process of the launch ended before its time.
        Terminated: If a SIGTERM came.
    """
    progress.silence_transformers()
    home, read = output.resolve() / experiment.place, {}
    if is_main():
        progress.stage("checking the files that the experiment names")
        read = provenance.digests(task.reads(experiment))
        for seed in experiment.seeds:  # before hours are spent on the first
            folders.check(home / f"seed-{seed}", experiment.resolved(seed) | {"read": read}, force)
    for place, seed in enumerate(experiment.seeds, 1):
        if interruption.requested():
            raise interruption.Terminated
        counts = {"experiment": number, "seed": (place, len(experiment.seeds))}
        position = ", ".join(f"{word} {at} of {most}" for word, (at, most) in counts.items() if most > 1)
        folder = home / f"seed-{seed}"
        try:
            with writing(folder):
                _run_seed(task, experiment, seed, folder, read, force, mode or Mode("disabled"), position)
        except RuntimeError as error:
            if launch.processes() == 1 or not lost_process(error):
                raise
            time.sleep(2)  # the launcher sees the other one's end first, and does not name this one as the cause
            raise LostProcess(
                f"rank {os.environ['RANK']} lost another process of this launch ({str(error).splitlines()[0]}). The "
                "launchers' reports say which one failed first; the same command resumes from the newest checkpoint"
            ) from None
        finally:
            interruption.training(False)
    if not is_main():
        return None
    summary = _summary(experiment, home, read)
    with writing(home):
        write_json(home / "summary.json", summary.model_dump(mode="json"))
        for seed in experiment.seeds:
            hub.push(home / f"seed-{seed}", experiment.arguments)
    return summary


def end() -> None:
    """Closes the connection between the processes after all of them have finished: a worker thread that still runs can
    abort its process while Python shuts down."""
    if torch.distributed.is_initialized():
        with contextlib.suppress(RuntimeError):  # a process that is lost now takes no result with it
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _run_seed(
    task,
    experiment: Experiment,
    seed: int,
    folder: Path,
    read: dict[str, str],
    force: bool,
    mode: Mode,
    position: str,
) -> None:
    """One seed, from whatever its folder holds to a complete one with metrics.json."""
    resolved = experiment.resolved(seed) | {"read": read}
    with folders.only_one(folder):
        if is_main():
            folders.check(folder, resolved, force)
        args = session.arguments(experiment, seed, folder)
        launch.check(args.world_size, torch.accelerator.is_available())
        clock = provenance.Clock()
        _check_alike(experiment.resolved(seed) | {"commit": clock.commit})
        launched = {"processes": args.world_size, "mixed_precision": args.mixed_precision}
        if not folders.lock(folder).exists():
            raise UserError(f"{folder}: is another one on this machine than on the main one; all need the same files")
        resume = None
        if not force:
            complete, name = from_main(_state, folder, launched)
            if complete:
                logger.info("%s: complete, nothing to run", folder)
                _remove_checkpoints(experiment, folder)
                return
            resume = folder / name if name else None
        if is_main():
            hub.check_push(experiment.arguments)
        start = f"resumes from {resume.name}" if resume else "from the start"
        where = f"{provenance.device_name(args)}, {launch.precision(args.mixed_precision)}"
        logger.info("%s%s: seed %d, %s, on %s", position and f"{position}: ", experiment.place, seed, start, where)
        command = experiment.command(seed, folder.parents[2], **launched)
        tracker = Tracker(mode, str(experiment.place), seed, folder)
        about = {**resolved, "launch": launched, "command": command}
        model = getattr(experiment, "model", None)
        origin = weights_origin(model.name, model.revision) if model else None
        record = Record(folder, about, force, resume is not None, tracker, clock.origin(args).model_dump())
        try:
            measurement = task.run(experiment, args, resume, record)
            if is_main():
                result = Result(
                    **dict(measurement) | {"notes": [*measurement.notes, *filter(None, [origin])]},
                    experiment=experiment.resolved(seed),
                    read=read,
                    command=command,
                    provenance=clock.provenance(args),
                )
                summary = summarize(str(experiment.place), [Run(folder, "complete", "", about, result)])
                _write(task, folder, result, summary)
        except BaseException as error:
            record.fail(error)
            raise
        if is_main():
            record.end(result, summary)
        _remove_checkpoints(experiment, folder)
        args.distributed_state.wait_for_everyone()


def _write(task, folder: Path, result: Result, summary: Summary) -> None:
    """The model card, and then metrics.json, which makes the run complete."""
    model = folder / "model"
    if task.card and model.exists():
        own = read_config(model)["model_type"] in OWN
        card(result, summary, task.card.pipeline, task.card.auto_class, own).save(model / "README.md")
    write_json(folder / "metrics.json", result.model_dump(mode="json"))


def _remove_checkpoints(experiment: Experiment, folder: Path) -> None:
    """Removes a complete run's checkpoints, unless they are to be kept: they serve to resume it, and are most of its
    size. What a kill leaves is removed when the same command is given again."""
    if is_main() and not getattr(experiment, "keep_checkpoints", True):
        checkpoints.discard(folder)


def _state(folder: Path, launched: dict[str, Any]) -> tuple[bool, str | None]:
    """Whether a seed's folder is complete, and the name of the checkpoint to resume from.

    Raises:
        UserError: If that checkpoint is from a launch of another kind.
    """
    if (folder / "metrics.json").exists():
        read_result(folder)
        return True, None
    checkpoints.clear(folder)
    newest = checkpoints.newest(folder)
    if newest and (before := folders.held(folder).get("launch", launched)) != launched:
        raise UserError(
            f"{folder}: was begun with {_launch(before)}, this launch has {_launch(launched)}: launch it alike, choose "
            "another --output, or discard what it holds with --force"
        )
    for checkpoint in checkpoints.all_of(folder):
        if not checkpoints.is_whole(checkpoint):
            logger.info("%s: files are missing or cut short; passed over and removed", checkpoint)
            checkpoints.remove(checkpoint)
    return False, newest and newest.name


def _launch(launched: Mapping[str, Any]) -> str:
    return f"{plural(launched['processes'], 'process')} in {launch.precision(launched['mixed_precision'])}"


def _check_alike(view: dict[str, Any]) -> None:
    """Checks that every process, which has read its own files, has the main process's experiment and code.

    Raises:
        UserError: If one has not.
    """
    views = [dict(settings(view)) for view in gather_object([view])]
    for rank, other in enumerate(views):
        if keys := folders.unequal(other, views[0]):
            raise UserError(
                f"process {rank} has another experiment or code than the main process, {', '.join(keys)} differ: give "
                "every machine the same command and the same files"
            )


def from_main(function: Callable[..., Any], *arguments) -> Any:
    """What a function returns on the main process, on every process: their views of a file system may differ for a
    while."""
    return broadcast_object_list([function(*arguments) if is_main() else None])[0]


def _summary(experiment: Experiment, home: Path, read: dict[str, str]) -> Summary:
    """All complete seeds of this experiment summed up.

    Raises:
        UserError: If the seeds were measured on different data.
    """
    runs = []
    for folder in home.glob("seed-*"):
        number = folder.name.removeprefix("seed-")
        if not number.isdecimal() or not (folder / "metrics.json").exists():
            continue
        if not folders.differences(folder, experiment.resolved(int(number)) | {"read": read}):
            runs.append(Run(folder, "complete", "", folders.held(folder), read_result(folder)))
    if any(run.result.data.sha256 != runs[0].result.data.sha256 for run in runs):
        raise UserError(f"{home}: its seeds were run on different data; run them again with --force")
    return summarize(str(experiment.place), sorted(runs, key=lambda run: run.seed))
