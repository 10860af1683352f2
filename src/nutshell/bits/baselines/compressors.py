"""Everybody's compressors, with the settings that make the shortest files of text; each file is decoded again."""

import bz2
import gzip
import hashlib
import lzma
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nutshell.bits.figures.codes import Code
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line

ZSTD_WINDOW_LOG = 27  # 128 MB, as `--long` has it
PPMD_BYTES = 256 << 20
PPMD_ORDERS = (4, 6, 8, 12)


@dataclass(frozen=True)
class Compressor:
    """A general compressor.

    Attributes:
        name: With its settings.
        compress, decompress: bytes to bytes.
        program: What has to be installed on the machine; None: nothing.
        kind: Of its codes.
    """

    name: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]
    program: str | None = None
    kind: Literal["compressor", "prequential"] = "compressor"


def _zstd(raw: bytes) -> bytes:
    import zstandard

    longest = zstandard.ZstdCompressionParameters.from_level(22, window_log=ZSTD_WINDOW_LOG, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=longest).compress(raw)


def _unzstd(code: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=2**ZSTD_WINDOW_LOG).decompress(code)


def _brotli(raw: bytes) -> bytes:
    import brotli

    return brotli.compress(raw, quality=11, lgwin=24)  # the largest window of the package, 16 MB


def _unbrotli(code: bytes) -> bytes:
    import brotli

    return brotli.decompress(code)


def _ppmd(raw: bytes) -> bytes:
    """PPMd, variant I, at the best of a few orders: a byte that names the order, and the code. All of them are tried in
    the time that it takes."""
    import pyppmd

    codes = [bytes([order]) + pyppmd.compress(raw, max_order=order, mem_size=PPMD_BYTES) for order in PPMD_ORDERS]
    return min(codes, key=len)


def _unppmd(code: bytes) -> bytes:
    import pyppmd

    return pyppmd.decompress(code[1:], max_order=code[0], mem_size=PPMD_BYTES)


def _zpaq(raw: bytes) -> bytes:
    """The archive of one file, without its attributes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text").write_bytes(raw)
        _call(folder, "zpaq", "add", "code", "text", "-method", "5", "-threads", "1", "-noattributes")
        return Path(folder, "code.zpaq").read_bytes()


def _unzpaq(code: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "code.zpaq").write_bytes(code)
        _call(folder, "zpaq", "extract", "code", "-threads", "1")
        return Path(folder, "text").read_bytes()


def _call(folder: str, *words: str) -> None:
    process = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if process.returncode:
        raise UserError(f"{words[0]} {words[1]} failed: {first_line(ValueError(process.stderr))}")


# By the word that an experiment file may say.
COMPRESSORS = {
    "gzip": Compressor("gzip -9", lambda raw: gzip.compress(raw, 9, mtime=0), lambda code: gzip.decompress(code)),
    "bzip2": Compressor("bzip2 -9", lambda raw: bz2.compress(raw, 9), lambda code: bz2.decompress(code)),
    "xz": Compressor(
        "xz -9e",
        lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME),
        lambda code: lzma.decompress(code),
    ),
    "zstd": Compressor("zstd --ultra -22 --long", _zstd, _unzstd),
    "brotli": Compressor("brotli -q 11", _brotli, _unbrotli),
    "ppmd": Compressor("ppmd, 256 MB", _ppmd, _unppmd),
    "zpaq": Compressor("zpaq -m5", _zpaq, _unzpaq, program="zpaq"),
}


def installed() -> list[str]:
    """The words of the compressors that this machine has."""
    return [word for word, one in COMPRESSORS.items() if not one.program or shutil.which(one.program)]


def measure(text: str, raw: bytes, compressor: Compressor) -> Code:
    """What a compressor makes of a text, decoded again; failed if that is not the text.

    Args:
        text: What it is called.
        raw: Its bytes.
        compressor: Which one.
    """
    times = [time.perf_counter()]
    packed = compressor.compress(raw)
    times.append(time.perf_counter())
    try:
        returned = compressor.decompress(packed) == raw
    except Exception:  # each decoder has errors of its own, and whichever it is, the text did not come back
        returned = False
    times.append(time.perf_counter())
    return Code(
        name=compressor.name,
        kind=compressor.kind,
        text=text,
        text_bytes=len(raw),
        text_sha256=hashlib.sha256(raw).hexdigest(),
        code_bytes=len(packed) if returned else None,
        compress_seconds=times[1] - times[0],
        decompress_seconds=times[2] - times[1],
    )


def bits_per_byte(texts: list[str]) -> dict[str, float]:
    """Compressed bits for each byte of the UTF-8 texts, one after the other in one file.

    Returns:
        `gzip -9`, `bzip2 -9` and `xz -9e`, headers and checksums included.
    """
    raw = "".join(texts).encode()
    packed = {COMPRESSORS[word].name: COMPRESSORS[word].compress(raw) for word in ("gzip", "bzip2", "xz")}
    return {name: 8 * len(data) / len(raw) for name, data in packed.items()}
