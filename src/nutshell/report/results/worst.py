"""A model's worst answers, with their texts: what errors.jsonl holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

MOST = 50


def worst(
    columns: Mapping[str, numpy.ndarray], texts: Sequence[tuple[str, ...]], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """The wrong answers of which the model was most confident, or the numbers that are furthest off; the worst first.

    Args:
        columns: `label` and `predicted` (examples,), with `confidence` of classes and `squared_error` of numbers.
        texts: Of each example.
        labels: What label 0, 1, ... means; none where labels are numbers.
    """
    label, predicted = columns["label"], columns["predicted"]
    if labels:
        wrong = numpy.flatnonzero(label != predicted)
        rows = wrong[numpy.argsort(-columns["confidence"][wrong], kind="stable")][:MOST]
        answers = [
            {
                "label": labels[label[row]],
                "predicted": labels[predicted[row]],
                "probability": float(columns["confidence"][row]),
            }
            for row in rows
        ]
    else:
        rows = numpy.argsort(-columns["squared_error"], kind="stable")[:MOST]
        answers = [{"label": f"{label[row]:.4g}", "predicted": f"{predicted[row]:.4g}"} for row in rows]
    return [{"index": int(row), **answer, "texts": texts[row]} for row, answer in zip(rows, answers, strict=True)]
