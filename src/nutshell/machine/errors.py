"""The two errors that end a command with a message and no traceback, and how a message words a count."""


class UserError(Exception):
    """A mistake that the user can correct: the command prints the message alone and exits with 2."""


class LostProcess(Exception):
    """Another process of the launch is gone: the command prints the message alone and exits with 1."""


def plural(count: int, word: str) -> str:
    """A count with its noun: 1 seed, 2 seeds, 2 processes."""
    ending = "" if count == 1 else "es" if word.endswith("s") else "s"
    return f"{count:,} {word}{ending}"
