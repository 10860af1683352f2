"""A coder without a model to send: a network that learns what it has coded, from weights that a seed gives."""

import hashlib
from collections.abc import Callable

from nutshell.bits import prequential
from nutshell.bits.codec.container import CODED, DIGEST_BYTES, PREQUENTIAL, Header, Segment
from nutshell.bits.coder import Damaged
from nutshell.machine.errors import UserError


class Learning:
    """Codes a text, the whole of it as one segment, by prequential coding.

    Args:
        settings: Of the network, which the header keeps in the place of a model's digests.
    """

    segment_bytes = 1 << 26  # what it has learned ends with a segment; all of one is in memory

    def __init__(self, settings: prequential.Settings):
        import torch

        self.settings = settings
        packed = settings.to_bytes()
        digest = hashlib.sha256(prequential.fingerprint(settings).encode()).digest()[:DIGEST_BYTES]
        there = (torch.backends.cpu.get_cpu_capability(), torch.__version__)
        weights, config = packed[:DIGEST_BYTES], packed[DIGEST_BYTES:]
        self.header = Header(PREQUENTIAL, 1, weights, config, tables=digest, environment=there)

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
    try:
        coder = Learning(prequential.Settings.from_bytes(header.weights + header.config))
    except Damaged as error:
        raise UserError(f"{name}: its settings cannot be: {error}") from None
    if coder.header != header:
        there, here = (" and torch ".join(one.environment) for one in (header, coder.header))
        raise UserError(
            f"{name}: was made by a network that learns as it codes, which another machine learns otherwise: made with "
            f"{there}, here are {here}" + "; the processors or libraries differ" * (there == here)
        )
    return coder
