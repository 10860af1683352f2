"""What a decoder has to know to train the same network again, in a few bytes."""

import dataclasses
import struct

from nutshell.bits.coder import Damaged

_FORM = struct.Struct("<?BHHBHBHI")
_RANGES = {
    "lanes": (1, 255),
    "segment": (1, 65535),
    "stretch": (1, 1024),
    "layers": (1, 8),
    "hidden": (1, 4096),
    "replays": (0, 64),
    "rate_millionths": (1, 65535),
    "seed": (0, 2**32 - 1),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a text is coded by a network that learns it.

    Args:
        mixed: Whether the network's distribution is one of many that a context mixer weighs; else it is used alone.
        lanes: Parts of the text that are coded side by side.
        segment: Bytes of a lane that are coded before the network learns them.
        stretch: Bytes through which errors are traced back; a segment is some of them.
        layers, hidden: Of the LSTM.
        replays: How often, after each segment, as many older bytes are learned again.
        rate_millionths: Adam's learning rate; it falls to a tenth of that over the text.
        seed: Of the first weights, and of the choice of older bytes.
    """

    mixed: bool = True
    lanes: int = 1
    segment: int = 256
    stretch: int = 32
    layers: int = 1
    hidden: int = 128
    replays: int = 2
    rate_millionths: int = 12000
    seed: int = 13

    def __post_init__(self):
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise Damaged(f"{name} of {getattr(self, name)}: {least} to {most} are possible")
        if self.segment % self.stretch:
            raise Damaged(f"a segment of {self.segment} bytes is no number of stretches of {self.stretch}")

    def to_bytes(self) -> bytes:
        """All of it, for a header."""
        return _FORM.pack(*dataclasses.astuple(self))

    @classmethod
    def from_bytes(cls, packed: bytes) -> "Settings":
        """The settings again.

        Raises:
            Damaged: If they are not what `to_bytes` gives.
        """
        if len(packed) != _FORM.size:
            raise Damaged(f"{len(packed)} bytes of settings: {_FORM.size} were expected")
        return cls(*_FORM.unpack(packed))
