"""Any bytes to tokens, and the bytes that tokens spell."""

import re
from collections.abc import Sequence

from nutshell.data.encoding.vocabularies import Vocabulary

_NOT_UTF8 = re.compile("([\udc80-\udcff]+)")
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # whose letters are themselves
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
# The letter of each byte in a byte-level tokenizer; Radford et al. 2019, section 2.2.
LETTERS = dict(zip([*_VISIBLE, *_HIDDEN], map(chr, [*_VISIBLE, *range(256, 256 + len(_HIDDEN))]), strict=True))
_BYTES = {letter: byte for byte, letter in LETTERS.items()}


class Spelling:
    """What a tokenizer makes of bytes.

    Args:
        vocabulary: Of a language model.
    """

    def __init__(self, vocabulary: Vocabulary):
        self._tokenizer = vocabulary.tokenizer
        decoder = self._tokenizer.decoder
        self._byte_level = decoder is not None and b"ByteLevel" in decoder.__getstate__()
        self._single = [self._tokenizer.token_to_id(LETTERS[byte]) for byte in range(256)] if self._byte_level else []
        tokens = (self._tokenizer.id_to_token(number) or "" for number in range(len(vocabulary)))
        self._spelt = [_spelt(token) for token in tokens] if self._byte_level else []

    def tokens(self, raw: bytes) -> list[int] | None:
        """The tokens of some bytes; None if these bytes do not come back from them, as without a byte-level tokenizer
        those that are no UTF-8 do not."""
        pieces = _NOT_UTF8.split(raw.decode("utf-8", "surrogateescape"))
        if len(pieces) > 1 and None in (self._single or [None]):
            return None
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            if number % 2:
                ids += [self._single[byte] for byte in piece.encode("utf-8", "surrogateescape")]
            elif piece:
                ids += self._tokenizer.encode(piece, add_special_tokens=False).ids
        return ids if self.text(ids) == raw else None

    def text(self, ids: Sequence[int]) -> bytes:
        """The bytes of some tokens; none of a number that is no token."""
        if self._byte_level:
            return b"".join(self._spelt[number] for number in ids if number < len(self._spelt))
        return self._tokenizer.decode(ids, skip_special_tokens=False).encode()


def _spelt(token: str) -> bytes:
    """The bytes of a byte-level token; an added one is spelt as it is written."""
    if all(letter in _BYTES for letter in token):
        return bytes(_BYTES[letter] for letter in token)
    return token.encode()
