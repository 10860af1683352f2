"""What a run writes of itself beside its figures: experiment.yaml when it begins, failure.json if it fails."""

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from nutshell.experiment.load import dump
from nutshell.machine import interruption
from nutshell.machine.files import first_line, write_json
from nutshell.report.tracking import Tracker


def lost_process(error: BaseException) -> bool:
    """Whether an error is that the connection to another process of the launch is gone."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class Record(TrainerCallback):
    """Puts experiment.yaml into the folder when model and data have proved good and the work begins, failure.json if
    it fails, and hands what is logged to the tracker.

    Args:
        folder: The seed's.
        resolved: One seed's experiment, and how it was launched.
        discard: Whether to remove what the folder holds, then and not before.
        resumed: Whether what it holds is this run's.
        tracker: Of the same seed.
        made_with: What the tracker is told of code and machine.
    """

    def __init__(
        self,
        folder: Path,
        resolved: dict[str, Any],
        discard: bool,
        resumed: bool,
        tracker: Tracker,
        made_with: dict[str, Any],
    ):
        self.folder, self.resolved, self.discard = folder, resolved, discard
        self.tracker, self.made_with = tracker, made_with
        self.ours, self.tracked = resumed, False

    def on_train_begin(self, args, state, control, **kwargs):
        """Trainer calls this; a task that trains nothing calls `begin`."""
        self.begin(args, state.log_history)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """An entry of the log history."""
        self.tracker.log(logs, state.global_step)

    def end(self, results: dict[str, Any]) -> None:
        """Tells the tracker that the run is complete, with the content of its metrics.json."""
        (self.folder / "failure.json").unlink(missing_ok=True)
        if self.tracker.mode.now != "disabled" and not self.tracked:  # training had come to its end before this launch
            state = json.loads((self.folder / "trainer_state.json").read_text(encoding="utf-8"))
            self.tracker.begin(self.resolved, self.made_with, state["log_history"])
        self.tracker.finish(results)

    def fail(self, error: BaseException) -> None:
        """Writes failure.json if the work had begun, but not of an end that was asked for, nor of another process's,
        which says so itself if it can."""
        asked = {interruption.Terminated: interruption.EXIT_CODE, KeyboardInterrupt: 130}.get(type(error))
        file = self.folder / "failure.json"
        said = asked or lost_process(error) or file.exists()  # by another process
        if self.ours and not said:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with contextlib.suppress(OSError):  # the disk may be what failed
                write_json(file, {"error": first_line(error), "when": when})
        self.tracker.fail(asked or 1)

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
        (folder / "failure.json").unlink(missing_ok=True)
        self.tracked = True
        self.tracker.begin(self.resolved, self.made_with, list(history))
