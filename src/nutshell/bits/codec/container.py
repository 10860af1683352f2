"""The file: what it says before, between and after the coded bytes.

    magic, version | header | segment, segment, ... | total | CRC32 of all before it

A segment is some of the text (1 MiB, where a model codes), coded by itself, so that memory does not grow with the
file. A number is a varint: seven bits in a byte, the lowest first, the highest bit set while more follow (LEB128).
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from nutshell.machine.errors import UserError

MAGIC = b"\x89NUT"
VERSION = 1
MOST_SEGMENT = 1 << 26
DIGEST_BYTES = 8
EXACT, NATIVE, PREQUENTIAL = "exact", "native", "prequential"
ARITHMETICS = (EXACT, NATIVE, PREQUENTIAL)
CODED, STORED = 1, 2
COUNT_BYTES, CRC_BYTES = 6, 4
TOTAL_BYTES = 2 * COUNT_BYTES + hashlib.sha256().digest_size
MOST_WINDOW, MOST_LANES = 1 << 20, 1024
CHUNK = 1 << 16
DAMAGED = "is damaged or cut short; copy it again from where it came"


@dataclass(frozen=True)
class Header:
    """What a decoder must have, too.

    Attributes:
        arithmetic: One of ARITHMETICS.
        window: Tokens that the model is fed at most.
        weights, config, tokenizer: Digests of the model's, DIGEST_BYTES each; a network's that learns as it codes are
            its settings.
        tables: The arithmetic's own: of its tables, or of what the model computes for a probe.
        environment: Of native arithmetic: precision, threads, the processor's instructions, torch's version.
    """

    arithmetic: str
    window: int = 0
    weights: bytes = bytes(DIGEST_BYTES)
    config: bytes = bytes(DIGEST_BYTES)
    tokenizer: bytes = bytes(DIGEST_BYTES)
    tables: bytes = bytes(DIGEST_BYTES)
    environment: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """With magic and version."""
        environment = "\n".join(self.environment).encode()
        digests = self.weights + self.config + self.tokenizer + self.tables
        number = varint(ARITHMETICS.index(self.arithmetic)) + varint(self.window)
        return MAGIC + bytes([VERSION]) + number + digests + varint(len(environment)) + environment


@dataclass(frozen=True)
class Segment:
    """A part of the text.

    Attributes:
        mode: CODED or STORED.
        size: Bytes of the text.
        tokens, lanes: Of a coded one.
        body: Its bytes in the file.
    """

    mode: int
    size: int
    body: bytes = field(repr=False)
    tokens: int = 0
    lanes: int = 0

    def pack(self) -> bytes:
        """All of it."""
        numbers = (self.size, self.tokens, self.lanes) if self.mode == CODED else (self.size,)
        return b"".join(map(varint, (self.mode, *numbers, len(self.body)))) + self.body


@dataclass(frozen=True)
class Total:
    """What the end of the file says of all of it.

    Attributes:
        size: Bytes of the text.
        tokens: Of its coded segments.
        sha256: Of the text.
    """

    size: int
    tokens: int
    sha256: bytes

    def pack(self) -> bytes:
        """TOTAL_BYTES."""
        return b"".join(number.to_bytes(COUNT_BYTES, "little") for number in (self.size, self.tokens)) + self.sha256

    @classmethod
    def unpack(cls, content: bytes) -> "Total":
        """Of what `pack` gave."""
        size, tokens = (int.from_bytes(content[at : at + COUNT_BYTES], "little") for at in (0, COUNT_BYTES))
        return cls(size, tokens, content[2 * COUNT_BYTES :])


class Writer:
    """Writes a file part by part.

    Args:
        target: Where it goes.
        header: Its first part.
    """

    def __init__(self, target: BinaryIO, header: Header):
        self._target, self._crc, self.written = target, 0, 0
        self._size = self._tokens = 0
        self._write(header.pack())

    def add(self, segment: Segment) -> None:
        """Writes a segment."""
        self._write(segment.pack())
        self._size, self._tokens = self._size + segment.size, self._tokens + segment.tokens

    def end(self, sha256: bytes) -> None:
        """Writes the end.

        Args:
            sha256: Of the whole text.
        """
        self._write(Total(self._size, self._tokens, sha256).pack())
        self._write(self._crc.to_bytes(CRC_BYTES, "little"))

    def _write(self, content: bytes) -> None:
        self._crc = zlib.crc32(content, self._crc)
        self.written += len(content)
        self._target.write(content)


class Reader:
    """Reads a file part by part, once its checksum was found right.

    Args:
        source: Seekable, at its beginning.
        name: For messages.

    Attributes:
        header, total: What it says before and after its segments.
        size: The file's bytes.

    Raises:
        UserError: If it is no such file, of another version, or damaged.
    """

    def __init__(self, source: BinaryIO, name: str):
        self._source, self._name = source, name
        beginning = source.read(len(MAGIC) + 1)
        if not beginning:
            raise UserError(f"{name}: is empty; nutshell compress makes such files")
        if beginning[: len(MAGIC)] != MAGIC[: len(beginning)]:
            raise UserError(f"{name}: is no file of nutshell compress, which begin with NUT after their first byte")
        if len(beginning) > len(MAGIC) and beginning[-1] != VERSION:
            raise UserError(f"{name}: is of version {beginning[-1]}, and this nutshell reads version {VERSION}")
        self.size = self._check()
        self._end = self.size - TOTAL_BYTES - CRC_BYTES
        source.seek(self._end)
        self.total = Total.unpack(source.read(TOTAL_BYTES))
        source.seek(len(MAGIC) + 1)
        self.header = self._header()

    def _check(self) -> int:
        """The file's bytes, if its last ones are the checksum of all before them."""
        self._source.seek(0, 2)
        size = self._source.tell()
        self._source.seek(0)
        crc, left = 0, size - CRC_BYTES
        while left > 0:
            if not (chunk := self._source.read(min(CHUNK, left))):  # it shrinks while it is read
                break
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
        shortest = len(MAGIC) + 1 + TOTAL_BYTES + CRC_BYTES
        if size < shortest or self._source.read() != crc.to_bytes(CRC_BYTES, "little"):
            raise self.damaged("its checksum is another")
        return size

    def _header(self) -> Header:
        kind, window = self._number(len(ARITHMETICS) - 1), self._number(MOST_WINDOW)
        digests = [self._take(DIGEST_BYTES) for _ in range(4)]
        try:
            environment = self._take(self._number(100)).decode()
        except UnicodeDecodeError:
            raise self.damaged("its header is no text") from None
        return Header(ARITHMETICS[kind], window, *digests, tuple(environment.split("\n")) if environment else ())

    def segments(self) -> Iterator[Segment]:
        """Each of them, once.

        Raises:
            UserError: If a number is out of its range: the file was changed, and its checksum after it.
        """
        while self._source.tell() < self._end:
            mode, size = self._number(STORED), self._number(MOST_SEGMENT)
            tokens = self._number(2 * size + 1) if mode == CODED else 0
            lanes = self._number(tokens) if mode == CODED else 0
            if not mode or (mode == CODED and not (lanes and self.header.window)):
                raise self.damaged("a number in it is out of range")
            yield Segment(mode, size, self._take(self._number(2 * size + 64)), tokens, lanes)

    def damaged(self, reason: str) -> UserError:
        """The error for content that nothing has written."""
        return UserError(f"{self._name}: {DAMAGED}: {reason}")

    def _number(self, most: int) -> int:
        number, shift = 0, 0
        while True:
            byte = self._take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if number > most or shift > 70:
                raise self.damaged("a number in it is out of range")
            if byte < 128:
                return number

    def _take(self, count: int) -> bytes:
        content = self._source.read(min(count, max(0, self._end - self._source.tell())))
        if len(content) < count:
            raise self.damaged("it ends too early")
        return content


def environment() -> tuple[str, str]:
    """What the numbers of floating point depend on here: the processor's instructions, torch's version."""
    import torch

    return torch.backends.cpu.get_cpu_capability(), torch.__version__


def varint(number: int) -> bytes:
    """A whole number from 0 on, in as few bytes as it needs."""
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    content.append(number)
    return bytes(content)
