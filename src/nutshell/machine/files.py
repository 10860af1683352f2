"""Files that are written whole or not at all, and messages for what a disk refuses."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from nutshell.machine.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
# Words of torch and safetensors for what the system refused.
REFUSED = ("PytorchStreamWriter", "inline_container", "iostream", "I/O error", "os error")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a disk's refusals within it into a message.

    Raises:
        UserError: If the disk is full, or a file may not be written or read.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        refused = isinstance(error, OSError) and error.errno in UNWRITABLE
        if not refused and (isinstance(error, OSError) or not any(word in str(error) for word in REFUSED)):
            raise
        place = Path(error.filename) if refused and error.filename else folder
        if refused and error.errno not in FULL:
            raise UserError(f"{place}: cannot be used: {error.strerror}") from None
        reason = error.strerror if refused else "the disk did not take all of it, as when it is full"
        raise UserError(
            f"{place}: cannot be written: {reason}. What was whole before is kept: make room, and give the same "
            "command again"
        ) from None


@contextlib.contextmanager
def reading(place: Path) -> Iterator[None]:
    """Turns what the system refuses within it into a message.

    Raises:
        UserError: If a file or folder cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or place}: cannot be read: {error.strerror}") from None


def sha256(file: Path) -> str:
    """A file's sha256, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(file: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all; a figure that is no number is an error."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a JSON lines file whole or not at all."""
    write_text(file, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def write_text(file: Path, text: str) -> None:
    """Writes a UTF-8 file whole or not at all."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with replacing(file) as stream:
        stream.write(content)


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A stream whose content is the file's when it is complete: the file is there whole, or as it was."""
    if file.exists() and not file.is_file():  # such as /dev/stdout
        with file.open("wb") as stream:
            yield stream
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("w+b") as stream:  # what was written may be read again
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def read_json(file: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file; none if it is not there."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="\n") as stream:  # JSON escapes no other line separators than \n and \r
        return [json.loads(line) for line in stream]
