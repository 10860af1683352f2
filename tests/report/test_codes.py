"""The whole price of a text on the report page: every code is on it, and the winners are those by hand."""

import re
from itertools import pairwise

import pytest

from nutshell.report.page import codes, page
from nutshell.report.results import runs as results
from nutshell.report.results.summary import series
from tests.report.runs import CODES, classified, coded, compressed, write
from tests.report.test_report_page import Elements, words


@pytest.fixture
def shown(tmp_path):
    """What the page shows of some codes: its content, and all of it."""

    def _shown(every=CODES) -> tuple[list[dict], str]:
        write(tmp_path / "outputs/bits/gpt2", compressed(every))
        found = series(results.find([tmp_path / "outputs"]))
        return codes.content(found), page.render(found)

    return _shown


def test_the_winner_of_each_length_by_hand(shown):
    """The model's code is the shortest; with its 50 kB it is so from 50 kB / 0.06 on, between 100 kB and 1 MB."""
    (text,), _ = shown()
    assert text["name"] == "imdb, test part" and text["longest"] == "1 MB"
    assert text["rows"] == [
        {
            "length": "100 kB",
            "alone": ("a model", "20 kB"),
            "total": ("ppmd, 256 MB", "26 kB"),
            "without": ("ppmd, 256 MB", "26 kB"),
        },
        {
            "length": "1 MB",
            "alone": ("a model", "200 kB"),
            "total": ("a model", "250 kB"),
            "without": ("ppmd, 256 MB", "260 kB"),
        },
        {
            "length": "1 GB, by arithmetic",
            "alone": ("a model", "200 MB"),
            "total": ("a model", "200 MB"),
            "without": ("ppmd, 256 MB", "260 MB"),
        },
    ]
    assert text["turns"] == ["a model against ppmd, 256 MB: from 833 kB of text on"]


def test_a_model_whose_code_is_longer_never_pays(shown):
    long = coded("long", 900_000, kind="model", weights="fp32", model_bytes={"fp32": 9})
    (text,), _ = shown([*CODES, long])
    assert "long against ppmd, 256 MB: never: its code alone is not shorter" in text["turns"]


def test_the_page_says_it(shown):
    _, html = shown()
    Elements(html)
    text = words(html)
    for sentence in (
        "The whole price of a text",
        "1 GB of text",
        "shortest total: a model, 200 MB; by arithmetic, not coded",
        "Programs are not counted",
        "a model against ppmd, 256 MB: from 833 kB of text on",
    ):
        assert sentence in text, sentence
    for plane in re.findall(r'<svg viewBox="0 0 460 .*?</svg>', html):
        assert {"gzip", "ppmd", "prequential", "a model", "no model"} <= set(re.findall(r">([^<>]+)</text>", plane))
        places = [float(place) for place in re.findall(r'<text x="71.0" y="([\d.]+)"', plane)]
        assert len(places) == 3 and all(one + 13 < other for one, other in pairwise(places))


def test_what_failed_is_named_and_in_no_plane(shown):
    (text,), html = shown([coded("broken", None), *CODES])
    assert text["failed"] == ["broken"] and "broken failed: its decoder did not return the text" in words(html)
    assert ">broken</text>" not in html


def test_names_are_text(shown):
    name = "<b>&\"'"
    _, html = shown([coded(name), coded(f"{name}, exact", 9, kind="model", weights="x", model_bytes={"x": 99})])
    Elements(html)
    assert name not in html


@pytest.mark.parametrize("every", [[coded()], [coded("a", 1, 1), coded("b", 1, 1)]])
def test_few_codes(shown, every):
    (text,), html = shown(every)
    Elements(html)
    assert len(text["planes"]) == 2


def test_nothing_without_codes(tmp_path):
    write(tmp_path / "outputs/finetune/pairs", classified())
    found = series(results.find([tmp_path / "outputs"]))
    assert codes.content(found) == [] and "price of a text" not in page.render(found)


def test_one_text_is_compared_with_none(tmp_path):
    """Two codes of one text differ by what they differ; there is no chance in it, and so no interval."""
    for name in ("one", "two"):
        write(tmp_path / f"outputs/bits/{name}", compressed())
    assert "Comparisons" not in page.render(series(results.find([tmp_path / "outputs"])))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (25_550, "25.6 kB"), (999_700, "1 MB"), (2e10, "20 GB")],
)
def test_sizes(count, text):
    assert codes.size_of(count) == text
