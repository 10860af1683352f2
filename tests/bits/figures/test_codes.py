"""What a code costs, by hand."""

import pytest

from nutshell.bits.figures.codes import Code

CODE = Code(
    name="a model",
    kind="model",
    text_bytes=1000,
    text_sha256="0",
    code_bytes=250,
    ideal_bits=1984.0,
    model_bytes={"fp32": 4000, "int8": 900},
    compress_seconds=1,
    decompress_seconds=2,
)


def test_by_hand():
    assert CODE.bits_per_byte == 2
    assert CODE.overhead == pytest.approx(16 / 1984)
    assert CODE.smallest_model_bytes == 900 and CODE.total_bytes == 1150


def test_without_weights_the_code_is_the_total():
    assert CODE.model_copy(update={"model_bytes": {}}).total_bytes == 250


def test_a_failure_has_no_figure():
    failed = CODE.model_copy(update={"code_bytes": None})
    assert failed.total_bytes is failed.bits_per_byte is failed.overhead is None
