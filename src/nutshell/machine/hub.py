"""The Hugging Face Hub: files from it by name and pinned revision, a complete run's model to it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, write_json

logger = logging.getLogger("nutshell")

PRIVATE = ["training_args.bin"]  # a pickle, with paths of the machine that trained


def fetch(name: str, revision: str, patterns: Sequence[str], kind: str, instead: str) -> Path:
    """The folder of the Hub's cache that holds a repository's files at one commit.

    Hugging Face's own cache, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE work as everywhere.

    Args:
        name: `owner/name` on the Hub.
        revision: The commit, 40 hexadecimal digits.
        patterns: Which files, as shell patterns.
        kind: "model" or "dataset".
        instead: What the user can do without the Hub, for the error message.

    Raises:
        UserError: If the Hub cannot be reached and its cache lacks the files, or knows no such name or commit.
    """
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    progress.stage(f"fetching the {kind} {name}, unless it is in the Hub's cache")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns), repo_type=kind))
    except HFValidationError:
        raise UserError(f"{name!r} is neither a folder nor a name on the Hub (owner/name); {instead}") from None
    except LocalEntryNotFoundError:
        reason = "the Hub cannot be reached and its local cache does not hold it"
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[0]
    except (OSError, HTTPError) as error:  # no route, no name server, refused, a proxy's refusal
        reason = f"the Hub cannot be reached ({error})"
    raise UserError(f"{kind} {name} at revision {revision}: {reason}; {instead}")


def file_names(name: str, revision: str) -> list[str] | None:
    """The files of a model on the Hub at one commit; None if the Hub cannot be reached now."""
    from httpx2 import HTTPError
    from huggingface_hub import list_repo_files

    try:
        return list_repo_files(name, revision=revision)
    except (OSError, HTTPError):
        return None


def own_cache() -> Path:
    """The folder of Hugging Face's cache (HF_HOME) for what nutshell keeps from run to run.

    Raises:
        UserError: If it cannot be made.
    """
    from huggingface_hub.constants import HF_HOME

    folder = Path(HF_HOME) / "nutshell"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: nothing can be kept there: {error.strerror}; set HF_HOME") from None
    return folder


def check_push(training: Mapping[str, Any]) -> None:
    """Checks, before any training, that the Hub takes what the experiment is to push, if it is to push anything.

    Raises:
        UserError: If the Hub refuses, or cannot be reached.
    """
    if training.get("push_to_hub"):
        _open_repository(training, "; leave push_to_hub out to run without")


def push(folder: Path, training: Mapping[str, Any]) -> None:
    """Uploads a complete run's model with its card, if the experiment says so and it has not been done.

    Args:
        folder: The seed's; pushed.json notes there that it was done.
        training: The experiment's block.

    Raises:
        UserError: If the Hub refuses, or cannot be reached.
    """
    if not training.get("push_to_hub") or (folder / "pushed.json").exists():
        return
    from huggingface_hub import HfApi

    name = training["hub_model_id"]
    again = ". The run is complete; the same command tries again"
    repository = _open_repository(training, again)
    about = {"repo_id": repository, "folder_path": folder / "model", "revision": training.get("hub_revision")}
    _request(
        name, lambda: HfApi().upload_folder(**about, commit_message="End of training", ignore_patterns=PRIVATE), again
    )
    address = f"{HfApi().endpoint}/{repository}"
    write_json(folder / "pushed.json", {"address": address})
    logger.info("pushed to %s", address)


def _open_repository(training: Mapping[str, Any], instead: str) -> str:
    """The whole name of the repository, `owner/name`, which is created unless it is there."""
    from huggingface_hub import HfApi

    name, private = training["hub_model_id"], training.get("hub_private_repo")
    return _request(name, lambda: HfApi().create_repo(name, private=private, exist_ok=True), instead).repo_id


def _request(name: str, request: Callable, instead: str):
    """What a request to the Hub returns; its failure is a message, with what can be done instead."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        return request()
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        OSError,
        HTTPError,
    ) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        unknown = isinstance(error, LocalTokenNotFoundError) or status in (401, 403)
        login = "; log in with `hf auth login`" * unknown
        raise UserError(f"training.push_to_hub: {name}: {first_line(error).rstrip('.')}{login}{instead}") from None
