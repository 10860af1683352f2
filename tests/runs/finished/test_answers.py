"""What finished runs make of new texts: the very numbers that were measured, in the order of the rows, all or none."""

import csv
import io
import json
import math
import sys

import numpy
import pytest

import nutshell as library
from nutshell.bits.figures import units
from nutshell.cli import arguments
from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.text.windows import join, windows
from nutshell.machine import interruption
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json, write_json
from nutshell.runs.finished import choice, texts
from tests.conftest import ROOT, SMALL_YAML, TEXT_YAML

REVIEWS_YAML = """\
task: classify
seeds: [13, 14]
model: {name: TINY}
data: {name: sample_reviews, path: REVIEWS, max_tokens: 32, truncate: head_tail}
training: {max_steps: 2, per_device_train_batch_size: 4, per_device_eval_batch_size: 4, eval_strategy: epoch}
"""
SMALL_BATCHES = "training.per_device_eval_batch_size=4"
PROBABILITIES = ("probability_negative", "probability_positive")


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    """A few of the embedded reviews, as a local copy."""
    folder = tmp_path_factory.mktemp("reviews")
    for part, rows in (("train", 24), ("validation", 10), ("test", 30)):
        lines = (ROOT / f"src/nutshell/data/samples/reviews/{part}.jsonl").read_text(encoding="utf-8").splitlines()
        (folder / f"{part}.jsonl").write_text("\n".join(lines[:rows]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory, tiny, reviews):
    """The folder of two finished seeds of a tiny classifier of reviews."""
    home = tmp_path_factory.mktemp("classifier")
    file = home / "experiments" / "reviews.yaml"
    file.parent.mkdir()
    file.write_text(REVIEWS_YAML.replace("TINY", str(tiny)).replace("REVIEWS", str(reviews)))
    return library.run(file, output=home / "outputs").folder


@pytest.fixture(scope="session")
def language_model(tmp_path_factory, causal, stories):
    """The folder of a finished tiny language model."""
    home = tmp_path_factory.mktemp("language")
    file = home / "experiments" / "stories.yaml"
    file.parent.mkdir()
    file.write_text(TEXT_YAML.replace("CAUSAL", str(causal["gpt2"])).replace("STORIES", str(stories)))
    return library.run(file, {"evaluation.stride": 8}, output=home / "outputs").folder


def rows_of(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def table(printed: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(printed)))


def test_the_measured_part_is_answered_bit_for_bit(classifier, reviews, nutshell, tmp_path):
    code, printed, errors = nutshell("predict", classifier / "seed-13", reviews / "test.jsonl")
    assert code == 0, errors
    rows, measured = table(printed), units.read(classifier / "seed-13").columns
    probabilities = numpy.array([[float(row[name]) for name in PROBABILITIES] for row in rows])
    assert (probabilities == numpy.array([*measured["probabilities"]])).all()
    names = ("negative", "positive")
    assert [row["predicted"] for row in rows] == [names[number] for number in measured["predicted"]]
    assert [row["text"] for row in rows] == [row["text"] for row in rows_of(reviews / "test.jsonl")]
    assert "30 texts in " in errors and " texts/s" in errors


def test_pairs_too(write, nutshell, tmp_path, small):
    assert nutshell("run", write(SMALL_YAML), SMALL_BATCHES)[0] == 0
    folder, output = tmp_path / "outputs/finetune/pairs", tmp_path / "labelled.jsonl"
    code, printed, errors = nutshell("predict", folder, small / "test.jsonl", "--output", output)
    assert (code, printed) == (0, ""), errors
    measured, rows = units.read(folder / "seed-13").columns, rows_of(output)
    assert [row["probability_equivalent"] for row in rows] == [row[1] for row in measured["probabilities"]]
    assert [row["label"] for row in rows] == measured["label"].tolist()  # the table's own columns stay
    code, _, errors = nutshell("predict", folder, "-")
    assert code == 2  # nothing comes in
    code, _, errors = nutshell("predict", folder, output)
    assert code == 2 and f"{output}: row 1: has column predicted already" in errors
    pairs = [(row["sentence1"], row["sentence2"]) for row in rows]
    assert library.load(folder).predict(pairs)["predicted"] == [row["predicted"] for row in rows]
    with pytest.raises(UserError, match=r"texts\[0\]: 1 of them, but the model reads sentence1, sentence2"):
        library.load(folder).predict(["only one"])


def test_in_chunks_every_row_has_its_own_answer(classifier, reviews, monkeypatch, tmp_path, nutshell):
    whole = library.load(classifier, seed=13).predict([row["text"] for row in rows_of(reviews / "test.jsonl")])
    monkeypatch.setattr(texts, "CHUNK", 7)
    code, printed, errors = nutshell("predict", classifier, reviews / "test.jsonl", "--seed", 13)
    assert code == 0, errors
    rows = table(printed)
    assert [row["predicted"] for row in rows] == whole["predicted"]
    assert [float(row["probability_positive"]) for row in rows] == pytest.approx(
        whole["probability_positive"], abs=1e-6
    )


class Stdin:
    def __init__(self, content: bytes):
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize(
    ("form", "write"),
    [
        ("lines", lambda rows: "\n".join(rows)),
        ("csv", lambda rows: "review,note\n" + "".join(f'"{text}",x\n' for text in rows)),
        ("tsv", lambda rows: "review\n" + "".join(f"{text}\n" for text in rows)),
        ("jsonl", lambda rows: "".join(json.dumps({"review": text}) + "\n" for text in rows)),
    ],
)
def test_forms(form, write, classifier, nutshell, monkeypatch, tmp_path):
    new = ["A fine film, warm and slow.", "Dull from its first frame to the last."]
    expected = library.load(classifier).predict(new)
    column = ["--column", "review"] * (form == "csv")
    file = tmp_path / {"lines": "new.txt"}.get(form, f"new.{form}")
    file.write_text(write(new), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", Stdin(file.read_bytes()))
    for words in ([file], ["-", "--format", form], *([[], ["-"]] if form == "lines" else [])):
        monkeypatch.setattr(sys, "stdin", Stdin(file.read_bytes()))
        code, printed, errors = nutshell("predict", classifier, *words, *column)
        assert code == 0, errors
        rows = table(printed)
        assert [row["predicted"] for row in rows] == expected["predicted"]
        assert [row.get("review", row.get("text")) for row in rows] == new
        for name in PROBABILITIES:
            assert [float(row[name]) for row in rows] == expected[name]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "text\ngood\n \n", "a.csv: row 3: text is empty"),
        ("a.txt", "good\n\nbad\n", "a.txt: row 2: text is empty"),
        ("a.jsonl", '{"text": "good"}\n{"text": 5}\n', "a.jsonl: row 2: text is a number, expected text"),
        ("a.csv", 'text\ngood\n"open\n', "a.csv: row 3: not valid CSV"),
        ("a.csv", "title,note\na,b\n", "row 1: the header has no column text; it has title, note; name another one"),
        ("a.csv", "text,predicted\na,b\n", "has column predicted already"),
        ("a.csv", "text\n", "holds no row"),
        ("a.csv", "", "is empty"),
        ("a.dat", "good", "its suffix does not say how to read it; name --format"),
        ("a.jsonl", '{"text": "good"}\n{"text": "fine", "more": 1}\n', "row 2: has columns text, more; expected text"),
        (
            "a.jsonl",
            '{"text": "good", "by": "me"}\n{"text": "fine", "by": "\\ud800"}\n',
            "row 2: a column is not valid",
        ),
        ("a.jsonl", '{"text": "good", "\\ud800": "me"}\n', "row 1: a column is not valid Unicode"),
        (None, "", "no such file"),
    ],
)
def test_of_a_bad_row_nothing_is_written(name, content, reason, classifier, nutshell, tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "CHUNK", 1)  # what comes before the bad row has been answered
    file, output = tmp_path / (name or "missing.csv"), tmp_path / "out.csv"
    if name:
        file.write_text(content, encoding="utf-8")
    output.write_text("before")
    code, printed, errors = nutshell("predict", classifier, file, "--output", output)
    assert code == 2 and reason in errors and printed == "" and "Traceback" not in errors
    assert output.read_text() == "before" and not list(tmp_path.glob(".*partial"))
    assert nutshell("predict", classifier, file)[:2] == (2, "")


