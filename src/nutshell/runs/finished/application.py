"""A finished run's model, applied to new texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nutshell.data.parts import Part


@dataclass(frozen=True)
class Application:
    """What a task can do with new texts and models that its runs have saved.

    Attributes:
        columns: What a row calls its texts, in the order a model reads them.
        adds: The names of the answers, in their order.
        may_be_empty: Whether an answer to an empty text means something.
        answer: Texts, without labels, to their answers by name, (texts,) each in the order of the texts; None where
            one has no value.
    """

    columns: tuple[str, ...]
    adds: tuple[str, ...]
    may_be_empty: bool
    answer: Callable[[Part], Mapping[str, Sequence[Any]]]
