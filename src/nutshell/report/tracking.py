"""Weights & Biases: one tracked run for each seed, on line or off, and never in the way of the run itself."""

import contextlib
import json
import logging
import os
import queue
import re
import shlex
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nutshell.machine.errors import UserError
from nutshell.machine.files import read_lines, write_json
from nutshell.machine.launch import is_main, precision
from nutshell.report.tables import verdict

logger = logging.getLogger("nutshell")

MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
ANSWER_SECONDS = 3.0  # that the server has before a launch; wandb itself would wait for 100
INIT_SECONDS = 8.0
ARTIFACT_SECONDS = 5.0
FINISH_SECONDS = 10.0  # at the end, to upload what is left: Slurm kills 30 seconds after its SIGTERM
# What Trainer logs once, at the end of training: WandbCallback has it in the summary, and not in the history.
SINGLE = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos")


@dataclass
class Mode:
    """How a launch is tracked from now on: "online", "offline" or "disabled"; a server that fails once is not asked
    again."""

    now: str


def mode(wanted: bool) -> Mode:
    """How this launch is tracked at first; every process but the main one gets "disabled".

    Args:
        wanted: Whether tracking was asked for; if not, wandb is not imported.

    Raises:
        UserError: If WANDB_MODE is none that there is.
    """
    if not wanted:
        return Mode("disabled")
    asked = os.environ.get("WANDB_MODE") or "online"
    if asked not in MODES:
        raise UserError(f"WANDB_MODE: expected online, offline or disabled, not {asked!r}")
    if not is_main() or MODES[asked] == "disabled":
        return Mode("disabled")
    os.environ["WANDB_SILENT"] = "true"  # some of its lines come before it has settings
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to wandb's makers
    try:
        from wandb.sdk import wandb_setup
        from wandb.sdk.lib import wbauth

        settings = wandb_setup.singleton().settings
        found = MODES.get(settings.mode, "online")  # `wandb offline` writes it into a file
        if found != "online":
            return Mode(found)
        if not wbauth.authenticate_session(
            host=settings.base_url, source="nutshell", prompt=False, update_session=False
        ):
            return Mode("offline")
        reason = None if _answers(settings) else f"{settings.base_url} does not answer"
    except Exception as error:
        reason = _said(error)
    if reason:
        logger.warning("W&B: %s; tracking off line", reason)
    return Mode("offline" if reason else "online")


