"""Files and standard streams of commands that turn one file into another."""

import argparse
import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.machine.files import reading, replacing, writing

STANDARD = "-"
MOST_NAME_BYTES = 230  # a partial file has a longer one, and a file system takes 255


@dataclass(frozen=True)
class Source:
    """What is read.

    Attributes:
        size: Its bytes, if that is known.
    """

    stream: BinaryIO
    name: str
    size: int | None = None
    changed_at: int = 0

    def check(self) -> None:
        """Passes a file that is what it was when it was opened.

        Raises:
            UserError: If it grew, or was written to.
        """
        status = os.fstat(self.stream.fileno())
        if self.size is not None and (self.size, self.changed_at) != (status.st_size, status.st_mtime_ns):
            raise UserError(f"{self.name}: was changed while it was read; try again when nothing writes to it")


@contextlib.contextmanager
def source(file: str, seekable: bool = False) -> Iterator[Source]:
    """The file that is read.

    Raises:
        UserError: If it cannot be.
    """
    with contextlib.ExitStack() as stack:
        if file == STANDARD:
            if sys.stdin is None:
                raise UserError("standard input is closed; name a file")
            stream, name = sys.stdin.buffer, "standard input"
            if seekable:
                stream = stack.enter_context(tempfile.TemporaryFile())
                with writing(Path(tempfile.gettempdir())):
                    shutil.copyfileobj(sys.stdin.buffer, stream)
                stream.seek(0)
            yield Source(stream, name)
            return
        with reading(Path(file)):
            if not os.path.exists(file):
                raise UserError(f"{file}: is not there (in {Path.cwd()})")
            if os.path.isdir(file):
                raise UserError(f"{file}: is a folder; name a file, such as an archive of it")
            stream = stack.enter_context(open(file, "rb"))
        status = os.fstat(stream.fileno())
        regular = stat.S_ISREG(status.st_mode)
        if seekable and not regular:
            raise UserError(f"{file}: is no regular file; give its content to standard input")
        yield Source(stream, file, status.st_size if regular else None, status.st_mtime_ns)


@contextlib.contextmanager
def target(output: str) -> Iterator[BinaryIO]:
    """Where the result is written: to a file of that name once it is whole, or to standard output."""
    if output != STANDARD:
        with writing(Path(output)), replacing(Path(output)) as stream:
            yield stream
        return
    if sys.stdout is None:
        raise UserError("standard output is closed; name a file with --output")
    with tempfile.TemporaryFile() as stream:
        with writing(Path(tempfile.gettempdir())):
            yield stream
        stream.seek(0)
        with writing(Path("standard output")):
            shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def bar(work: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """What is told how many bytes are done: a bar on a terminal, elsewhere a line every half minute."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=size, desc=work, unit="B", unit_scale=True, leave=False) as bar:
            progress.follow(None)
            yield lambda done: bar.update(done - bar.n)
        return
    begin, count = time.monotonic(), [0]

    def describe() -> str:
        seconds = time.monotonic() - begin
        rate = progress.pace(count[0], size, seconds, "byte") if size else progress.duration(seconds)
        return f"{work}: {count[0]:,} bytes, {rate}"

    progress.follow(describe)
    yield lambda done: count.__setitem__(0, done)
    progress.follow(None)


def output(arguments: argparse.Namespace, default: Callable[[str], str]) -> str:
    """Where the result goes, which is not there yet, or may be replaced."""
    name = arguments.output or (STANDARD if arguments.file == STANDARD else default(arguments.file))
    if name == STANDARD:
        return name
    file = Path(name)
    if len(os.fsencode(file.name)) > MOST_NAME_BYTES:
        raise UserError(f"{file.name[:40]}...: is too long a name for a file; name another with --output")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise UserError(f"{name}: {'is a folder' if file.is_dir() else 'its folder is not there'}; name a file")
    if file.exists() and os.path.exists(arguments.file) and file.samefile(arguments.file):
        raise UserError(f"{name}: is the file that is read; name another with --output")
    if file.exists() and not file.is_file() and getattr(arguments, "verify", False):
        raise UserError(f"{name}: is no regular file, and what --verify reads again must be one")
    if file.is_file() and not arguments.force:
        raise UserError(f"{name}: is there already; name another with --output, or replace it with --force")
    return name


def shown(output: str) -> str:
    """What a message calls an output."""
    return "standard output" if output == STANDARD else output
