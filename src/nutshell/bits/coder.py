"""A range coder: symbols in, as many bits out as their probabilities are worth, in whole numbers alone.

A symbol is a part [start, start + frequency) of [0, total). The state is an interval [low, low + range) of 64-bit
numbers; each symbol takes its share of it, and leading 16-bit words that cannot change any more are written. The range
is never below 2^48, so a symbol costs at most log2(1 + total / 2^48) bits more than log2(total / frequency).

Source: Martin 1979, "Range encoding"; Schindler's and Subbotin's range coders, for the carry and for words instead of
bits.
"""

from typing import Any

WORD_BITS = 16
STATE_BITS = 64
MOST_TOTAL = 1 << 40
_STATE, _WORD = (1 << STATE_BITS) - 1, (1 << WORD_BITS) - 1
_LEAST = 1 << (STATE_BITS - WORD_BITS)
_STATE_BYTES, _WORD_BYTES = STATE_BITS // 8, WORD_BITS // 8


class Damaged(ValueError):
    """What was read is not what an encoder has written."""


class Encoder:
    """Symbols to bytes."""

    def __init__(self):
        self._low, self._range, self._words = 0, 1 << STATE_BITS, []

    def encode(self, start: int, frequency: int, total: int) -> None:
        """Codes the symbol whose part of [0, total) begins at start.

        Args:
            start, frequency, total: 0 <= start < start + frequency <= total <= MOST_TOTAL.
        """
        share = self._range // total
        self._low += share * start
        self._range = share * frequency
        if self._low > _STATE:
            self._low &= _STATE
            self._carry()
        while self._range < _LEAST:
            self._words.append(self._low >> (STATE_BITS - WORD_BITS))
            self._low = (self._low << WORD_BITS) & _STATE
            self._range <<= WORD_BITS

    def _carry(self) -> None:
        """Adds one to the number that the words are. It has room: low + range never leaves the first interval."""
        place = len(self._words) - 1
        while self._words[place] == _WORD:
            self._words[place] = 0
            place -= 1
        self._words[place] += 1

    def finish(self) -> bytes:
        """All that was coded, in the fewest bytes that, with zeros after them, are in the interval."""
        written = b"".join(word.to_bytes(_WORD_BYTES, "big") for word in self._words)
        number = int.from_bytes(written, "big") << STATE_BITS | self._low
        for kept in range(_STATE_BYTES + 1):
            rest = 8 * (_STATE_BYTES - kept)
            rounded = -(-number >> rest) << rest
            if rounded < number + self._range:
                return (rounded >> rest).to_bytes(len(written) + kept, "big")
        raise AssertionError("the whole state is in its own interval")


class Decoder:
    """Bytes to symbols.

    Args:
        body: What `Encoder.finish` gave.
    """

    def __init__(self, body: bytes):
        self._body, self._at = body, _STATE_BYTES
        self._code = int.from_bytes(body[:_STATE_BYTES].ljust(_STATE_BYTES, b"\0"), "big")
        self._range, self._share = 1 << STATE_BITS, 0

    def target(self, total: int) -> int:
        """A number in [0, total) that is in the next symbol's part; `take` says which it is."""
        self._share = self._range // total
        return min(self._code // self._share, total - 1)

    def take(self, start: int, frequency: int) -> None:
        """Goes past the symbol that `target` is in.

        Raises:
            Damaged: If the body ended before.
        """
        self._code -= self._share * start
        self._range = self._share * frequency
        while self._range < _LEAST:
            if self._at >= len(self._body) + _STATE_BYTES:  # an encoder leaves out no more than its state
                raise Damaged("it ends before its last symbol")
            word = self._body[self._at : self._at + _WORD_BYTES].ljust(_WORD_BYTES, b"\0")
            self._code = (self._code << WORD_BITS) & _STATE | int.from_bytes(word, "big")
            self._range <<= WORD_BITS
            self._at += _WORD_BYTES

    def decode(self, ends: Any) -> int:
        """The next symbol, which is taken.

        Args:
            ends: (symbols,) numpy array of whole numbers, where each symbol's part ends; the last one is the total.

        Raises:
            Damaged: If the body ended before.
        """
        symbol = int(ends.searchsorted(self.target(int(ends[-1])), side="right"))
        start = int(ends[symbol - 1]) if symbol else 0
        self.take(start, int(ends[symbol]) - start)
        return symbol

    def end(self) -> None:
        """Passes if all of the body was read.

        Raises:
            Damaged: If some is left.
        """
        if len(self._body) > self._at:
            raise Damaged("bytes are left after its last symbol")
