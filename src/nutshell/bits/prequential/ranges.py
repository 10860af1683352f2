"""Bytes by their frequencies, through the range coder."""

import numpy

from nutshell.bits.coder import Decoder, Encoder


class Ranges:
    """Like a `Mixer`, but what is expected decides alone.

    Args:
        body: What an encoder gave; none to encode.
    """

    def __init__(self, body: bytes | None = None):
        self._coder = Encoder() if body is None else Decoder(body)
        self.finish = getattr(self._coder, "finish", None)
        self.end = getattr(self._coder, "end", None)

    def encode(self, data: bytes, frequencies: numpy.ndarray) -> None:
        """Codes the next bytes, by their frequencies (bytes, 256)."""
        ends = frequencies.cumsum(-1)
        for byte, row, row_ends in zip(data, frequencies, ends, strict=True):
            self._coder.encode(int(row_ends[byte] - row[byte]), int(row[byte]), int(row_ends[-1]))

    def decode(self, count: int, frequencies: numpy.ndarray) -> bytes:
        """The next bytes.

        Raises:
            Damaged: If the body ended before.
        """
        return bytes(map(self._coder.decode, frequencies.cumsum(-1)))
