"""A line before each slow stage of a run, and one whenever nothing was printed for half a minute."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator

logger = logging.getLogger("nutshell")

QUIET_SECONDS = 29.0  # the thread looks once a second: then a line comes at least every 30


class _Clock:
    """The one clock of all progress: `say` sets it back, and `describe` makes the line that is due when it runs out."""

    running = False
    last_line = 0.0
    describe: Callable[[], str] | None = None


@contextlib.contextmanager
def beating() -> Iterator[None]:
    """Within it, stages are printed, and no half minute passes without a line."""
    end = threading.Event()
    thread = threading.Thread(target=_beat, args=(end,), daemon=True)
    _Clock.running, _Clock.describe = True, None
    thread.start()
    try:
        yield
    finally:
        _Clock.running = False
        end.set()


def _beat(end: threading.Event) -> None:
    # A thread, because one batch of a large model on a CPU can take minutes, in which no callback is called.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are for the thread that trains
    while not end.wait(1.0):
        beat()


def beat() -> None:
    """Prints how far the work is, if nothing was printed for half a minute."""
    describe = _Clock.describe  # the thread that trains may set it to None meanwhile
    if describe and time.monotonic() - _Clock.last_line >= QUIET_SECONDS:
        say(describe())


def say(line: str) -> None:
    """Prints a line; the next half minute may be quiet."""
    _Clock.last_line = time.monotonic()
    logger.info("%s", line)


def stage(work: str) -> None:
    """Prints what begins now, such as "loading the weights"; outside of a run, as in `show`, nothing."""
    if _Clock.running:
        start = time.monotonic()
        say(f"{work} ...")
        follow(lambda: f"still {work}, since {duration(time.monotonic() - start)}")


def follow(describe: Callable[[], str] | None) -> None:
    """Sets what is printed after half a minute of silence; None: nothing, such as while a bar is shown."""
    _Clock.describe = describe


def silence_transformers() -> None:
    """Turns off its warnings and its bars of loading and saving; those of training and of a pass stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def duration(seconds: float) -> str:
    """Seconds in words: 45 s, 3 min 20 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def pace(count: int, total: int, seconds: float, unit: str) -> str:
    """How fast it goes and how long the rest takes at that rate: "2.5 s/step, 3 min 20 s left".

    Args:
        count, total: Units done in these seconds, and with those that are left.
        seconds: Taken so far.
        unit: The word for one.
    """
    if count <= 0 or seconds <= 0:
        return f"{duration(seconds)} so far"
    units = {"batch": "batches"}.get(unit, f"{unit}s")
    rate = f"{count / seconds:.3g} {units}/s" if count > seconds else f"{seconds / count:.3g} s/{unit}"
    return f"{rate}, {duration((total - count) * seconds / count)} left"
