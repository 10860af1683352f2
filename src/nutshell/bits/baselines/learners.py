"""This repository's own coders that learn while they code, as compressors: no model is sent, whoever decodes learns it
again.

A file is the text's size in SIZE_BYTES, a network's settings if there is one, and the body.
"""

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
    from nutshell.bits import prequential

    settings = prequential.Settings(mixed=mixed, seed=seed).to_bytes()
    body = SIZE_BYTES + len(settings)

    def compress(raw: bytes) -> bytes:
        return _size(raw) + settings + prequential.compress(raw, prequential.Settings.from_bytes(settings))

    def decompress(code: bytes) -> bytes:
        own = prequential.Settings.from_bytes(code[SIZE_BYTES:body])
        return prequential.decompress(code[body:], int.from_bytes(code[:SIZE_BYTES], "big"), own)

    return Compressor("prequential" + " with mixing" * mixed, compress, decompress, kind="prequential")


def _size(raw: bytes) -> bytes:
    return len(raw).to_bytes(SIZE_BYTES, "big")


# By the word that an experiment file may say; of a seed.
LEARNERS: dict[str, Callable[[int], Compressor]] = {
    "mixing": mixing,
    "prequential": prequential,
    "prequential_mixing": lambda seed: prequential(seed, mixed=True),
}
