"""Experiments measured on the very same units, next to the best of them, with the settings in which they differ."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nutshell.experiment.yaml_text import shown
from nutshell.machine.errors import UserError
from nutshell.report import comparison, tables
from nutshell.report.page import plots
from nutshell.report.page.texts import DIRECTIONS
from nutshell.report.results.runs import settings
from nutshell.report.results.summary import Series

MOST_COMPARED = 10  # with the best one, of each group
MOST_SETTINGS = 8  # that differ, of an experiment


def differences(every: Sequence[Series]) -> list[list[str]]:
    """For each experiment its settings in which the others have another value, as `training.learning_rate: 5e-05`."""
    trees = [dict(settings(series.summary.resolved)) for series in every]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    different = [key for key in keys if len({json.dumps(tree.get(key), default=str) for tree in trees}) > 1]
    lines = [[f"{key}: {shown(tree[key])}" for key in different if tree.get(key) is not None] for tree in trees]
    return [
        [*line[:MOST_SETTINGS], *([f"and {len(line) - MOST_SETTINGS} more"] if len(line) > MOST_SETTINGS else [])]
        for line in lines
    ]


def content(group: comparison.Group, entries: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """What the page shows of a group.

    Args:
        group: The best first.
        entries: What the overview says of each experiment, by the id of its Series.
    """
    best, *others = group.series
    on = best.summary.evaluated_on
    return {
        "task": best.runs[0].resolved["task"],
        "settings": group.settings,
        "chosen_by": group.chosen_by,
        "on": f"{on.count:,} {on.units}",
        "part": on.part,
        "best": entries[id(best)],
        "pairs": [_pair(best, other) | {"entry": entries[id(other)]} for other in others[:MOST_COMPARED]],
        "left": [entries[id(other)] for other in others[MOST_COMPARED:]],
        "most": MOST_COMPARED,
    }


def _pair(best: Series, other: Series) -> dict[str, Any]:
    """Their comparison; without rows, the reason why there is none."""
    try:
        compared = comparison.compare(best, other)
    except UserError as error:
        return {"reason": str(error), "rows": [], "tests": [], "one_seed": False}
    unknown = "too few to tell" if compared.too_few else "cannot be told apart"
    rows = []
    for row in compared.rows:
        form = f".{tables.decimals(row)}f"
        low, high = row.interval_95
        label = f"{row.metric}: difference {row.difference:+{form}}, 95 % interval {low:+{form}} to {high:+{form}}"
        rows.append(
            {
                "metric": row.metric,
                "direction": DIRECTIONS[row.higher_is_better],
                "values": [f"{value:{form}}" for value in row.values],
                "difference": f"{row.difference:+{form}}",
                "interval": f"{low:+{form}} to {high:+{form}} over {row.over}",
                "strip": plots.strip(row.difference, row.interval_95, label, baseline=0),
                "verdict": unknown if row.better is None else "",
                "better": None if row.better is None else compared.labels[row.better],
            }
        )
    tests = [
        {
            "seeds": test.seeds,
            "counts": (f"{test.only_first_right:,}", f"{test.only_second_right:,}"),
            "p_value": f"{test.p_value:.4f}" if test.p_value >= 1e-4 else f"{test.p_value:.1e}",
        }
        for test in compared.mcnemar
    ]
    one_seed = min(map(len, compared.seeds)) == 1
    return {"reason": "", "rows": rows, "tests": tests, "one_seed": one_seed}
