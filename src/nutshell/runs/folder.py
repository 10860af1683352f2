"""A seed's folder: which experiment it holds, the lock that lets one run at a time use it, and what a run writes about
itself: experiment.yaml when the work begins; failure.json, and the log so far, if it fails."""

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from transformers import TrainerCallback, TrainingArguments

from nutshell.experiment.load import dump
from nutshell.experiment.yaml_text import parse, shown
from nutshell.machine import interruption
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, read_json, write_json
from nutshell.machine.launch import is_main
from nutshell.report.results.result import Result
from nutshell.report.results.runs import settings
from nutshell.report.results.summary import Summary
from nutshell.report.tracking.tracker import Tracker

MOST_DIFFERENCES = 8  # in a message


def differences(folder: Path, resolved: Mapping[str, Any]) -> list[str]:
    """What differs between the experiment that a folder holds and this one: each dotted key with both values, such as
    `training.max_steps: 2 there, 5 here`. A file that was read and is gone now is no difference."""
    ours, theirs = dict(settings(resolved)), dict(settings(held(folder)))
    theirs = {key: value for key, value in theirs.items() if key in ours or not key.startswith("read.")}
    return [
        f"the {key.removeprefix('read.')} files have changed since"  # the values are digests
        if key.startswith("read.") and key in ours and key in theirs
        else f"{key}: {_stated(theirs, key)} there, {_stated(ours, key)} here"
        for key in unequal(ours, theirs)
    ]


def _stated(tree: Mapping[str, Any], key: str) -> str:
    return shown(tree[key]) if tree.get(key) is not None else "not stated"


def unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys in which two flat trees differ."""
    return sorted(key for key in {**one, **other} if one.get(key) != other.get(key))


def held(folder: Path) -> dict[str, Any]:
    """The experiment that a folder holds."""
    file = folder / "experiment.yaml"
    try:
        tree, _ = parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        tree = None
    if not isinstance(tree, dict):
        raise UserError(f"{file}: cannot be read as an experiment; choose another --output, or remove the folder")
    return tree


def check(folder: Path, resolved: Mapping[str, Any], force: bool) -> None:
    """Checks that a run of this experiment may use a folder.

    Raises:
        UserError: If it holds another experiment, unless that is to be discarded, or files that no run has written.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "experiment.yaml").exists():
        raise UserError(f"{folder}: holds files that no run has written; choose another --output")
    changes = [] if force else differences(folder, resolved)
    if changes:
        more = f"; and {len(changes) - MOST_DIFFERENCES} more" * (len(changes) > MOST_DIFFERENCES)
        raise UserError(
            f"{folder}: holds another experiment; {'; '.join(changes[:MOST_DIFFERENCES])}{more}. Choose another "
            "--output, or discard those results with --force"
        )


def lock(folder: Path) -> Path:
    """The file that is locked while a run uses the folder; it is never removed, which would be a race."""
    return folder.with_name(f".{folder.name}.lock")


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the folder's lock on the main process; the system releases it when the process ends, in whatever way."""
    if not is_main():
        yield
        return
    claim = FileLock(lock(folder), timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        claim.acquire()
    except Timeout:
        raise UserError(f"{folder}: another process is running in it") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None
    try:
        yield
    finally:
        claim.release()


def lost_process(error: BaseException) -> bool:
    """Whether an error means that another process of the launch can no longer be reached."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class Record(TrainerCallback):
    """Writes experiment.yaml after the model and data have loaded and the work begins, and failure.json if it fails;
    passes the log on to the tracker.

    Args:
        folder: The seed's.
        resolved: One seed's experiment, and how it was launched.
        discard: Whether to remove what the folder holds when the work begins, and not before.
        resumed: Whether what it holds belongs to this run.
        tracker: Of the same seed.
        origin: Code and machine, for the tracker.
    """

    def __init__(
        self,
        folder: Path,
        resolved: dict[str, Any],
        discard: bool,
        resumed: bool,
        tracker: Tracker,
        origin: dict[str, Any],
    ):
        self.folder, self.resolved, self.discard = folder, resolved, discard
        self.tracker, self.origin = tracker, origin
        self.ours, self.tracked, self.state = resumed, False, None

    def on_train_begin(self, args, state, control, **kwargs):
        """Trainer calls this; a task that trains nothing calls `begin`."""
        self.state = state
        self.begin(args, state.log_history)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """An entry of the log history."""
        self.tracker.log(logs, state.global_step)

    def end(self, result: Result, summary: Summary) -> None:
        """Tells the tracker that the run is complete, with its figures."""
        (self.folder / "failure.json").unlink(missing_ok=True)
        if self.tracker.mode.now != "disabled" and not self.tracked:  # training had come to its end before this launch
            history = read_json(self.folder / "trainer_state.json")["log_history"]
            self.tracker.begin(self.resolved, self.origin, history)
        self.tracker.finish(result, summary)

    def fail(self, error: BaseException) -> None:
        """Writes failure.json if the work had begun, unless the end was requested, or another process failed, which
        then writes its own; and trainer_state.json, so that the report can show the curve."""
        requested = {interruption.Terminated: interruption.EXIT_CODE, KeyboardInterrupt: 130}.get(type(error))
        file = self.folder / "failure.json"
        if self.ours and not (requested or lost_process(error) or file.exists()):  # by another process
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with contextlib.suppress(OSError):  # the disk may be what failed
                write_json(file, {"error": first_line(error), "when": when})
        if self.state and self.state.is_world_process_zero and not requested:
            with contextlib.suppress(OSError):
                self.state.save_to_json(str(self.folder / "trainer_state.json"))
        self.tracker.fail(requested or 1)

    def begin(self, args: TrainingArguments, history: Sequence[dict[str, Any]] = ()) -> None:
        """Writes experiment.yaml, on the main process."""
        self.ours = True
        if args.process_index:
            return
        folder = self.folder
        if self.discard and folder.exists():
            aside = folder.with_name(f".{folder.name}.discarded")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)  # at once: a kill leaves the old run whole or gone
            shutil.rmtree(aside)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".experiment.partial"
        dump(self.resolved, partial)
        partial.replace(folder / "experiment.yaml")
        for name in ("failure.json", "trainer_state.json"):  # of an earlier attempt; a checkpoint has its own
            (folder / name).unlink(missing_ok=True)
        self.tracked = True
        self.tracker.begin(self.resolved, self.origin, list(history))
