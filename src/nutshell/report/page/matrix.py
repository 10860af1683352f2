"""The confusion matrix on the page; of too many classes for one, the most frequent mistakes."""

from collections.abc import Sequence
from typing import Any

import numpy

from nutshell.report.results.runs import Run

MOST_LABELS = 20  # of a matrix that is drawn
FEW_LABELS = 6  # of one that has room for its columns' names
MOST_PAIRS = 20  # that are listed instead
MOST_LETTERS = 48  # of a column's name; its row's is whole


def matrix(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The counts of every seed together; None if there are none to show.

    Returns:
        title, seeds, classes, wrong (how many answers are); and either columns, dense and rows, each true label with
        a cell for each predicted one, (count, share of the row, level of colour); or pairs, the most frequent mistakes,
        each (true label, predicted, count, share of the true label's).
    """
    matrices = [run.result.matrix for run in runs if run.result.matrix]
    if not matrices or len(matrices[0].labels) < 2:
        return None
    labels = matrices[0].labels
    alike = [numpy.array(matrix.counts) for matrix in matrices if matrix.labels == labels]
    counts = sum(alike)
    shares = counts / numpy.maximum(1, counts.sum(1, keepdims=True))
    wrong = counts - numpy.diag(counts.diagonal())
    content = {
        "title": matrices[0].title,
        "seeds": len(alike),
        "classes": len(labels),
        "wrong": int(wrong.sum()),
    }
    if len(labels) > MOST_LABELS:
        most = numpy.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
        places = [divmod(int(cell), len(labels)) for cell in most if wrong.flat[cell]]
        pairs = [(labels[row], labels[column], *_cell(counts, shares, row, column)[:2]) for row, column in places]
        return content | {"pairs": pairs}
    every = range(len(labels))
    rows = [(labels[row], [_cell(counts, shares, row, column) for column in every]) for row in every]
    columns = [label if len(label) <= MOST_LETTERS else f"{label[:MOST_LETTERS]}…" for label in labels]
    return content | {"columns": columns, "dense": len(labels) > FEW_LABELS, "rows": rows}


def _cell(counts: numpy.ndarray, shares: numpy.ndarray, row: int, column: int) -> tuple[str, str, int]:
    count, share = counts[row, column], shares[row, column]
    text = "<1%" if share < 0.005 else ">99%" if 0.995 <= share < 1 else f"{share:.0%}"
    return f"{count:,}", text if count else "", round(4 * share)
