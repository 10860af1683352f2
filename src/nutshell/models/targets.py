"""The layers that low-rank adapters may be on, by the ends of their names. Imports no torch."""

from collections.abc import Sequence

from nutshell.machine.errors import UserError


def check_targets(key: str, targets: Sequence[str], names: Sequence[str], listed: Sequence[str] | None = None) -> None:
    """Passes targets that are ends of names of linear layers: peft passes over those that match none.

    Args:
        key: What the experiment calls the targets.
        targets: The ends.
        names: Of a model's layers, their parts divided by dots.
        listed: The names whose last parts a message lists; None: all.

    Raises:
        UserError: If one is the end of no name.
    """
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            known = ", ".join(sorted({name.split(".")[-1] for name in (names if listed is None else listed)}))
            raise UserError(f"{key}: {target} is no linear layer of this model, which has {known}")
