"""The confusion matrix on the page: every count under its names, and a list where it would be too large."""

import re

import numpy
import pytest

from nutshell.report.page import page
from nutshell.report.page.matrix import matrix
from nutshell.report.results import runs as results
from nutshell.report.results.summary import series
from tests.report.runs import classified, write


def counted(folder, counts, seed: int = 13, labels=None):
    """A complete run with this matrix."""
    files = classified(seed)
    labels = labels or [f"the class number {number}" for number in range(len(counts))]
    files["metrics.json"]["matrix"] |= {"labels": labels, "counts": numpy.asarray(counts).tolist()}
    return write(folder, files)


def shown(folder) -> str:
    """The page's text of the matrix, without its markup."""
    text = page.render(series(results.find([folder])))
    part = text.split("<bdi>Confusion matrix</bdi></h4>")[1].split("</table>")[0]
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", part.replace("&lt;", "‹").replace("&gt;", "›"))).strip()


@pytest.mark.parametrize("classes", [2, 6, 7, 20])
def test_every_count_is_in_it(tmp_path, classes):
    counts = numpy.arange(classes**2).reshape(classes, classes) + 1000
    counted(tmp_path / "a/b", counts)
    text = shown(tmp_path)
    assert all(f"{count:,}" in text for count in counts.ravel())
    for number in range(classes):
        assert len(re.findall(rf"the class number {number}\b", text)) == 2  # its row and its column
    every = series(results.find([tmp_path]))[0].complete
    assert matrix(every)["wrong"] == counts.sum() - counts.trace()


def test_shares_are_of_the_row(tmp_path):
    counted(tmp_path / "a/b", [[3, 1, 0], [2, 1000, 0], [0, 0, 0]], labels=["one", "two", "three"])
    text = shown(tmp_path)
    assert "one 3 75% 1 25% 0 two 2 ‹1% 1,000 ›99% 0 three 0 0 0" in text


def test_seeds_are_counted_together(tmp_path):
    for seed in (13, 21):
        counted(tmp_path / "a/b", [[3, 1], [2, 4]], seed)
    text = shown(tmp_path)
    assert "The counts of 2 seeds together." in text and "6 75% 2 25%" in text


def test_of_more_classes_the_most_frequent_mistakes(tmp_path):
    counts = numpy.diag(numpy.full(21, 50))
    counts[3, 20], counts[20, 3], counts[5, 4] = 30, 7, 1200
    counted(tmp_path / "a/b", counts)
    text = shown(tmp_path)
    assert "21 classes are too many for a matrix. Of their 1,237 wrong answers these are the most frequent." in text
    pairs = [(5, 4, "1,200 96%"), (3, 20, "30 38%"), (20, 3, "7 12%")]
    listed = " ".join(f"the class number {true} the class number {other} {rest}" for true, other, rest in pairs)
    assert text.endswith(listed)


def test_at_most_twenty_mistakes(tmp_path):
    counted(tmp_path / "a/b", numpy.ones((30, 30), int))
    every = series(results.find([tmp_path]))[0].complete
    assert len(matrix(every)["pairs"]) == 20


def test_a_long_name_is_cut_over_its_column_alone(tmp_path):
    counted(tmp_path / "a/b", [[3, 1], [2, 4]], labels=["short", "x" * 200])
    assert shown(tmp_path).count("x" * 48 + "…") == 1 and shown(tmp_path).count("x" * 200) == 1


def test_one_class_has_no_matrix(tmp_path):
    counted(tmp_path / "a/b", [[40]])
    assert "Confusion matrix" not in page.render(series(results.find([tmp_path])))
