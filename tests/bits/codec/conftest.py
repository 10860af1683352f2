"""A small trained model whose file every later version must decode, and texts of all kinds."""

import io
from pathlib import Path

import pytest
import torch

from nutshell.bits.codec import stream
from nutshell.bits.codec.container import Reader
from nutshell.runs import coding

GOLDEN = Path(__file__).parent / "golden"
TEXT = (GOLDEN / "text.txt").read_bytes()
ENGLISH = b"The mean of a sample is the sum of its values divided by how many there are. "
CONTENTS = {
    "empty": b"",
    "one byte": b"a",
    "one NUL": b"\0",
    "one byte that is no UTF-8": b"\xff",
    "NULs": bytes(5000),
    "English": ENGLISH * 3,
    "own text": TEXT,
    "a text again and again": ENGLISH * 200,
    "emoji": "🐚🐈‍⬛👩‍👩‍👧 and text, ".encode() * 9,
    "Chinese": "平均值是样本值之和除以个数。".encode() * 9,
    "Arabic and Hebrew": "المتوسط ממוצע".encode() * 9,
    "combining accents": "e\u0301a\u0300 \u1e69 s\u0323\u0307".encode() * 9,
    "special tokens spelt out": b"<|endoftext|><|im_start|>user <|endoftext|>" * 5,
    "carriage returns": b"The mean.\r\nThe variance.\r\n" * 9,
    "a lone carriage return": b"one\rtwo\r\r\nthree\n\r",
    "no end of line": b"The null hypothesis",
    "blanks": b" \t\n\n   \v\f" * 30,
    "random bytes": bytes(torch.randint(256, (700,), generator=torch.Generator().manual_seed(0)).tolist()),
    "random letters": bytes(torch.randint(97, 123, (700,), generator=torch.Generator().manual_seed(1)).tolist()),
    "UTF-16": "The mean of a sample".encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + ENGLISH,
    "a character that is cut": "Mittelwert für 猫".encode()[:-1],
    "surrogates": b"\xed\xa0\x80 is no character in UTF-8, " * 4,
    "a file of its own kind": (GOLDEN / "text.nut").read_bytes(),
}


@pytest.fixture(scope="session")
def coders():
    """Makes the golden model's coder: arithmetic and lanes to a ModelCoder; loads each arithmetic once."""
    loaded = {}

    def _coder(arithmetic: str, lanes: int | None = None, window: int | None = None) -> coding.ModelCoder:
        key = arithmetic, window
        if key not in loaded:
            loaded[key] = coding.load(GOLDEN, arithmetic, window=window)
        loaded[key]._lanes = lanes
        return loaded[key]

    return _coder


def pack(raw: bytes, coder) -> tuple[bytes, stream.Facts]:
    """A text's file."""
    target = io.BytesIO()
    facts = stream.compress(io.BytesIO(raw), target, coder)
    return target.getvalue(), facts


def unpack(content: bytes, coder, name: str = "text.nut") -> bytes:
    """A file's text."""
    target = io.BytesIO()
    stream.decompress(Reader(io.BytesIO(content), name), target, lambda _: coder)
    return target.getvalue()