@pytest.mark.parametrize(("name", "reason"), [("no/out.csv", "its folder is not there"), ("out.xlsx", "is written as")])
def test_an_output_that_cannot_be_written(name, reason, classifier, reviews, nutshell, tmp_path):
    code, _, errors = nutshell("predict", classifier, reviews / "test.jsonl", "--output", tmp_path / name)
    assert code == 2 and reason in errors


def with_validation(folder, values: dict[int, float | None], part: str = "test") -> None:
    for seed, value in values.items():
        file = folder / f"seed-{seed}" / "metrics.json"
        content = read_json(file)
        content["validation"] = None if value is None else content["validation"] | {"accuracy": value}
        content["evaluated_on"]["part"] = part
        write_json(file, content)


def test_names_that_are_too_long_for_a_disk(classifier, reviews, nutshell):
    for words in ((classifier, 300 * "a"), (300 * "a", reviews / "test.jsonl")):
        code, _, errors = nutshell("predict", *words)
        assert code == 2 and "aaa: no such f" in errors and "Traceback" not in errors


def test_which_seed(classifier, tmp_path, caplog):
    import shutil

    folder = shutil.copytree(classifier, tmp_path / "chapter/reviews")
    caplog.set_level("INFO", "nutshell")
    for values, part, seed, reason in (
        ({13: 0.5, 14: 0.75}, "test", 14, "whose accuracy on the validation part is the best of 2: 0.7500"),
        ({13: 0.5, 14: 0.5}, "test", 13, "is the best of 2"),
        ({13: 0.5, 14: None}, "test", 13, "the first of 2: not all were evaluated on a validation part"),
        ({13: None, 14: None}, "validation", 13, "their figures are of the validation part itself"),
    ):
        shutil.copytree(classifier, folder, dirs_exist_ok=True)
        with_validation(folder, values, part)
        caplog.clear()
        (run,) = choice.choose(folder)
        assert run.seed == seed and reason in caplog.text
    assert [run.seed for run in choice.choose(folder, every=True)] == [13, 14]
    assert [run.seed for run in choice.choose(folder, seed=14)] == [14]
    assert [run.seed for run in choice.choose(folder / "seed-14")] == [14]
    with pytest.raises(UserError, match="holds no seed 15; complete are: 13, 14"):
        choice.choose(folder, seed=15)
    (folder / "seed-14" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"unfinished: .* seeds that are complete: 13"):
        choice.choose(folder, seed=14)
    shutil.copytree(classifier, tmp_path / "chapter/again")
    with pytest.raises(UserError, match="holds 2 experiments; name one, such as"):
        choice.choose(tmp_path / "chapter")


