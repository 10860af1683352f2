"""The proof that the seam is real: a task that is defined here alone, with a metric of its own, goes through run, show,
report, compare, tracking and the model card."""

import hashlib
import json
from pathlib import Path

import numpy
import pytest
from huggingface_hub import ModelCard

from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.statistics import STATISTICS, statistic
from nutshell.bits.figures.units import NAME, Units
from nutshell.experiment.blocks import Experiment, Reference, Word
from nutshell.report.results.result import Data, EvaluatedOn, Measurement, Parameters, Pass, read_result
from nutshell.tasks import task as tasks
from nutshell.tasks.task import Card, Task, register
from tests.report.tracked import records, summary, tracked_off_line

TOY_YAML = """\
question: How far off is one guess of how long a word is?
task: toy
seeds: [1, 2]
guess: 6.5
words: [WORDS]
reference: {typical_error: [0.5, 9.0], part: test, source: a toy catalogue}
"""
WORDS = [letter * length for length in range(1, 13) for letter in "ab"]


@statistic
def root_mean_square(errors: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """The square root of the mean of squares."""
    return numpy.sqrt((errors**2).mean(axis))


ERROR = Metric("typical_error", "letters", False, root_mean_square, ("error",))


class ToyExperiment(Experiment):
    """No block that other tasks have, but keys of its own."""

    guess: float
    words: list[Word]
    reference: Reference.of("typical_error") | None = None


class Toy(Task):
    """Guesses how long words are."""

    word = "toy"
    asks = ToyExperiment
    card = Card("feature-extraction", "AutoModel")

    def checks(self, plain, blocks):
        if plain.get("guess") == 0:
            yield ("guess",), "guess: no word has 0 letters"

    def metrics(self, blocks):
        return (ERROR,)

    def plan(self, experiment):
        return [f"words:    {len(experiment.words)}"]

    def run(self, experiment, args, resume, record):
        from transformers import BertConfig, BertModel

        record.begin(args)
        folder, words = Path(args.output_dir), experiment.words
        lengths = numpy.array([len(word) for word in words])
        noise = numpy.random.default_rng(args.seed).normal(0, 0.1, len(words))
        units = Units("words", (ERROR,), {"error": experiment.guess + noise - lengths})
        model = BertModel(BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
        model.save_pretrained(folder / "model")
        units.write(folder)
        digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()
        count, letters = len(words), int(lengths.sum())
        return Measurement(
            evaluated_on=EvaluatedOn(
                part="test", count=count, units=units.kind, sha256=digest, chose=False, text=f"{count} words"
            ),
            metrics=units.figures(),
            baseline={"typical_error": {"always guessing 1": ERROR.value({"error": 1 - lengths})}},
            notes=["this is a toy"],
            data=Data(source="the experiment", examples={"test": count}, sha256={"test": digest}),
            parameters=Parameters(all=model.num_parameters(), trained=0),
            evaluation=Pass(
                examples=count, tokens=letters, seconds=1.0, examples_per_second=count, tokens_per_second=letters
            ),
        )


@pytest.fixture(autouse=True)
def toy():
    register(Toy())
    yield
    del tasks.tasks()["toy"]


@pytest.fixture
def file(write):
    return write(TOY_YAML.replace("WORDS", ", ".join(WORDS)), "toys/near.yaml")


def test_run_and_report(file, nutshell, tmp_path):
    code, printed, errors = nutshell("run", file)
    assert code == 0, errors
    for words in ("toys/near", "How far off is one guess", "typical_error", "0.5 to 9: inside"):
        assert words in " ".join(printed.split()), words
    assert "This is a toy" in printed and "guessing" in printed
    result = read_result(tmp_path / "outputs/toys/near/seed-1")
    low, high = result.metrics["typical_error"].interval_95
    assert low < result.metrics["typical_error"].value < high
    assert nutshell("run", file)[0] == 0  # complete, nothing to run

    code, table, _ = nutshell("report", tmp_path / "outputs", "--format", "markdown")
    assert (
        code == 0
        and "| `toys/near` | typical_error |" in table
        and "over seeds and words" in table
        and "always guessing 1" in table
    )
    page = tmp_path / "report.html"
    assert nutshell("report", tmp_path / "outputs", "--output", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    for words in ("toys/near", "How far off is one guess", "typical_error", "always guessing 1", "his is a toy"):
        assert words in text, words


def test_show(file, nutshell):
    code, printed, errors = nutshell("show", file)
    assert code == 0, errors
    assert "task: toy" in printed and "guess: 6.5" in printed and f"# words:    {len(WORDS)}" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gues=5",), "did you mean 'guess'?"),
        (("guess=0",), "guess: no word has 0 letters"),
        (("guess=far",), "guess: expected a number, not 'far'"),
        (("reference.accuracy=[0, 1]",), "reference.accuracy"),
        (("task=tooy",), "did you mean 'toy'?"),
    ],
)
def test_what_is_refused(file, nutshell, words, message):
    code, _, errors = nutshell("show", file, *words)
    assert code == 2 and message in errors


def test_compare(file, write, nutshell, tmp_path):
    far = write(file.read_text().replace("guess: 6.5", "guess: 11.5"), "toys/far.yaml")
    code, printed, errors = nutshell("run", file, far)
    assert code == 0, errors
    assert f"next: nutshell compare {tmp_path / 'outputs/toys/near'} {tmp_path / 'outputs/toys/far'}" in printed
    code, printed, _ = nutshell("compare", tmp_path / "outputs/toys/near", tmp_path / "outputs/toys/far")
    assert code == 0 and "typical_error" in printed and "A is better" in printed


def test_the_model_card(file, nutshell, tmp_path):
    assert nutshell("run", file)[0] == 0
    card = ModelCard.load(tmp_path / "outputs/toys/near/seed-1/model/README.md")
    assert card.data.pipeline_tag == "feature-extraction"
    assert [one.metric_type for one in card.data.eval_results] == ["typical_error"]
    for words in ("How far off is one guess", "nutshell's task `toy`", "AutoModel", "0.5 to 9.0", "a toy catalogue"):
        assert words in card.text, words


def test_tracking_off_line(file, nutshell, tmp_path, monkeypatch):
    with tracked_off_line(tmp_path):
        assert nutshell("run", file)[0] == 0
        folder = tmp_path / "outputs/toys/near/seed-2"
        (run,) = records(folder, "run")
        assert (run["job_type"], run["display_name"]) == ("toy", "toys/near seed 2")
        assert run["notes"] == "How far off is one guess of how long a word is?"
        figures = summary(folder)
    assert figures["typical_error"] == read_result(folder).metrics["typical_error"].value
    assert figures["typical_error/reference"] == "inside"


def test_without_the_task_its_figures_are_still_read(file, nutshell, tmp_path, monkeypatch):
    """One who has the folder and not the task sees the figures; what needs the statistic says what is missing."""
    assert nutshell("run", file)[0] == 0
    monkeypatch.delitem(STATISTICS, "root_mean_square")
    message = f"{NAME}: its statistic root_mean_square is not known here; install its task"
    first, second = (tmp_path / "outputs/toys/near" / f"seed-{seed}" for seed in (1, 2))
    code, printed, _ = nutshell("report", first, "--format", "markdown")
    assert code == 0 and "typical_error" in printed
    code, _, errors = nutshell("compare", first, second)
    assert code == 2 and message in errors
