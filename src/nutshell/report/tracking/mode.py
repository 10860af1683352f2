"""Whether and how a launch is tracked."""

import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nutshell.machine.errors import UserError
from nutshell.machine.launch import is_main

logger = logging.getLogger("nutshell")

MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
ANSWER_SECONDS = 3.0  # for the server, before a launch; wandb itself would wait for 100


@dataclass
class Mode:
    """How a launch is tracked from now on: "online", "offline" or "disabled". After a server has failed once, it is
    "offline" for the rest of the launch."""

    now: str


def mode(tracks: bool) -> Mode:
    """How this launch is tracked at first; "disabled" on every process except the main one.

    Args:
        tracks: Whether it is to be tracked at all; if not, wandb is not imported.

    Raises:
        UserError: If wandb has no such WANDB_MODE.
    """
    if not tracks:
        return Mode("disabled")
    setting = os.environ.get("WANDB_MODE") or "online"
    if setting not in MODES:
        raise UserError(f"WANDB_MODE: expected online, offline or disabled, not {setting!r}")
    if not is_main() or MODES[setting] == "disabled":
        return Mode("disabled")
    os.environ["WANDB_SILENT"] = "true"  # some of its lines come before it has settings
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to wandb's makers
    try:
        from wandb.sdk import wandb_setup
        from wandb.sdk.lib import wbauth

        settings = wandb_setup.singleton().settings
        file_mode = MODES.get(settings.mode, "online")  # `wandb offline` writes it into a file
        if file_mode != "online":
            return Mode(file_mode)
        if not wbauth.authenticate_session(
            host=settings.base_url, source="nutshell", prompt=False, update_session=False
        ):
            return Mode("offline")
        reason = None if _answers(settings) else f"{settings.base_url} does not answer"
    except Exception as error:
        reason = describe(error)
    if reason:
        logger.warning("W&B: %s; tracking off line", reason)
    return Mode("offline" if reason else "online")


def _answers(settings) -> bool:
    """Whether the server answers in time, directly or through a proxy."""
    import requests

    def request() -> bool:
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
        return within(ANSWER_SECONDS, request)  # looking a name up has no time limit of its own
    except TimeoutError:
        return False


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call returns; or its error is raised.

    Raises:
        TimeoutError: If it takes longer; its thread then runs on by itself.
    """
    outcomes: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((call(), None))
        except Exception as error:
            outcomes.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error:
        raise error
    return result


def describe(error: Exception) -> str:
    """An error in one line, with its class: what went wrong is wandb's matter, not the user's."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