def test_all_seeds_are_the_mean(classifier, reviews, nutshell):
    code, printed, errors = nutshell("predict", classifier, reviews / "test.jsonl", "--all-seeds")
    assert code == 0 and "the mean of 2 seeds" in errors, errors
    every = [numpy.array([*units.read(classifier / f"seed-{seed}").columns["probabilities"]]) for seed in (13, 14)]
    rows, mean = table(printed), (every[0] + every[1]) / 2
    assert [[float(row[name]) for name in PROBABILITIES] for row in rows] == mean.tolist()
    assert [row["predicted"] for row in rows] == [("negative", "positive")[place] for place in mean.argmax(1)]


def test_each_task_does_what_it_can(classifier, language_model, nutshell, reviews):
    code, _, errors = nutshell("score", classifier, reviews / "test.jsonl")
    assert code == 2 and "task: classify gives texts no probability" in errors
    code, _, errors = nutshell("predict", language_model, reviews / "test.jsonl")
    assert code == 2 and "task: language_model predicts no labels" in errors


def brute_force(folder, text: str, block: int = 16, stride: int = 8) -> numpy.ndarray:
    """Nats of each byte of a text, and of its end, one window after another, each token by a softmax of its own."""
    import torch

    model = library.load(folder).model
    end = model.config.eos_token_id
    tokenizer = library.load(folder).tokenizer
    ids = [end, *(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) if text else []), end]
    costs = []
    for at in range(1, len(ids)):
        # The window in which it is scored: the first that reaches it.
        start = 0 if at <= block else -(-(at - block) // stride) * stride
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:at]])).logits[0, -1].double()
        costs.append(-logits.log_softmax(-1)[ids[at]].item())
    return numpy.array(costs)


NEW_TEXTS = ["Ein kurzer Satz.", "", "猫 und 🐈", "It rained. " * 9]


