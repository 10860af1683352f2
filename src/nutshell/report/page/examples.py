"""What a model wrote, if its task keeps it: its most confident errors, and texts, each piece with its surprise."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nutshell.machine.errors import plural
from nutshell.report.page.texts import MOST_LETTERS, surprise
from nutshell.report.results.runs import Run


class Error(BaseModel):
    """A row of errors.jsonl: the texts of a wrong answer, the labels by name; or a number that is far off."""

    model_config = ConfigDict(allow_inf_nan=False)

    index: int
    label: str
    predicted: str
    probability: float | None = None
    texts: list[str]


class Sample(BaseModel):
    """A row of samples.jsonl: what follows a prompt.

    Attributes:
        step: Of training, after which it was written; None where nothing was trained.
        sample: Which one of the prompt, from 0; None if it is greedy.
        pieces: What its tokens spell, each with its nats.
        ended: How: finished, or cut.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    step: int | None = None
    prompt: str
    sample: int | None
    continuation: str
    tokens: int
    mean_nats: float | None
    pieces: list[tuple[str, float]]
    ended: str


@dataclass(frozen=True)
class Most:
    """How much of an experiment is shown: how many errors, samples, letters of a text, pieces of a sample, letters of
    experiment.yaml."""

    errors: int
    samples: int
    letters: int
    pieces: int
    yaml: int


WHOLE = Most(errors=20, samples=6, letters=MOST_LETTERS, pieces=400, yaml=12_000)
BRIEF = Most(errors=2, samples=1, letters=150, pieces=20, yaml=1_500)  # where the page has no room for more


def errors(runs: list[Run], most: Most) -> dict[str, Any] | None:
    """The wrong answers of which a model was most confident, of the first seed that has any."""
    run, rows = _first(runs, "errors.jsonl", Error)
    return {"seed": run.seed, "rows": rows[: most.errors], "more": len(rows[most.errors :])} if rows else None


def samples(runs: list[Run], most: Most) -> dict[str, Any] | None:
    """Continuations of the first seed that has any: of a training run, those of its last step."""
    run, rows = _first(runs, "samples.jsonl", Sample)
    if not rows:
        return None
    step = max((row.step for row in rows if row.step is not None), default=None)
    last = [row for row in rows if row.step == step][: most.samples]
    shown = [(row, _how(row), _pieces(row.pieces, most.pieces), len(row.pieces[most.pieces :])) for row in last]
    return {"seed": run.seed, "rows": shown, "step": step, "more": len(rows) - len(shown)}


def _first(runs: list[Run], name: str, kind: type[BaseModel]) -> tuple[Run | None, list[Any]]:
    """The rows of the first run whose file has any, and none of them is damaged."""
    for run in runs:
        try:
            rows = [kind.model_validate(row) for row in run.lines(name)]
        except ValidationError:
            continue
        if rows:
            return run, rows
    return None, []


def _how(row: Sample) -> str:
    words = ["greedy" if row.sample is None else f"sample {row.sample + 1}", plural(row.tokens, "token")]
    words += [f"{row.mean_nats:.2f} nats per token"] if row.mean_nats is not None else []
    return ", ".join([*words, row.ended])


def _pieces(pieces: list[tuple[str, float]], most: int) -> list[tuple[str, int, str]]:
    """Each piece as it is shown: its text, a level of surprise from 0 to 4, its nats."""
    following = [text[:1] for text, _ in pieces[1:most]] + [""]
    return [
        (_with_breaks(text, after), surprise(nats), f"{nats:.2f}")
        for (text, nats), after in zip(pieces[:most], following, strict=False)
    ]


def _with_breaks(text: str, following: str) -> str:
    """Newlines as signs, and the line broken behind the last of several, so that empty lines take no room."""
    both = text + following
    return re.sub("\n", lambda match: "↵" if both[match.end() : match.end() + 1] == "\n" else "↵\n", text)
