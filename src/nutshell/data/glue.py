"""The nine tasks of GLUE: the columns of the Hub and of GLUE's own files, what is scored, what the server takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from nutshell.data.parts import Origin, Part
from nutshell.data.readers.examples import Layout
from nutshell.machine.files import write_text

BENCHMARK = "GLUE"
REPOSITORY, REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
LOWEST_SCORE, HIGHEST_SCORE = 0.0, 5.0  # of STS-B
MNLI_PARSES = tuple(f"sentence{side}_{parse}" for parse in ("binary_parse", "parse") for side in (1, 2))


@dataclass(frozen=True, kw_only=True)
class GlueTask(Layout):
    """One task of GLUE, in the Hub's columns.

    Attributes:
        title: What GLUE calls it; its folder in GLUE's download, too.
        examples: How many the validation part has: a local copy with another number is not GLUE's.
        scored: The metrics whose mean is the task's score.
        words: Whether GLUE's server takes the labels' words; numbers otherwise.
    """

    title: str
    examples: int
    scored: tuple[str, ...] = ("accuracy",)
    extra: tuple[str, ...] = ("idx", "index")
    words: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is reported, the most important first."""
        return (*self.scored, "label_bits") if self.labels else self.scored

    @property
    def counts_for(self) -> dict[str, str | list[str]]:
        """What a run says of the benchmark that its data is a part of."""
        tasks = [task.title for task in TASKS.values()]
        return {"name": BENCHMARK, "task": self.title, "metrics": list(self.scored), "tasks": tasks}

    @property
    def submissions(self) -> Mapping[str, str]:
        """The file that GLUE's server takes, by the split of the test part; "" where that is one."""
        if not self.splits:
            return {"": f"{self.title}.tsv"}
        return {split: f"{self.title}-{'m' if split == 'matched' else 'mm'}.tsv" for split in self.splits}

    def submit(self, part: Part, predictions: numpy.ndarray, folder: Path) -> None:
        """Writes the files that GLUE's server takes.

        Args:
            part: The test part.
            predictions: (examples,) labels or scores, in its order.
            folder: Where they are written; it is made.
        """
        folder.mkdir(exist_ok=True)
        splits = part.in_splits()
        for split, name in self.submissions.items():
            write_text(folder / name, self.submission(predictions[splits[split] if split else slice(None)].tolist()))

    def submission(self, predictions: Sequence[int] | Sequence[float]) -> str:
        """The content of the file that GLUE's server takes: a header, and the prediction of each row by its number.

        Args:
            predictions: Of the whole test part, or one split of it, in its order: labels (n,), or scores (n,).

        Returns:
            Lines `index`, tab, `prediction`: the label's word or its number, or a score within 0 and 5 with three
            decimals.

        Raises:
            ValueError: If a prediction is no label of this task, or no number.

        Source: nyu-mll/jiant, evaluate.py, `_write_glue_preds`, strict format.
        """
        lines = [f"{row}\t{self._answer(prediction)}" for row, prediction in enumerate(predictions)]
        return "\n".join(["index\tprediction", *lines]) + "\n"

    def _answer(self, prediction: int | float) -> str:
        if not self.labels:
            if prediction != prediction:
                raise ValueError(f"{self.title}: a prediction is not a number")
            return f"{min(max(prediction, LOWEST_SCORE), HIGHEST_SCORE):.3f}"
        if prediction not in range(len(self.labels)):
            raise ValueError(f"{self.title}: {prediction} is none of the labels 0 to {len(self.labels) - 1}")
        return self.labels[int(prediction)] if self.words else str(int(prediction))


ENTAILMENT = ("entailment", "not_entailment")
PAIR = ("sentence1", "sentence2")
TASKS = {  # by the Hub's name of each
    "cola": GlueTask(
        ("sentence",),
        ("unacceptable", "acceptable"),
        title="CoLA",
        examples=1043,
        scored=("matthews",),
        extra=("idx", "index", "source", "mark"),
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask(("sentence",), ("negative", "positive"), title="SST-2", examples=872),
    "mrpc": GlueTask(PAIR, ("not_equivalent", "equivalent"), title="MRPC", examples=408, scored=("accuracy", "f1")),
    "qqp": GlueTask(
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        title="QQP",
        examples=40_430,
        scored=("accuracy", "f1"),
        aliases={"is_duplicate": "label"},
        extra=("idx", "id", "qid1", "qid2"),
        flawed=True,
    ),
    "stsb": GlueTask(
        PAIR,
        (),
        title="STS-B",
        examples=1500,
        scored=("pearson", "spearman"),
        aliases={"score": "label"},
        extra=("idx", "index", "genre", "filename", "year", "old_index", "source1", "source2"),
    ),
    "mnli": GlueTask(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        title="MNLI",
        examples=9815 + 9832,
        scored=("accuracy", "accuracy_mismatched"),
        aliases={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
        extra=("idx", "index", "promptID", "pairID", "genre", *MNLI_PARSES, *(f"label{n}" for n in range(1, 6))),
        words=True,
        splits=("matched", "mismatched"),
    ),
    "qnli": GlueTask(("question", "sentence"), ENTAILMENT, title="QNLI", examples=5463, words=True),
    "rte": GlueTask(PAIR, ENTAILMENT, title="RTE", examples=277, words=True),
    "wnli": GlueTask(PAIR, ENTAILMENT[::-1], title="WNLI", examples=71),
}


def origin(name: str) -> Origin:
    """Where the Hub keeps a task's data: `<name>/<split>-00000-of-00001.parquet`."""
    return Origin(REPOSITORY, name, REVISION)
