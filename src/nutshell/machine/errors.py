"""The two errors that end a command with a message and no traceback."""


class UserError(Exception):
    """A mistake that the user can correct: the command prints the message alone and exits with 2."""


class LostProcess(Exception):
    """Another process of the launch is gone: the command prints the message alone and exits with 1."""
