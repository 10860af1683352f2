"""What a code costs, by hand."""

import pytest

from nutshell.bits.figures.codes import Code, break_even_bytes, by_text

CODE = Code(
    name="a model",
    kind="model",
    text="a text",
    text_bytes=1000,
    text_sha256="0",
    code_bytes=250,
    ideal_bits=1984.0,
    weights="int8",
    model_bytes={"fp32": 4000, "int8": 900},
    compress_seconds=1,
    decompress_seconds=2,
)

OTHER = CODE.model_copy(update={"name": "a compressor", "kind": "compressor", "code_bytes": 400, "weights": None})
FAILED = CODE.model_copy(update={"code_bytes": None})


def test_by_hand():
    assert CODE.bits_per_byte == 2
    assert CODE.overhead == pytest.approx(16 / 1984)
    assert CODE.sent_bytes == 900 and CODE.total_bytes == 1150


def test_the_form_that_the_code_was_made_with_is_counted():
    assert CODE.model_copy(update={"weights": "fp32"}).total_bytes == 4250


def test_without_weights_the_code_is_the_total():
    assert CODE.model_copy(update={"weights": None, "model_bytes": {}}).total_bytes == 250


def test_a_failure_has_no_figure():
    assert FAILED.total_bytes is FAILED.bits_per_byte is FAILED.overhead is FAILED.scaled(2000).code_bytes is None


def test_a_longer_text_by_arithmetic():
    longer = CODE.scaled(10**9)
    assert longer.bits_per_byte == CODE.bits_per_byte and longer.sent_bytes == 900


def test_where_a_model_has_paid_for_itself():
    """It saves 0.15 bytes of each, and costs 900: at 6,000 bytes both totals are 2,400."""
    assert break_even_bytes(CODE, OTHER) == pytest.approx(6000)
    assert CODE.scaled(6000).total_bytes == OTHER.scaled(6000).total_bytes == 2400
    assert break_even_bytes(OTHER, CODE) is break_even_bytes(FAILED, OTHER) is break_even_bytes(CODE, FAILED) is None


def test_by_text():
    """Each name once for the same bytes, the shortest total first, a failure last."""
    again = OTHER.model_copy(update={"compress_seconds": 9})
    longer, elsewhere = CODE.scaled(2000), CODE.model_copy(update={"text": "another text"})
    failed = FAILED.model_copy(update={"name": "failed"})
    texts = by_text([longer, failed, CODE, OTHER, again, elsewhere])
    assert texts == {"a text": [[OTHER, CODE, failed], [longer]], "another text": [[elsewhere]]}
