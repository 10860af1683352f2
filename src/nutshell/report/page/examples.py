"""What a model said: the answers it was surest of and wrong, and the texts it wrote, each piece with its surprise."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nutshell.report.page.texts import number, place, rate, short
from nutshell.report.results import Run

MOST_TEXTS, PIECE_LETTERS, LABEL_LETTERS = 4, 200, 80
SURPRISES_NATS = (0.5, 2, 4, 7)  # where a piece's shade changes


@dataclass(frozen=True)
class Most:
    """How much of an experiment is shown: how many errors, samples, letters of a text, pieces of a sample, letters of
    experiment.yaml."""

    errors: int
    samples: int
    letters: int
    pieces: int
    yaml: int


WHOLE = Most(errors=20, samples=6, letters=600, pieces=400, yaml=12_000)
BRIEF = Most(errors=2, samples=1, letters=150, pieces=20, yaml=1_500)  # where the page has no room for more


def _first_with(runs: list[Run], name: str, good: Callable[[dict], bool]) -> tuple[Run, list[dict]] | None:
    for run in runs:
        rows = [row for row in run.lines(name) or () if good(row)]
        if rows:
            return run, rows
    return None


def errors(runs: list[Run], most: Most) -> dict[str, Any] | None:
    """The wrong answers that a model was surest of, of the first seed that wrote them down."""
    found = _first_with(runs, "errors.jsonl", lambda row: isinstance(row.get("texts"), list))
    if not found:
        return None
    run, rows = found
    labels = run.metrics.get("labels")

    def label(value: Any) -> str:
        known = isinstance(labels, list) and isinstance(value, int) and 0 <= value < len(labels)
        return short(labels[value] if known else value, LABEL_LETTERS)

    shown = [
        {
            "index": short(row.get("index", ""), LABEL_LETTERS),
            "label": label(row.get("label")),
            "predicted": label(row.get("predicted")),
            "probability": "" if (sure := number(row.get("probability"))) is None else f"{sure:.4f}",
            "texts": [short(text, most.letters) for text in row["texts"][:MOST_TEXTS]],
        }
        for row in rows[: most.errors]
    ]
    return {"seed": run.seed, "rows": shown, "more": len(rows) - len(shown), "file": place(run.folder / "errors.jsonl")}


def samples(runs: list[Run], most: Most) -> dict[str, Any] | None:
    """Continuations of the first seed that has any: of a training run, those of its last step."""
    found = _first_with(runs, "samples.jsonl", lambda row: isinstance(row.get("continuation"), str))
    if not found:
        return None
    run, rows = found
    steps = [step for row in rows if (step := number(row.get("step"))) is not None]
    last = [row for row in rows if number(row.get("step")) == max(steps)] if steps else rows
    shown = [
        {
            "prompt": short(row.get("prompt", ""), most.letters),
            "how": _how(row),
            "continuation": short(row["continuation"], 4 * most.letters),
            **_pieces(row, most.pieces),
        }
        for row in last[: most.samples]
    ]
    of_step = f", after {rate(max(steps))} steps" if steps else ""
    more = len(rows) - len(shown)
    return {"seed": run.seed, "rows": shown, "of": of_step, "more": more, "file": place(run.folder / "samples.jsonl")}


def _how(row: dict[str, Any]) -> str:
    sample, mean = row.get("sample"), number(row.get("mean_nats"))
    words = ["greedy" if sample is None else f"sample {sample + 1}" if isinstance(sample, int) else "sample"]
    words.append(rate(row.get("tokens"), "tokens"))
    words.append("" if mean is None else f"{mean:.2f} nats per token")
    return ", ".join(filter(None, [*words, short(row.get("ended") or "", LABEL_LETTERS)]))


def _pieces(row: dict[str, Any], most: int) -> dict[str, Any]:
    """Each piece as it is shown: its text, a level of surprise from 0 to 4, its nats; none if the row has none."""
    found, pieces = row.get("pieces"), []
    whole = isinstance(found, list) and all(isinstance(one, list) and len(one) == 2 for one in found)
    for at, (text, nats) in enumerate(found[:most] if whole else ()):
        text, nats = short(text, PIECE_LETTERS), number(nats)
        following = str(found[at + 1][0])[:1] if at + 1 < min(len(found), most) else ""
        level = None if nats is None else sum(nats >= threshold for threshold in SURPRISES_NATS)
        pieces.append((_with_breaks(text, following), level, "" if nats is None else f"{nats:.2f}"))
    return {"pieces": pieces, "pieces_more": len(found) - len(pieces) if whole else 0}


def _with_breaks(text: str, following: str) -> str:
    """Newlines as signs, and the line broken behind the last of several, so that empty lines take no room."""
    both = text + following
    return re.sub("\n", lambda found: "↵" if both[found.end() : found.end() + 1] == "\n" else "↵\n", text)