def _answers(settings) -> bool:
    """Whether the server says anything in time, be it through a proxy."""
    import requests

    def ask() -> bool:
        proxies = {"http": settings.http_proxy, "https": settings.https_proxy}
        proxies = {scheme: proxy for scheme, proxy in proxies.items() if proxy}
        try:
            requests.head(settings.base_url, timeout=ANSWER_SECONDS, proxies=proxies)
        except requests.exceptions.SSLError:
            return True  # an answer: wandb has certificates of its own
        except requests.RequestException:
            return False
        return True

    try:
        return _within(ANSWER_SECONDS, ask)  # looking a name up knows no time limit
    except TimeoutError:
        return False


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call returns, or its error.

    Raises:
        TimeoutError: If it takes longer; it then goes on by itself.
    """
    found: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            found.put((call(), None))
        except Exception as error:
            found.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error:
        raise error
    return result


class Tracker:
    """One seed's tracked run. Whatever goes wrong in wandb is a warning, and the run goes on.

    Off line wandb cannot resume. So all rows are kept here, and one launch after another writes the whole history anew,
    under one id, in place of what the launch before it has left; on line only what the server does not have.

    Args:
        mode: What `mode` found.
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
        """Opens the run, or goes on with it.

        Args:
            resolved: The seed's experiment, as in experiment.yaml, which is there.
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
        }
        self._rows = list(history)
        on_line = self.mode.now == "online"
        try:
            self._open()
        except Exception as error:
            self._drop()
            if on_line:
                logger.warning("W&B: %s; tracking off line", _said(error))
                self.begin(resolved, provenance, history)
            else:
                logger.warning("W&B: not tracked: %s", _said(error))
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
            logger.warning("W&B: %s; what follows is tracked at the end", _said(error))
            self._drop()

    def finish(self, results: dict[str, Any]) -> None:
        """Closes the run with its figures.

        Args:
            results: The content of metrics.json.
        """
        self._close(0, results)

    def fail(self, exit_code: int) -> None:
        """Marks the run as failed, if it was begun and not finished."""
        self._close(exit_code, None)

    def _close(self, exit_code: int, results: dict[str, Any] | None) -> None:
        if self._about is None:
            return
        try:
            figures, rows = (_summary(results), _listed(self.folder)) if results else ({}, [])
            try:
                self._end(exit_code, figures, rows)
            except Exception:  # a SIGTERM to all of a job's processes ends the one that writes for wandb
                self._drop()
                self._end(exit_code, figures, rows)
        except Exception as error:
            logger.warning("W&B: not tracked to its end: %s", _said(error))
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
        named = home / "run_id.json"
        if not named.exists():
            write_json(named, uuid.uuid4().hex[:16])
        name = json.loads(named.read_text(encoding="utf-8"))
        earlier = list(home.glob(f"*run-*-{name}*"))
        self._run = wandb.init(
            **self._about,
            id=name,
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
        _within(ARTIFACT_SECONDS, lambda: self._run.log_artifact(artifact))
        for folder in earlier:
            shutil.rmtree(folder, ignore_errors=True)
        if self.mode.now == "online":
            logger.info("W&B: tracked at %s", self._run.url)
        else:
            logger.info("W&B: tracked off line; to upload: wandb sync %s", shlex.quote(str(home)))

    def _send(self, index: int) -> None:
        """One row of the log history, named as WandbCallback does; on line those that the server has are left out."""
        from transformers.integrations.integration_utils import rewrite_logs

        row = dict(self._rows[index])
        step = row.pop("step")
        if single := {key: row.pop(key) for key in SINGLE if key in row}:
            self._run.summary.update(single)
        if index >= self._run.starting_step:
            self._run.log({**rewrite_logs(row), "train/global_step": step}, step=index, commit=True)

    def _drop(self) -> None:
        """Leaves nothing of wandb behind that would speak up, or wait, when Python ends; from now on off line."""
        run, self._run = self._run, None
        if self.mode.now == "online":
            self.mode.now = "offline"
        with contextlib.suppress(Exception):
            run.finish(1)
        with contextlib.suppress(Exception):
            import wandb

            wandb.teardown()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _tags(place: str, config: dict[str, Any]) -> list[str]:
    model, data = config["model"], config.get("data") or {}
    kind = Path(model["name"]).name if model.get("name") else (model.get("config") or {}).get("model_type")
    tags = [place.split("/")[0], data.get("name"), kind, precision(config["launch"]["mixed_precision"])]
    return [tag[:64] for tag in dict.fromkeys(tags) if tag]


def _summary(results: dict[str, Any]) -> dict[str, Any]:
    """Each metric under its own name, its 95 % interval and reference band beside it, and what the run cost."""
    bands, found = results["experiment"].get("reference") or {}, {}
    for name, entry in results["metrics"].items():
        found[name] = entry["value"]
        if entry["interval_95"]:
            found[f"{name}/interval_95_low"], found[f"{name}/interval_95_high"] = entry["interval_95"]
        if band := bands.get(name):
            found[f"{name}/reference_low"], found[f"{name}/reference_high"] = band
            found[f"{name}/reference"] = verdict(entry["value"], band)
    cost = {key: results["provenance"][key] for key in ("wall_seconds", "peak_memory_bytes", "peak_gpu_memory_bytes")}
    blocks = ("evaluated_on", "parameters", "training", "evaluation", "generation", "measured", "compressors")
    return found | cost | {block: results[block] for block in blocks if results.get(block)}


def _listed(folder: Path) -> list[dict[str, Any]]:
    """The most confident errors of a classifier, or the texts that were generated."""
    errors = read_lines(folder / "errors.jsonl")
    for row in errors:
        row |= {f"text {number}": text for number, text in enumerate(row.pop("texts"), 1)}
    rows = errors or read_lines(folder / "samples.jsonl")
    return [{key: value for key, value in row.items() if not isinstance(value, list)} for row in rows]
