"""Prequential coding: a network codes a segment, learns it, codes the next; the decoder learns the same.

The weights come from a seed, so no model is part of the code. The network's sums depend on the processor's path: a
decoder needs the encoder's `fingerprint`.

Source: Dawid 1984, "Statistical theory: the prequential approach"; Blier & Ollivier 2018, "The description length of
deep learning models"; Bellard 2019 (NNCP).
"""

from collections.abc import Callable

import numpy

from nutshell.bits.coder import Damaged
from nutshell.bits.mixing import MOST_RATIO, Mixer
from nutshell.bits.prequential.ranges import Ranges
from nutshell.bits.prequential.settings import Settings

Listener = Callable[[int, int], None]

__all__ = ["Damaged", "Settings", "compress", "decompress", "fingerprint"]


def fingerprint(settings: Settings) -> str:
    """What has to be equal where a text is coded and where it is decoded: version, path and results of arithmetic.

    Args:
        settings: Of the network that is trained for it, for two segments.
    """
    from nutshell.bits.prequential import network

    return network.fingerprint(settings)


def compress(raw: bytes, settings: Settings, listen: Listener | None = None) -> bytes:
    """The text's code.

    Args:
        listen: Is told the bytes done and all bytes after each step of the lanes.
    """
    coder = Mixer(len(raw), settings.lanes) if settings.mixed else Ranges()
    text = numpy.frombuffer(raw, numpy.uint8)[_order(len(raw), settings.lanes)].tobytes()

    def encode(start: int, expected: numpy.ndarray) -> bytes:
        data = text[start : start + len(expected)]
        coder.encode(data, expected)
        return data

    _go(len(raw), settings, encode, listen)
    return coder.finish()


def decompress(body: bytes, size: int, settings: Settings, listen: Listener | None = None) -> bytes:
    """The text again.

    Args:
        body: What `compress` gave, with these settings.
        size: Bytes of the text.

    Raises:
        Damaged: If no encoder gives this body. Some changes of a body only give another text.
    """
    if size > MOST_RATIO * (len(body) + 8):
        raise Damaged("it is too short for its text")
    coder = Mixer(size, settings.lanes, body) if settings.mixed else Ranges(body)
    coded = _go(size, settings, lambda start, expected: coder.decode(len(expected), expected), listen)
    coder.end()
    text = numpy.empty(size, numpy.uint8)
    text[_order(size, settings.lanes)] = numpy.frombuffer(coded, numpy.uint8)
    return text.tobytes()


def _order(size: int, lanes: int) -> numpy.ndarray:
    """The places of a text's bytes in the order in which they are coded: the first byte of each lane, the second, ...

    The first lanes have a byte more where it does not come out even.
    """
    step, lane = numpy.divmod(numpy.arange(size), lanes)
    least, longer = divmod(size, lanes)
    return lane * least + numpy.minimum(lane, longer) + step


def _go(size: int, settings: Settings, code: Callable[[int, numpy.ndarray], bytes], listen: Listener | None) -> bytes:
    """Codes each step of the lanes, and tells the network; all bytes in the order of coding."""
    from nutshell.bits.prequential.network import Learner, one_thread

    coded = bytearray()
    with one_thread():
        learner = Learner(settings, -(-size // settings.lanes))
        while len(coded) < size:
            data = code(len(coded), learner.frequencies()[: size - len(coded)])
            learner.tell(data.ljust(settings.lanes, b"\0"))
            coded += data
            if listen:
                listen(len(coded), size)
    return bytes(coded)
