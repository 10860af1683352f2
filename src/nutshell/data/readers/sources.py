"""Where rows are read from, a file or standard input, as bytes or as text that was checked to be text."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, reading

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One file, or standard input.

    Attributes:
        name: For the messages.
        open: Opens its bytes, without compression, at the start. Standard input can be opened once.
    """

    name: str
    open: Callable[[], BinaryIO]

    def lines(self, newline: str) -> io.TextIOWrapper:
        """Its text, line by line with the line ends, in memory that does not grow; a byte-order mark is dropped.

        Args:
            newline: The sign that ends a line; "" for each of LF, CR LF and CR.

        Raises:
            UserError: If it cannot be opened; on the way, with the row of a byte that is no UTF-8 text.
        """
        checked = io.BufferedReader(_Checked(self.name, self.open()), BLOCK_BYTES)
        if checked.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8):  # the codec utf-8-sig takes twice as long
            checked.read(len(codecs.BOM_UTF8))
        return io.TextIOWrapper(checked, "utf-8", newline=newline)

    def whole(self) -> bytes:
        """All of its bytes.

        Raises:
            UserError: If it cannot be read.
        """
        with self.open() as stream:
            return _read(self.name, stream.read)


def of_file(file: Path) -> Source:
    """A regular file, which is decompressed if its name ends in .gz; to open anything else is a UserError."""

    def _open() -> BinaryIO:
        check_regular(file)
        with reading(file):
            return gzip.open(file) if file.suffix == ".gz" else file.open("rb")

    return Source(str(file), _open)


def of_stream(stream: BinaryIO, name: str = "standard input") -> Source:
    """An open stream of bytes, which is read to its end."""
    return Source(name, lambda: stream)


def check_regular(file: Path) -> None:
    """Passes a regular file, a link to one, and a file that is not there.

    Raises:
        UserError: Saying what it is instead. A pipe or a device would be waited for, or never end.
    """
    with reading(file):
        if file.is_file():
            return
        if file.is_symlink() and not file.exists():
            raise UserError(f"{file}: is a link to nothing")
        if file.is_dir():
            raise UserError(f"{file}: is a folder, expected a file")
        if file.exists():
            raise UserError(f"{file}: is not a regular file, but a pipe, a device or the like")


class _Checked(io.RawIOBase):
    """A stream's bytes, each block of which was checked to be UTF-8 text without a byte 0x00."""

    def __init__(self, name: str, stream: BinaryIO):
        self.name, self.stream, self.row = name, stream, 1  # the row that the next block begins in
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        block = _read(self.name, self.stream.read1, len(buffer))
        try:
            self.decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before, byte = error.object[: error.start], error.object[error.start]
            raise UserError(f"{self._row(before)} not UTF-8 text (byte {byte:#04x})") from None
        if b"\0" in block:
            before = block[: block.index(b"\0")]
            raise UserError(f"{self._row(before)} not UTF-8 text (a byte 0x00, as UTF-16 has them)")
        self.row += block.count(b"\n")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self.stream.close()
        super().close()

    def _row(self, before: bytes) -> str:
        row = self.row + before.count(b"\n")
        return f"{self.name}: row {row}:"


def _read(name: str, read: Callable[..., bytes], *size: int) -> bytes:
    with reading(Path(name)):
        try:
            return read(*size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{name}: is no whole gzip file: {first_line(error)}") from None