def test_scores_are_those_of_brute_force(language_model, nutshell, tmp_path):
    file = tmp_path / "new.txt"
    file.write_text("\n".join(NEW_TEXTS))
    code, printed, errors = nutshell("score", language_model, file)
    assert code == 0, errors
    rows = table(printed)
    assert [row["text"] for row in rows] == NEW_TEXTS
    for row, text in zip(rows, NEW_TEXTS, strict=True):
        costs = brute_force(language_model, text)
        assert float(row["nats"]) == pytest.approx(costs[:-1].sum(), abs=1e-4)
        assert float(row["end_of_text_nats"]) == pytest.approx(costs[-1], abs=1e-5)
        size = len(text.encode())
        assert int(row["tokens"]) == size
        assert (
            row["bits_per_byte"] == ""
            if not size
            else float(row["bits_per_byte"]) == pytest.approx(float(row["nats"]) / math.log(2) / size)
        )
    scores = library.load(language_model).score(NEW_TEXTS)
    assert [str(value) for value in scores["nats"]] == [row["nats"] for row in rows]


def test_documents_of_a_table(language_model, nutshell, tmp_path):
    file, output = tmp_path / "new.csv", tmp_path / "scored.jsonl"
    file.write_text('id,body\n1,"It rained,\nand rained."\n2,猫\n')
    code, _, errors = nutshell("score", language_model, file, "--column", "body", "--output", output)
    assert code == 0, errors
    rows = rows_of(output)
    assert [list(row) for row in rows] == [["id", "body", "nats", "bits_per_byte", "tokens", "end_of_text_nats"]] * 2
    assert rows[0]["nats"] == pytest.approx(brute_force(language_model, rows[0]["body"])[:-1].sum(), abs=1e-4)
    code, _, errors = nutshell("score", language_model, file)
    assert code == 2 and "has no column text; it has id, body; name another one with --column" in errors


def test_windows_apart_are_each_text_s_own():
    rows, ended = [[5] * 7, [], [6] * 30], Vocabulary(None, "", 0)
    every = windows(join(rows, ended), ended, 8, 4, documents="separate")
    lengths = [end - start for start, end, _ in every.spans]
    assert lengths == sorted(lengths, reverse=True) and sum(scored for *_, scored in every.spans) == 7 + 1 + 1 + 31
    alone = [windows(numpy.array([0, *ids, 0]), ended, 8, 4) for ids in rows]
    assert sorted(map(len, alone)) and len(every) == sum(map(len, alone))
    seen = sorted(tuple(every[number][0]) for number in range(len(every)))
    assert seen == sorted(tuple(one[number][0]) for one in alone for number in range(len(one)))
    costs = numpy.zeros((len(every), 8))
    for number, (start, end, scored) in enumerate(every.spans):
        costs[number, end - start - 1 - scored : end - start - 1] = range(end - scored, end)
    assert every.in_order(costs).tolist() == list(range(1, len(every.tokens)))


def test_a_run_in_bf16_is_answered_in_bf16(write, nutshell, tmp_path, small, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert nutshell("run", write(SMALL_YAML), SMALL_BATCHES)[0] == 0
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    folder = tmp_path / "outputs/finetune/pairs"
    code, printed, errors = nutshell("predict", folder, small / "test.jsonl")
    assert code == 0, errors
    measured = units.read(folder / "seed-13").columns["probabilities"]
    assert [float(row["probability_equivalent"]) for row in table(printed)] == [row[1] for row in measured]


def test_several_processes_are_refused(classifier, reviews, nutshell, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, errors = nutshell("predict", classifier, reviews / "test.jsonl")
    assert code == 2 and "leave out accelerate launch" in errors


def test_the_command_line_has_every_form():
    assert arguments.FORMATS == texts.FORMATS


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (interruption.Terminated, 143)])
def test_what_is_interrupted_leaves_nothing(stop, code, classifier, reviews, nutshell, monkeypatch, tmp_path):
    def cut_short(*words):
        yield next(every(*words))
        raise stop

    every = texts.chunks
    monkeypatch.setattr(texts, "CHUNK", 5)
    monkeypatch.setattr("nutshell.runs.finished.answers.chunks", cut_short)
    words = ("predict", classifier, reviews / "test.jsonl")
    for more in ([], ["--output", tmp_path / "out.csv"]):
        ended, printed, errors = nutshell(*words, *more)
        assert (ended, printed) == (code, "") and errors.splitlines()[-1].endswith("nothing was written")
    assert not list(tmp_path.iterdir())
