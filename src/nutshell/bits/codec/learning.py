"""A coder without a model to send: a network that learns what it has coded, from weights that a seed gives."""

import hashlib
from collections.abc import Callable

from nutshell.bits import prequential
from nutshell.bits.codec.container import CODED, DIGEST_BYTES, PREQUENTIAL, Header, Segment, environment
from nutshell.bits.coder import Damaged
from nutshell.machine.errors import UserError


class Learning:
    """Codes a text, the whole of it as one segment, by prequential coding.

    Args:
        settings: Of the network, which the header keeps in the place of a model's digests.
    """

    segment_bytes = 1 << 26  # what it has learned ends with a segment; all of one is in memory

    def __init__(self, settings: prequential.Settings):
        self.settings = settings
        packed = settings.to_bytes()
        digest = hashlib.sha256(prequential.fingerprint(settings).encode()).digest()[:DIGEST_BYTES]
        self.header = Header(PREQUENTIAL, 1, *_settings_digests(packed), tables=digest, environment=environment())

    def encode(self, raw: bytes, listen: Callable[[int], None]) -> tuple[Segment, float | None]:
        """As codec.stream.Coder; what it is worth by the tables is not known."""
        body = prequential.compress(raw, self.settings, lambda done, _: listen(done))
        return Segment(CODED, len(raw), body, len(raw), min(len(raw), self.settings.lanes)), None

    def decode(self, segment: Segment, listen: Callable[[int], None]) -> bytes:
        """As codec.stream.Coder."""
        return prequential.decompress(segment.body, segment.size, self.settings, lambda done, _: listen(done))


def of_header(header: Header, name: str) -> Learning:
    """The coder that a file was made with.

    Args:
        header: The file's.
        name: The file's, for messages.

    Raises:
        UserError: If this machine would learn something else.
    """
    packed, other = header.weights + header.config, "was made by a network that learns as it codes"
    if _settings_digests(packed) != (header.weights, header.config, header.tokenizer):
        raise UserError(f"{name}: is damaged: its settings are not those that their digest is of")
    if header.environment != environment():
        there, here = (" and torch ".join(one) for one in (header.environment, environment()))
        raise UserError(f"{name}: {other}, which another machine does otherwise: made with {there}, here are {here}")
    try:
        coder = Learning(prequential.Settings.from_bytes(packed))
    except Damaged as error:
        raise UserError(f"{name}: its settings cannot be: {error}") from None
    if coder.header != header:
        raise UserError(f"{name}: {other}, which this machine does otherwise: the processors or libraries differ")
    return coder


def _settings_digests(packed: bytes) -> tuple[bytes, bytes, bytes]:
    """The settings in two parts, and a digest of them: nothing is trained with settings that were changed."""
    return packed[:DIGEST_BYTES], packed[DIGEST_BYTES:], hashlib.sha256(packed).digest()[:DIGEST_BYTES]
