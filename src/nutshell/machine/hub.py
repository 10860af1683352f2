"""Files from the Hugging Face Hub, by name and pinned revision."""

from collections.abc import Sequence
from pathlib import Path

from nutshell.machine.errors import UserError


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
