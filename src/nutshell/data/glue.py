"""The nine tasks of GLUE: the columns of the Hub and of GLUE's own files, what is scored, what the server takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nutshell.data.parts import Origin

BENCHMARK = "GLUE"
REPOSITORY, REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
LOWEST_SCORE, HIGHEST_SCORE = 0.0, 5.0  # of STS-B
MNLI_PARSES = tuple(f"sentence{side}_{parse}" for parse in ("binary_parse", "parse") for side in (1, 2))


@dataclass(frozen=True)
class GlueTask:
    """One task of GLUE.

    Attributes:
        title: What GLUE calls it; its folder in GLUE's download, too.
        texts: The Hub's columns that hold text, in the order a model reads them; `label` is next to them.
        labels: What label 0, 1, ... means; none where it is a number.
        examples: How many the validation part has: a local copy with another number is not GLUE's.
        scored: The metrics whose mean is the task's score.
        aliases: The columns that GLUE's own files name otherwise, and what the Hub calls them.
        extra: Further columns of either, which are not read.
        header: The columns of GLUE's train.tsv and dev.tsv, if these have no header line; test.tsv always has one.
        words: Whether GLUE's own files have the labels' words, and its server takes them; numbers otherwise.
        splits: By part the names of what is measured apart, each with the ends of its file names
            (`dev_matched.tsv`, `validation_matched-00000-of-00001.parquet`); none where a part is one file.
        flawed: Whether its training part has texts that are empty, and GLUE's own files have torn rows, with too few
            fields: the Hub's copy was made without these rows, as every reader of GLUE leaves them out.
    """

    title: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    examples: int
    scored: tuple[str, ...] = ("accuracy",)
    aliases: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ("idx", "index")
    header: tuple[str, ...] = ()
    words: bool = False
    splits: tuple[str, ...] = ()
    flawed: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is reported, the most important first."""
        return (*self.scored, "label_bits") if self.labels else self.scored

    @property
    def submissions(self) -> Mapping[str, str]:
        """The file that GLUE's server takes, by the split of the test part; "" where that is one."""
        if not self.splits:
            return {"": f"{self.title}.tsv"}
        return {split: f"{self.title}-{'m' if split == 'matched' else 'mm'}.tsv" for split in self.splits}

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
        "CoLA",
        ("sentence",),
        ("unacceptable", "acceptable"),
        1043,
        scored=("matthews",),
        extra=("idx", "index", "source", "mark"),
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask("SST-2", ("sentence",), ("negative", "positive"), 872),
    "mrpc": GlueTask(
        "MRPC",
        PAIR,
        ("not_equivalent", "equivalent"),
        408,
        scored=("accuracy", "f1"),
        aliases={"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
        extra=("idx", "index", "#1 ID", "#2 ID"),
    ),
    "qqp": GlueTask(
        "QQP",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        40_430,
        scored=("accuracy", "f1"),
        aliases={"is_duplicate": "label"},
        extra=("idx", "id", "qid1", "qid2"),
        flawed=True,
    ),
    "stsb": GlueTask(
        "STS-B",
        PAIR,
        (),
        1500,
        scored=("pearson", "spearman"),
        aliases={"score": "label"},
        extra=("idx", "index", "genre", "filename", "year", "old_index", "source1", "source2"),
    ),
    "mnli": GlueTask(
        "MNLI",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        9815 + 9832,
        scored=("accuracy", "accuracy_mismatched"),
        aliases={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
        extra=("idx", "index", "promptID", "pairID", "genre", *MNLI_PARSES, *(f"label{n}" for n in range(1, 6))),
        words=True,
        splits=("matched", "mismatched"),
    ),
    "qnli": GlueTask("QNLI", ("question", "sentence"), ENTAILMENT, 5463, words=True),
    "rte": GlueTask("RTE", PAIR, ENTAILMENT, 277, words=True),
    "wnli": GlueTask("WNLI", PAIR, ENTAILMENT[::-1], 71),
}


def origin(name: str) -> Origin:
    """Where the Hub keeps a task's data: `<name>/<split>-00000-of-00001.parquet`."""
    return Origin(REPOSITORY, name, REVISION)


def benchmark(name: str) -> dict[str, str | list[str]]:
    """What a run of a task says of the benchmark that it is a part of."""
    task = TASKS[name]
    tasks = [one.title for one in TASKS.values()]
    return {"name": BENCHMARK, "task": task.title, "metrics": list(task.scored), "tasks": tasks}
