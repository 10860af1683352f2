"""SIGTERM, which Slurm sends before the end: what has been trained is saved, then the process ends with 143."""

import signal

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(BaseException):
    """The end that a SIGTERM asked for. No Exception, so that nothing takes it for a failure that it can handle."""


class _Signal:
    """Whether the end was asked for, whether training is under way, which then saves before it ends, and whether
    this process listens in training alone."""

    asked = False
    training = False
    only_in_training = False


def listen(main: bool) -> None:
    """From now on a SIGTERM ends the process by `Terminated`: at once, or while there is training to save, where
    `asked` is looked at next.

    Args:
        main: Whether this is the main process. Another one listens only while it trains: before, it may be waiting in
            a connection that was never made, where Python runs no handler.
    """
    _Signal.asked = _Signal.training = False
    _Signal.only_in_training = not main
    if main:
        signal.signal(signal.SIGTERM, _received)


def _received(*_) -> None:
    _Signal.asked = True
    if not _Signal.training:
        raise Terminated


def asked() -> bool:
    """Whether a SIGTERM has come."""
    return _Signal.asked


def shield(on: bool) -> None:
    """Keeps SIGTERM from this thread and, which is what it is for, from the processes that it starts meanwhile: a data
    loader's workers then outlive one that is sent to the whole group, and end with their trainer."""
    signal.pthread_sigmask(signal.SIG_BLOCK if on else signal.SIG_UNBLOCK, {signal.SIGTERM})


def training(under_way: bool) -> None:
    """Says whether there is something to save, from the first step until the run's figures are written."""
    _Signal.training = under_way
    shield(False)
    if _Signal.only_in_training:
        signal.signal(signal.SIGTERM, _received if under_way else signal.SIG_DFL)
