"""This repository's own coders that learn while they code, as compressors: no model is sent, whoever decodes learns it
again.

A file of a network is that of `nutshell compress --prequential`; one of context mixing alone is the text's size in
SIZE_BYTES and the body.
"""

import io
from collections.abc import Callable

from nutshell.bits.baselines.compressors import Compressor

SIZE_BYTES = 5


def mixing(seed: int) -> Compressor:
    """Context mixing, in which nothing is drawn from a seed."""
    from nutshell.bits import mixing

    def compress(raw: bytes) -> bytes:
        return _size(raw) + mixing.compress(raw)

    def decompress(code: bytes) -> bytes:
        return mixing.decompress(code[SIZE_BYTES:], int.from_bytes(code[:SIZE_BYTES], "big"))

    return Compressor("mixing", compress, decompress, kind="prequential")


def prequential(seed: int, mixed: bool = False) -> Compressor:
    """A network whose first weights are drawn from a seed; mixed, it is one of the predictions of context mixing."""
    from nutshell.bits.codec import learning, stream
    from nutshell.bits.codec.container import Reader
    from nutshell.bits.prequential import Settings

    name = "prequential" + " with mixing" * mixed

    def compress(raw: bytes) -> bytes:
        file = io.BytesIO()
        stream.compress(io.BytesIO(raw), file, learning.Learning(Settings(mixed=mixed, seed=seed)))
        return file.getvalue()

    def decompress(code: bytes) -> bytes:
        text = io.BytesIO()
        stream.decompress(Reader(io.BytesIO(code), name), text, lambda header: learning.of_header(header, name))
        return text.getvalue()

    return Compressor(name, compress, decompress, kind="prequential")


def _size(raw: bytes) -> bytes:
    return len(raw).to_bytes(SIZE_BYTES, "big")


# By the word that an experiment file may say; of a seed.
LEARNERS: dict[str, Callable[[int], Compressor]] = {
    "mixing": mixing,
    "prequential": prequential,
    "prequential_mixing": lambda seed: prequential(seed, mixed=True),
}
