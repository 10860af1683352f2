"""What everybody's compressors make of a text, so that a model's bits per byte mean something."""

import bz2
import gzip
import lzma


def bits_per_byte(texts: list[str]) -> dict[str, float]:
    """Compressed bits for each byte of the UTF-8 texts, one after the other in one file.

    Returns:
        `gzip -9`, `bzip2 -9` and `xz -9e`, headers and checksums included.
    """
    raw = "".join(texts).encode()
    packed = {
        "gzip -9": gzip.compress(raw, 9, mtime=0),
        "bzip2 -9": bz2.compress(raw, 9),
        "xz -9e": lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME),
    }
    return {name: 8 * len(data) / len(raw) for name, data in packed.items()}
