"""SIGTERM, which Slurm sends before the end: what has been trained is saved, then the process ends with 143."""

import contextlib
import signal
from collections.abc import Iterator

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(BaseException):
    """The end that a SIGTERM requests. No Exception, so that nothing takes it for a failure that it can handle."""


class _Signal:
    """Whether the end was requested; whether training is under way, which then saves before it ends; whether this
    process listens only while it trains."""

    requested = False
    training = False
    only_in_training = False


@contextlib.contextmanager
def listening(main: bool) -> Iterator[None]:
    """Within this a SIGTERM ends the process by `Terminated`: at once, or, while there is training to save, where
    `requested` is called next. After it, what was there before is there again, and a request is forgotten: it was for
    this command, and the process may be given another.

    Args:
        main: Whether this is the main process. Another one listens only while it trains: before that, it may be
            waiting for a connection that never comes, where Python runs no handler.
    """
    before = signal.getsignal(signal.SIGTERM)
    _Signal.only_in_training = not main
    if main:
        signal.signal(signal.SIGTERM, _received)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _Signal.requested = _Signal.training = _Signal.only_in_training = False
        shield(False)


def _received(*_) -> None:
    _Signal.requested = True
    if not _Signal.training:
        raise Terminated


def requested() -> bool:
    """Whether a SIGTERM has come."""
    return _Signal.requested


def shield(on: bool) -> None:
    """Keeps SIGTERM from this thread and, above all, from the processes that it starts meanwhile: a data loader's
    workers then survive one that is sent to the whole group, and end with their trainer."""
    signal.pthread_sigmask(signal.SIG_BLOCK if on else signal.SIG_UNBLOCK, {signal.SIGTERM})


def training(under_way: bool) -> None:
    """Says whether there is something to save, from the first step until the run's figures are written."""
    _Signal.training = under_way
    shield(False)
    if _Signal.only_in_training:
        signal.signal(signal.SIGTERM, _received if under_way else signal.SIG_DFL)
