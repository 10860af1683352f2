"""A text of any length to a file and back, a segment at a time."""

import hashlib
import lzma
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from nutshell.bits.codec.container import STORED, Header, Reader, Segment, Total, Writer
from nutshell.bits.coder import Damaged

_STORED = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20}]
_UTF8_BYTES = 4  # of one character at most

Listen = Callable[[int], None]


class Coder(Protocol):
    """What codes a segment, and what a file says of it.

    Attributes:
        header: The file's.
        segment_bytes: How much of a text it takes at once.
    """

    header: Header
    segment_bytes: int

    def encode(self, raw: bytes, listen: Listen) -> tuple[Segment, float | None] | None:
        """The segment and its ideal bits, if they are known; None if the text does not come back from it."""

    def decode(self, segment: Segment, listen: Listen) -> bytes:
        """The text of a coded segment.

        Raises:
            Damaged: If it is none that `encode` has made.
        """


@dataclass(frozen=True)
class Facts:
    """What came of it.

    Attributes:
        size_bytes: Of the text.
        file_bytes: Of the file.
        body_bytes, ideal_bits: Of the coded segments: what the coder wrote, and the sum of -log2 p, if it is
            known.
        coded_bytes: Of the text's in coded segments; the others are stored, as xz has them.
        tokens: Of coded segments.
        seconds: All of it took.
    """

    size_bytes: int = 0
    file_bytes: int = 0
    body_bytes: int = 0
    ideal_bits: float | None = 0.0
    coded_bytes: int = 0
    tokens: int = 0
    seconds: float = 0.0


def compress(source: BinaryIO, target: BinaryIO, coder: Coder, listen: Listen = lambda _: None) -> Facts:
    """Reads a text to its end, and writes its file.

    Args:
        listen: Is told how many bytes of the text are done.
    """
    begin, digest, writer, facts = time.perf_counter(), hashlib.sha256(), Writer(target, coder.header), Facts()
    rest = b""
    while raw := rest + source.read(coder.segment_bytes - len(rest)):
        whole = raw[: _cut(raw)] if len(raw) == coder.segment_bytes else raw
        rest = raw[len(whole) :]
        done = facts.size_bytes
        stored = lzma.compress(whole, lzma.FORMAT_RAW, filters=_STORED)
        coded = coder.encode(whole, lambda count, done=done: listen(done + count))
        segment = Segment(STORED, len(whole), stored)
        if coded and len(coded[0].body) < len(stored):
            segment, bits = coded
            facts = replace(
                facts,
                body_bytes=facts.body_bytes + len(segment.body),
                ideal_bits=None if bits is None else facts.ideal_bits + bits,
                coded_bytes=facts.coded_bytes + len(whole),
                tokens=facts.tokens + segment.tokens,
            )
        writer.add(segment)
        digest.update(whole)
        facts = replace(facts, size_bytes=done + len(whole))
        listen(facts.size_bytes)
    writer.end(digest.digest())
    return replace(facts, file_bytes=writer.written, seconds=time.perf_counter() - begin)


def decompress(
    reader: Reader, target: BinaryIO, find: Callable[[Header], Coder], listen: Listen = lambda _: None
) -> Facts:
    """Writes the text of a file. Nobody may use what was written before this returns.

    Args:
        find: The coder of a header; asked if a segment is coded, not for stored ones.
        listen: Is told how many bytes of the text are done.

    Raises:
        UserError: If the file does not decode to the text that it was made of.
    """
    begin, digest, facts, coder = time.perf_counter(), hashlib.sha256(), Facts(file_bytes=reader.size), None
    for part in reader.segments():
        done = facts.size_bytes
        try:
            if part.mode == STORED:
                raw = _restore(part)
            else:
                coder = coder or find(reader.header)
                raw = coder.decode(part, lambda count, done=done: listen(done + count))
                facts = replace(
                    facts,
                    body_bytes=facts.body_bytes + len(part.body),
                    coded_bytes=facts.coded_bytes + len(raw),
                    tokens=facts.tokens + part.tokens,
                )
        except Damaged as error:
            raise reader.damaged(str(error)) from None
        if len(raw) != part.size:
            raise reader.damaged("a segment is of another length")
        digest.update(raw)
        target.write(raw)
        facts = replace(facts, size_bytes=done + len(raw))
        listen(facts.size_bytes)
    if Total(facts.size_bytes, facts.tokens, digest.digest()) != reader.total:
        raise reader.damaged("the text is not the one that was coded (sha256)")
    return replace(facts, seconds=time.perf_counter() - begin)


def _cut(raw: bytes) -> int:
    """Where a segment ends, so that no character is in two."""
    for count in range(1, _UTF8_BYTES):
        first = raw[-count]
        if first & 0xC0 != 0x80:  # no continuation
            whole = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else _UTF8_BYTES
            return len(raw) if count == whole or first < 0xC0 else len(raw) - count
    return len(raw)


def _restore(segment: Segment) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_STORED)
    try:
        return decompressor.decompress(segment.body, segment.size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise Damaged(f"a stored segment cannot be read ({error})") from None
