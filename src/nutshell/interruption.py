"""SIGTERM, which Slurm sends before the end: what has been trained is saved, then the process ends with 143."""

import signal

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(BaseException):
    """The end that a SIGTERM asked for. No Exception, so that nothing takes it for a failure that it can handle."""


class _Signal:
    """Whether the end was asked for, and whether training is under way, which then saves before it ends."""

    asked = False
    training = False


def listen() -> None:
    """From now on a SIGTERM ends the process by `Terminated`: at once, or while there is training to save, where
    `asked` is looked at next."""
    _Signal.asked = _Signal.training = False
    signal.signal(signal.SIGTERM, _received)


def _received(*_) -> None:
    _Signal.asked = True
    if not _Signal.training:
        raise Terminated


def asked() -> bool:
    """Whether a SIGTERM has come."""
    return _Signal.asked


def training(under_way: bool) -> None:
    """Says whether there is something to save, from the first step until the run's figures are written."""
    _Signal.training = under_way
