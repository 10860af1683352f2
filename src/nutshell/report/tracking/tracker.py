"""One seed's tracked run, and what it shows."""

import contextlib
import logging
import os
import re
import shlex
import shutil
import uuid
from pathlib import Path
from typing import Any

from nutshell.machine.files import read_json, read_lines, write_json
from nutshell.machine.launch import precision
from nutshell.report.results.result import Result
from nutshell.report.results.summary import Summary
from nutshell.report.tracking.mode import Mode, describe, within

logger = logging.getLogger("nutshell")

INIT_SECONDS = 8.0
ARTIFACT_SECONDS = 5.0
FINISH_SECONDS = 10.0  # at the end, to upload what is left: Slurm kills 30 seconds after its SIGTERM
# What Trainer logs once, at the end of training: WandbCallback has it in the summary, and not in the history.
SINGLE = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos")


class Tracker:
    """One seed's tracked run. Whatever goes wrong in wandb is a warning, and the run continues. (Stock WandbCallback
    fails two laws: an error of wandb ends the training, and a run that resumes is a second one.)

    Off line wandb cannot resume. So all rows are kept here, and each launch writes the whole history again, under one
    id, and replaces what the launch before it has left; on line it sends only what the server does not have.

    Args:
        mode: How the launch is tracked, from `mode`.
        place: The experiment's, `<chapter>/<name>`.
        seed: The seed.
        folder: The seed's folder; everything that wandb writes of this run is in its `wandb/`.
    """

    def __init__(self, mode: Mode, place: str, seed: int, folder: Path):
        self.mode, self.place, self.seed, self.folder = mode, place, seed, folder
        self._about: dict[str, Any] | None = None  # from begin to end
        self._rows: list[dict[str, Any]] = []
        self._run: Any = None

    def begin(self, resolved: dict[str, Any], provenance: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Opens the run, or resumes it.

        Args:
            resolved: The seed's experiment, as in experiment.yaml, which exists by now.
            provenance: What is known of commit, versions and device.
            history: Trainer's log history up to here.
        """
        if self.mode.now == "disabled":
            return
        self._about = {
            "project": os.environ.get("WANDB_PROJECT") or "nutshell",
            "group": self.place,
            "name": f"{self.place} seed {self.seed}",
            "job_type": resolved["task"],
            "tags": _tags(self.place, resolved),
            "config": {**resolved, "provenance": provenance},
            "notes": resolved.get("question"),
        }
        self._rows = list(history)
        on_line = self.mode.now == "online"
        try:
            self._open()
        except Exception as error:
            self._drop()
            if on_line:
                logger.warning("W&B: %s; tracking off line", describe(error))
                self.begin(resolved, provenance, history)
            else:
                logger.warning("W&B: not tracked: %s", describe(error))
                self._about = None

    def log(self, logs: dict[str, Any], step: int) -> None:
        """Adds what Trainer logs at a step."""
        if self._about is None:
            return
        self._rows.append({**logs, "step": step})
        try:
            if self._run:
                self._send(len(self._rows) - 1)
        except Exception as error:
            logger.warning("W&B: %s; what follows is tracked at the end", describe(error))
            self._drop()

    def finish(self, result: Result, summary: Summary) -> None:
        """Closes the run with its figures.

        Args:
            result: Of this seed.
            summary: Of this seed alone: it knows band and baseline.
        """
        self._close(0, _figures(result, summary))

    def fail(self, exit_code: int) -> None:
        """Marks the run as failed, if it was begun and not finished."""
        self._close(exit_code, None)

    def _close(self, exit_code: int, figures: dict[str, Any] | None) -> None:
        if self._about is None:
            return
        try:
            figures, rows = (figures, _table(self.folder)) if figures else ({}, [])
            try:
                self._end(exit_code, figures, rows)
            except Exception:  # a SIGTERM to all of a job's processes ends the one that writes for wandb
                self._drop()
                self._end(exit_code, figures, rows)
        except Exception as error:
            logger.warning("W&B: not tracked to its end: %s", describe(error))
            self._drop()
        self._about = self._run = None

    def _end(self, exit_code: int, figures: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        import wandb

        if not self._run:
            self._open()
        if rows:
            table = wandb.Table(list(rows[0]), [list(row.values()) for row in rows], allow_mixed_types=True)
            name = "errors" if "predicted" in rows[0] else "samples"
            self._run.log({name: table}, step=max(len(self._rows), self._run.starting_step), commit=True)
        self._run.summary.update(figures)
        try:
            self._run.finish(exit_code)
        except TimeoutError:
            place = shlex.quote(str(self.folder / "wandb"))
            logger.warning("W&B: not all was uploaded in time; the rest: wandb sync --include-online %s", place)
            self.mode.now = "offline"

    def _open(self) -> None:
        import wandb

        home = self.folder / "wandb"
        home.mkdir(exist_ok=True)
        id_file = home / "run_id.json"
        if not id_file.exists():
            write_json(id_file, uuid.uuid4().hex[:16])
        run_id = read_json(id_file)
        earlier = list(home.glob(f"*run-*-{run_id}*"))
        self._run = wandb.init(
            **self._about,
            id=run_id,
            resume="allow",
            mode=self.mode.now,
            dir=str(self.folder),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,  # a remote's address may hold a token
                disable_code=True,
                save_code=False,
                symlink=False,
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
        )
        os.environ["WANDB_DATA_DIR"] = self._run.settings.sync_dir  # where a table waits to be uploaded
        self._run.define_metric("train/global_step")
        self._run.define_metric("*", step_metric="train/global_step", step_sync=True)
        for index in range(len(self._rows)):
            self._send(index)
        artifact = wandb.Artifact(re.sub(r"[^A-Za-z0-9_.-]", "-", f"{self.place}-seed-{self.seed}"), "experiment")
        # Not the default "mutable", which copies the file elsewhere.
        artifact.add_file(str(self.folder / "experiment.yaml"), policy="immutable", skip_cache=True)
        within(ARTIFACT_SECONDS, lambda: self._run.log_artifact(artifact))
        for folder in earlier:
            shutil.rmtree(folder, ignore_errors=True)
        if self.mode.now == "online":
            logger.info("W&B: tracked at %s", self._run.url)
        else:
            logger.info("W&B: tracked off line; to upload: wandb sync %s", shlex.quote(str(home)))

    def _send(self, index: int) -> None:
        """Sends one row of the log history, with WandbCallback's names; on line not the rows that the server has."""
        from transformers.integrations.integration_utils import rewrite_logs

        row = dict(self._rows[index])
        step = row.pop("step")
        if once := {key: row.pop(key) for key in SINGLE if key in row}:
            self._run.summary.update(once)
        if index >= self._run.starting_step:
            self._run.log({**rewrite_logs(row), "train/global_step": step}, step=index, commit=True)

    def _drop(self) -> None:
        """Ends wandb, so that nothing of it prints or waits when Python ends; from now on off line."""
        run, self._run = self._run, None
        if self.mode.now == "online":
            self.mode.now = "offline"
        with contextlib.suppress(Exception):
            run.finish(1)
        with contextlib.suppress(Exception):
            import wandb

            wandb.teardown()


def _tags(place: str, config: dict[str, Any]) -> list[str]:
    """Chapter, data, model and precision, as far as the experiment has them."""
    model, data = config.get("model") or {}, config.get("data") or {}
    kind = Path(model["name"]).name if model.get("name") else (model.get("config") or {}).get("model_type")
    tags = [place.split("/")[0], data.get("name"), kind, precision(config["launch"]["mixed_precision"])]
    return [tag[:64] for tag in dict.fromkeys(tags) if tag]


def _figures(result: Result, summary: Summary) -> dict[str, Any]:
    """Each metric under its own name, with its 95 % interval, band and baseline; and what the run cost."""
    figures: dict[str, Any] = {}
    for name, figure in result.metrics.items():
        figures[name] = figure.value
        if figure.interval_95:
            figures[f"{name}/interval_95_low"], figures[f"{name}/interval_95_high"] = figure.interval_95
        if band := summary.band(name):
            figures[f"{name}/reference_low"], figures[f"{name}/reference_high"] = band
            figures[f"{name}/reference"] = summary.verdict(name)
        for baseline, value in result.baseline.get(name, {}).items():
            figures[f"{name}/{baseline}"] = value
    cost = result.provenance.model_dump(include={"wall_seconds", "peak_memory_bytes", "peak_gpu_memory_bytes"})
    blocks = {"evaluated_on", "validation", "parameters", "training", "evaluation", "facts", "notes"}
    return figures | cost | {name: block for name, block in result.model_dump(include=blocks).items() if block}


def _table(folder: Path) -> list[dict[str, Any]]:
    """The most confident errors of a classifier, or the texts that were generated."""
    errors = read_lines(folder / "errors.jsonl")
    for row in errors:
        row |= {f"text {number}": text for number, text in enumerate(row.pop("texts"), 1)}
    rows = errors or read_lines(folder / "samples.jsonl")
    return [{key: value for key, value in row.items() if not isinstance(value, list)} for row in rows]
