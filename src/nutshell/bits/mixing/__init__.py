"""A context-mixing compressor of bytes: many adaptive bit predictions, mixed by what they were worth so far."""

from collections.abc import Callable

import numpy

from nutshell.bits.coder import Damaged
from nutshell.bits.mixing.state import CODE_BITS, fresh_state

Listener = Callable[[int, int], None]
_NONE = numpy.zeros((0, 256), numpy.int64)
_PIECE = 1 << 14
_REST = CODE_BITS // 8  # bytes of the interval that are not written yet
MOST_RATIO = 46_000  # bytes of text to a byte of body: a bit costs at least log2(65,536 / 65,535)
_MOST_BYTES = 16  # that a byte is coded in: a bit costs at most 16


class Mixer:
    """One text, or several in lanes, on its way through the predictions and the coder.

    Args:
        size: Bytes of all of it.
        lanes: Texts that are coded in turn, a byte of each.
        body: What an encoder gave; none to encode.
    """

    def __init__(self, size: int, lanes: int = 1, body: bytes | None = None):
        from nutshell.bits.mixing.loop import code  # numba takes a second to import

        self._code, self._state = code, fresh_state(size, lanes)
        self._written, self._body = bytearray(), _bytes(body or b"")
        self._coder = numpy.array([0, (1 << CODE_BITS) - 1, 0, 0])
        if body is not None:
            self._coder[2:] = _REST, int.from_bytes(body[:_REST].ljust(_REST, b"\0"), "big")

    def encode(self, data: bytes, frequencies: numpy.ndarray = _NONE) -> numpy.ndarray:
        """Codes the next bytes.

        Args:
            frequencies: What another model expects of them, (bytes, 256), each at least 1, of a sum below 2^40.

        Returns:
            The chances, of 65,536, that their bits had, (8 bytes,).
        """
        space = numpy.zeros(len(data) * _MOST_BYTES + _REST, numpy.uint8)
        chances = numpy.zeros(8 * len(data), numpy.int32)
        self._coder[2] = 0
        self._code(self._state, self._coder, space, _bytes(data), False, frequencies, chances)
        self._written += space[: self._coder[2]].tobytes()
        return chances

    def decode(self, count: int, frequencies: numpy.ndarray = _NONE) -> bytes:
        """The next bytes.

        Args:
            frequencies: As for `encode`.

        Raises:
            Damaged: If the body ended before.
        """
        data = numpy.zeros(count, numpy.uint8)
        if not self._code(self._state, self._coder, self._body, data, True, frequencies, numpy.zeros(0, numpy.int32)):
            raise Damaged("it ends before its last byte")
        return data.tobytes()

    def finish(self) -> bytes:
        """All that was coded, in the fewest bytes that, with zeros after them, are in the interval."""
        return bytes(self._written) + self._ending()

    def end(self) -> None:
        """Passes if the body ends as an encoder's does.

        Raises:
            Damaged: If it does not.
        """
        if self._body[self._coder[2] - _REST :].tobytes() != self._ending():
            raise Damaged("its end is not an encoder's")

    def _ending(self) -> bytes:
        low, high = int(self._coder[0]), int(self._coder[1])
        for kept in range(_REST + 1):
            rest = CODE_BITS - 8 * kept
            rounded = -(-low >> rest) << rest
            if rounded <= high:
                return (rounded >> rest).to_bytes(kept, "big")
        raise AssertionError("the first number is in its own interval")


def _bytes(data: bytes) -> numpy.ndarray:
    return numpy.frombuffer(bytearray(data), numpy.uint8)  # not of the bytes themselves: numba has a type for read-only


def compress(raw: bytes, listen: Listener | None = None) -> bytes:
    """The text's code; the same on every machine. It takes up to 1.5 GB of memory, and so does `decompress`.

    Args:
        listen: Is told the bytes done and all bytes every so often.
    """
    mixer = Mixer(len(raw))
    for start in range(0, len(raw), _PIECE):
        mixer.encode(raw[start : start + _PIECE])
        if listen:
            listen(min(start + _PIECE, len(raw)), len(raw))
    return mixer.finish()


def decompress(body: bytes, size: int, listen: Listener | None = None) -> bytes:
    """The text again.

    Args:
        body: What `compress` gave.
        size: Bytes of the text.

    Raises:
        Damaged: If no encoder gives this body for a text of this size. Some changes of a body only give another text.
    """
    if size > MOST_RATIO * (len(body) + _REST):
        raise Damaged("it is too short for its text")
    mixer, pieces = Mixer(size, body=body), []
    for start in range(0, size, _PIECE):
        pieces.append(mixer.decode(min(_PIECE, size - start)))
        if listen:
            listen(min(start + _PIECE, size), size)
    mixer.end()
    return b"".join(pieces)
