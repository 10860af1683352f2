"""The embedded text: a manual of statistics, read from the source files of scipy, which is installed with nutshell."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from nutshell.machine.errors import UserError

VERSION = "1.17.1"  # of scipy, whose text has this digest; pyproject.toml pins it, a test holds the two equal
SHA256 = "7d7a937d196bac0dfc22cd8a34492af548383fa484007b5d10fb19b9c56fa608"
SOURCE = f"documentation of scipy.stats {VERSION}"
# Files of scipy/stats with long documentation. None is generated when scipy is built, so every system has the same.
FILES = """
    _binned_statistic _censored_data _crosstab _distn_infrastructure _entropy _fit _hypotests _kde _mannwhitneyu _mgc
    _morestats _multivariate _odds_ratio _page_trend_test _qmc _quantile _relative_risk _resampling _sampling
    _sensitivity_analysis _stats_py _survival qmc
""".split()
LONG = 3000  # characters: a docstring that explains, with formulas and examples, not only lists arguments


def chapters() -> list[str]:
    """The long docstrings of scipy.stats, longest first, except those that mostly repeat a longer one.

    The source files are parsed; scipy is not imported, and what comes back does not depend on the version of Python.

    Raises:
        UserError: If scipy is not installed, or its text is not the one of VERSION.
    """
    try:
        scipy = distribution("scipy")
    except PackageNotFoundError:
        raise UserError(
            f"data.name: sample_text is the {SOURCE}, but scipy is not installed; pip install -r requirements.txt"
        ) from None
    try:
        texts = _without_repetition(_long_docstrings(Path(scipy.locate_file("scipy/stats"))))
    except (OSError, SyntaxError, ValueError):  # a file is missing, or is no Python, or no UTF-8
        texts = []
    if hashlib.sha256(json.dumps(texts).encode()).hexdigest() != SHA256:
        remedy = (
            f"its files have been changed; pip install --force-reinstall --no-deps scipy=={VERSION}"
            if scipy.version == VERSION
            else "its text is another; pip install -r requirements.txt"
        )
        raise UserError(f"data.name: sample_text is the {SOURCE}, but scipy {scipy.version} is installed and {remedy}")
    return texts


@cache  # parsing takes a fifth of a second
def _long_docstrings(folder: Path) -> tuple[str, ...]:
    trees = (ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")) for name in FILES)
    return tuple(text for tree in trees for text in _docstrings(tree) if len(text) >= LONG)


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Docstrings of a module, its classes, their methods and its functions."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
        yield ast.get_docstring(node) or ""
        for child in node.body:
            yield from _docstrings(child)


def _without_repetition(texts: Iterable[str]) -> list[str]:
    distinct, lines_before = [], set()
    for text in sorted(texts, key=lambda text: (-len(text), text)):
        lines = {line.strip() for line in text.splitlines() if len(line.strip()) > 30}
        if len(lines & lines_before) <= 0.1 * len(lines):
            distinct.append(text)
        lines_before |= lines
    return distinct
