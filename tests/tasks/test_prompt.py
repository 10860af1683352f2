"""A prompted model: its scores against brute force, its laws, its calibration by hand, and what is refused."""

import csv
import json
import random
from pathlib import Path

import numpy
import pytest

from nutshell.bits.figures import units
from nutshell.data.encoding import vocabularies
from nutshell.data.parts import Part, Parts
from nutshell.data.text import templates
from nutshell.data.text.templates import Prompts, Template
from nutshell.models.language.architectures import CAUSAL
from nutshell.report.results.result import read_result
from tests.machine.test_launch import LAUNCH, finish
from tests.models.language import tiny

YAML = """\
task: prompt
seeds: [13]
model: {name: CAUSAL}
data: {name: table, path: PLACE, texts: [text], label: label, labels: [bad, good], max_tokens: 12}
prompt:
  templates: ["{text}: it is", "Is {text}?"]
  answers: {bad: " bad", good: " boy"}
training: {per_device_eval_batch_size: 4}
"""
WORDS = "dull slow poor warm fine wise".split()
HOME = "outputs/prompts/films"


def rows(part: str, count: int) -> list[tuple[str, str]]:
    draw = random.Random(part)
    every = [(f"{draw.choice(WORDS)} {part[:2]}{number}ß", number % 2) for number in range(count)]
    return [(text, ("bad", "good")[label]) for text, label in every]


@pytest.fixture
def place(tmp_path) -> Path:
    """A table with three parts."""
    folder = tmp_path / "films"
    folder.mkdir()
    for part, count in (("train", 30), ("validation", 12), ("test", 22)):
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows(part, count)])
    return folder


@pytest.fixture
def file(write, place):
    return write(YAML.replace("PLACE", str(place)), "prompts/films.yaml")


@pytest.fixture
def run(file, nutshell, tmp_path):
    """Runs it with overrides: the columns of its units, and its folder."""

    def _run(*overrides: str, name: str = "films"):
        own = file.with_name(f"{name}.yaml")
        own.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        code, _, errors = nutshell("run", own, *overrides)
        assert code == 0, errors
        folder = tmp_path / "outputs/prompts" / name / "seed-13"
        return units.read(folder).columns, folder

    return _run


def prompts_of(
    checkpoint: Path, *wordings: Template, max_tokens: int = 12, truncate: str = "head", shots=()
) -> Prompts:
    config = json.loads((checkpoint / "config.json").read_text())
    vocabulary = vocabularies.of_checkpoint(checkpoint, config)
    end = vocabulary.end_of_text
    return Prompts(wordings, ("text",), vocabulary.tokenizer, end, max_tokens, truncate, shots)


def brute_force(model, prompts: Prompts, text: str) -> numpy.ndarray:
    """(templates, labels) scores, each prompt with each answer by itself, without a cache."""
    import torch

    (row,) = prompts.rows([(text,)])
    scores = []
    for ids, answers in zip(row, prompts.answers, strict=True):
        for answer in answers:
            whole = torch.tensor([[*ids.tolist(), *answer]])
            with torch.no_grad():
                scores.append(-model.token_nats(whole)[0, len(ids) - 1 :].double().sum().item())
    return numpy.array(scores).reshape(len(row), -1)


TEXTS = ["dull", "warm and wise", "ß", "\n fine", "a very long text that is cut"]
WORDINGS = (
    Template("Of {text}: it is", (" bad", " best", " so-so")),  # byte tokens: answers of several, that begin alike
    Template("Of {text}: I say", ("n", "y", "m")),  # shares its beginning with the first
    Template("{text}", (" no", " yes", " perhaps")),  # may be empty
)


@pytest.fixture
def trainer_of(tmp_path):
    """A PromptTrainer of a checkpoint."""
    from transformers import TrainingArguments

    from nutshell.models.language import build
    from nutshell.runs.trainer.prompt import PromptTrainer

    def _trainer_of(checkpoint: Path, prompts: Prompts, batch: int = 3, normalization: str = "none") -> PromptTrainer:
        args = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=batch,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        return PromptTrainer(build.load(checkpoint).eval(), args, prompts, tiny.POSITIONS, normalization)

    return _trainer_of


@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_score_is_the_sum_of_the_answer_s_token_nats(trainer_of, tmp_path, architecture):
    """With and without shots, in batches of any size, padded or not, within windows that are shorter than a prompt."""
    checkpoint = tiny.make(architecture, tmp_path / "tiny")
    for shots, wordings, texts in (((), WORDINGS, [*TEXTS, ""]), (((("ok",), 0),), WORDINGS[:2], TEXTS)):
        prompts = prompts_of(checkpoint, *wordings, shots=shots)
        trainers = [trainer_of(checkpoint, prompts, batch) for batch in (1, 3, 64)]
        expected = numpy.array([brute_force(trainers[0].model, prompts, text) for text in texts])
        every = [trainer.scores([(text,) for text in texts]) for trainer in trainers]
        for scores, _, tokens in every:
            numpy.testing.assert_allclose(scores, expected, rtol=1e-5, atol=2e-5)
            lengths = [len(ids) for row in prompts.rows([(text,) for text in texts]) for ids in row]
            answers = sum(len(ids) for own in prompts.answers for ids in own)
            assert tokens == sum(lengths) + len(texts) * answers
        assert [len(group) for group in prompts.groups] == ([1, 1] if shots else [2, 1])
        head = prompts.tokenizer.decode(prompts.heads[0])
        assert head == ("Of ok: it is bad\n\n" if shots else "") + "Of "


@pytest.mark.parametrize("normalization", ["tokens", "bytes"])
def test_length_normalization(trainer_of, causal, normalization):
    prompts = prompts_of(causal["gpt2"], Template("{text} is", (" bad", " é")))
    plain, normalized = (
        trainer_of(causal["gpt2"], prompts, 3, kind).scores([("dull",)])[0] for kind in ("none", normalization)
    )
    numpy.testing.assert_allclose(normalized, plain / [[[4, 3]]])


def test_swapped_answers_invert_the_prediction(run):
    columns, _ = run()
    swapped, _ = run("prompt.answers={bad: ' boy', good: ' bad'}", name="swapped")
    assert columns["predicted"].shape == (22, 2)
    assert numpy.array_equal(swapped["predicted"], 1 - columns["predicted"])
    numpy.testing.assert_allclose(swapped["probabilities"], columns["probabilities"][..., ::-1], atol=1e-6)


def test_batches_and_the_order_of_examples_do_not_matter(run, place):
    columns, _ = run()
    one, _ = run("training.per_device_eval_batch_size=1", name="one")
    numpy.testing.assert_allclose(one["probabilities"], columns["probabilities"], atol=1e-5)
    lines = (place / "test.csv").read_text(encoding="utf-8").splitlines()
    (place / "test.csv").write_text("\n".join([lines[0], *lines[:0:-1]]), encoding="utf-8")
    back, _ = run(name="back")
    numpy.testing.assert_allclose(back["probabilities"][::-1], columns["probabilities"], atol=1e-5)
    assert list(back["label"][::-1]) == list(columns["label"])


@pytest.mark.slow
def test_two_processes_as_one(run, file, tmp_path):
    columns, _ = run("prompt.calibration=contextual")
    words = ("run", file, "prompt.calibration=contextual", "--output", tmp_path / "two")
    finish([*LAUNCH, "--num_processes", "2", "-m", "nutshell"], *words)
    two = units.read(tmp_path / "two/prompts/films/seed-13").columns
    numpy.testing.assert_allclose(two["probabilities"], columns["probabilities"], atol=1e-5)


def test_one_template_leaves_what_a_classifier_leaves(run, nutshell, tmp_path, place):
    columns, folder = run("prompt.templates=['{text} is']")
    result = read_result(folder)
    label, probabilities = columns["label"], columns["probabilities"]
    assert label.tolist() == [0, 1] * 11 and probabilities.shape == (22, 2)
    assert numpy.array_equal(columns["predicted"], probabilities.argmax(1))
    numpy.testing.assert_allclose(columns["nats"], -numpy.log(probabilities[range(22), label]))
    numpy.testing.assert_allclose(columns["confidence"], probabilities.max(1))
    assert [*result.metrics] == [
        *("accuracy", "f1", "macro_f1", "matthews", "label_bits", "calibration_error", "auc"),
    ]
    assert result.baseline["accuracy"] == {"always answering bad": 0.5, "always answering good": 0.5}
    assert result.baseline["auc"] == {"the training labels' frequencies": 0.5}
    assert numpy.sum(result.matrix.counts) == 22 and not result.tables and result.parameters.trained == 0
    wrong = [json.loads(line) for line in (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(wrong) == int((columns["predicted"] != label).sum())


def test_it_is_compared_with_a_fine_tuned_model(run, write, nutshell, tmp_path, place):
    """The same examples: every common figure with an interval; McNemar's test where each has one answer."""
    run()
    run("prompt.templates=['{text} is']", name="single")
    tuned = write(
        "task: classify\nseeds: [13]\nmodel: {name: TINY}\n"
        f"data: {{name: table, path: {place}, texts: [text], label: label, labels: [bad, good], max_tokens: 16}}\n"
        "training: {max_steps: 1}\n",
        "prompts/tuned.yaml",
    )
    assert nutshell("run", tuned)[0] == 0
    home = tmp_path / "outputs/prompts"
    for name, tests in (("single", 1), ("films", 0)):
        for pair in ((home / "tuned", home / name), (home / name, home / "tuned")):
            code, printed, errors = nutshell("compare", *pair)
            assert code == 0, errors
            assert printed.count("McNemar") == tests
            for metric in ("accuracy", "macro_f1", "label_bits", "calibration_error"):
                assert metric in printed
    code, printed, _ = nutshell("compare", home / "single", home / "films")
    assert code == 0 and "auc" in printed


def test_several_templates_are_all_reported(run, nutshell, tmp_path):
    columns, folder = run()
    result = read_result(folder)
    right = (columns["predicted"] == columns["label"][:, None]).mean(0)
    assert result.metrics["accuracy"].value == pytest.approx(right.mean())
    (table,) = result.tables
    names = ["{text}: it is (bad | boy)", "Is {text}? (bad | boy)", "mean", "standard deviation"]
    assert [name for name, _ in table.rows] == names
    accuracies = [values[table.columns.index("accuracy")] for _, values in table.rows]
    assert accuracies == pytest.approx([*right, right.mean(), right.std(ddof=1)])
    assert f"deviation of {right.std(ddof=1):.4f}" in result.notes[0]
    assert numpy.sum(result.matrix.counts) == 44
    for words in (("--format", "markdown"), ("--output", tmp_path / "page.html")):
        assert nutshell("report", folder, *words)[0] == 0
    assert "{text}: it is (bad | boy)" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_validation_part_chooses_a_template(run):
    halves = ("prompt.calibration=train_median", "prompt.calibration_examples=20")  # of either answer, or F1 is 0 / 0
    every, _ = run(*halves, name="every")
    columns, folder = run(*halves, "prompt.choose=validation")
    result = read_result(folder)
    (table,) = result.tables
    accuracies = [values[0] for _, values in table.rows[:2]]
    best = int(numpy.argmax(accuracies))
    assert table.title == "Templates on the validation part" and result.validation["accuracy"] == max(accuracies)
    assert result.notes == [f'template {best + 1} of 2 was chosen on the validation part: "{table.rows[best][0]}"']
    numpy.testing.assert_allclose(columns["probabilities"], every["probabilities"][:, best], atol=1e-6)
    assert [one["text"] for one in state(folder)["templates"]] == [("{text}: it is", "Is {text}?")[best]]


def state(folder: Path) -> dict:
    return json.loads((folder / "model/prompt.json").read_text(encoding="utf-8"))


def test_shots_come_from_the_training_part_and_follow_from_the_seed(run, nutshell, file, place, tmp_path):
    with (place / "train.csv").open("a", newline="", encoding="utf-8") as stream:  # a text that is measured
        csv.writer(stream).writerows([*rows("test", 22), *rows("validation", 12)])
    short = ["data.max_tokens=8", "prompt.templates=['{text}=']", "prompt.answers={bad: b, good: g}", "prompt.shots=2"]
    _, folder = run(*short)
    shots = state(folder)["shots"]
    train = {text: ("bad", "good").index(label) for text, label in rows("train", 30)}
    assert len(shots) == 2 and all(train[text] == label for (text,), label in shots)
    assert sorted(label for _, label in shots) == [0, 1]
    _, again = run(*short, name="again")
    assert state(again)["shots"] == shots
    part = Part([(text,) for text in train], [*train.values()])
    parts = Parts(part, None, part.take([0, 1]), "here", None, "test", labels=("bad", "good"))
    draws = [templates.draw_shots(parts, 4, seed) for seed in range(20)]
    assert len({*draws}) == 20 and draws[:3] == [templates.draw_shots(parts, 4, seed) for seed in range(3)]
    assert not {text for draw in draws for text, _ in draw} & {*parts.test.texts}
    assert {tuple(label for _, label in draw) for draw in draws} >= {(0, 1, 1, 0), (0, 0, 1, 1)}  # in any order


def test_contextual_calibration_by_hand(run, causal):
    """p'(label) = p(label) / p_cf(label), made to sum to one."""
    from nutshell.models.language import build

    plain, _ = run()
    columns, folder = run("prompt.calibration=contextual", name="contextual")
    model, answers = build.load(causal["gpt2"]).eval(), (" bad", " boy")
    prompts = prompts_of(causal["gpt2"], Template("{text}: it is", answers), Template("Is {text}?", answers))
    free = numpy.exp([brute_force(model, prompts, text) for text in ("N/A", "", "[MASK]")])
    p_free = (free / free.sum(-1, keepdims=True)).mean(0)
    expected = plain["probabilities"] / p_free
    expected /= expected.sum(-1, keepdims=True)
    numpy.testing.assert_allclose(columns["probabilities"], expected, rtol=1e-4)
    assert not numpy.allclose(columns["probabilities"], plain["probabilities"], rtol=1e-2)
    assert read_result(folder).metrics["auc"].value == pytest.approx(
        read_result(folder.parents[1] / "films/seed-13").metrics["auc"].value
    )


def test_train_median_calibration_by_hand(run, place):
    """The threshold is the median of the log-odds of training texts; the test part is not looked at."""
    plain, _ = run()
    columns, folder = run("prompt.calibration=train_median", "prompt.calibration_examples=30", name="median")
    lines = (place / "test.csv").read_text(encoding="utf-8")
    (place / "test.csv").write_text((place / "train.csv").read_text(encoding="utf-8"), encoding="utf-8")
    with (place / "train.csv").open("a", newline="", encoding="utf-8") as stream:  # of which 30 are not measured
        csv.writer(stream).writerows(rows("other", 30))
    train, _ = run(name="train")
    (place / "test.csv").write_text(lines, encoding="utf-8")
    medians = numpy.median(log_odds(train), axis=0)
    numpy.testing.assert_allclose(numpy.array(state(folder)["offsets"])[:, 1], medians, rtol=1e-4)
    numpy.testing.assert_allclose(log_odds(columns), log_odds(plain) - medians, rtol=1e-4, atol=1e-5)


def log_odds(columns) -> numpy.ndarray:
    return numpy.log(columns["probabilities"][..., 1]) - numpy.log(columns["probabilities"][..., 0])


@pytest.mark.parametrize(
    "overrides", [("prompt.templates=['{text} is']", "prompt.calibration=contextual"), ("prompt.choose=validation",)]
)
def test_new_texts_are_answered_as_the_measured_ones(run, nutshell, place, tmp_path, overrides):
    columns, folder = run(*overrides)
    code, _, errors = nutshell("predict", folder, place / "test.csv", "--output", tmp_path / "answers.jsonl")
    assert code == 0, errors
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [answer["predicted"] for answer in answers] == [("bad", "good")[one] for one in columns["predicted"]]
    assert [answer["probability_good"] for answer in answers] == columns["probabilities"][:, 1].tolist()


def test_new_texts_get_the_templates_mean(run, nutshell, place, tmp_path):
    columns, folder = run()
    assert nutshell("predict", folder, place / "test.csv", "--output", tmp_path / "answers.csv")[0] == 0
    with (tmp_path / "answers.csv").open(encoding="utf-8") as stream:
        answers = [float(row["probability_bad"]) for row in csv.DictReader(stream)]
    assert answers == columns["probabilities"].mean(1)[:, 0].tolist()


def test_in_python_its_model_and_tokenizer_are_those_that_it_points_to(run, causal):
    import nutshell

    columns, folder = run("prompt.templates=['{text} is']")
    model = nutshell.load(folder)
    assert model.tokenizer("ß")["input_ids"] == prompts_of(causal["gpt2"], WORDINGS[0]).tokenizer.encode("ß").ids
    assert model.model.num_parameters() == read_result(folder).parameters.all
    answers = model.predict([text for text, _ in rows("test", 22)])
    assert answers["probability_good"] == columns["probabilities"][:, 1].tolist()


def test_a_changed_model_answers_nothing(run, nutshell, place, causal, tmp_path):
    import shutil

    own = tmp_path / "own"
    shutil.copytree(causal["gpt2"], own)
    _, folder = run(f"model.name={own}")
    (own / "config.json").write_text((own / "config.json").read_text() + " ")
    code, _, errors = nutshell("predict", folder, place / "test.csv")
    assert code == 2 and "its files have changed since" in errors


@pytest.mark.parametrize(
    ("truncate", "text", "kept"),
    [
        ("head", "abcdefghijkl", "abcdefgh"),
        ("tail", "abcdefghijkl", "efghijkl"),
        ("head_tail", "abcdefghijkl", "abcdijkl"),
        ("head", "abcdefg猫xyz", "abcdefg"),  # its three bytes would not fit
        ("tail", "abc猫efghijk", "efghijk"),
        ("head_tail", "abc猫efghi猫k", "abc猫k"),
        ("tail", "abcde fghijkl", "fghijkl"),
        ("head", "abcdefgh", "abcdefgh"),
    ],
)
def test_a_long_text_is_cut_and_nothing_else(causal, truncate, text, kept):
    """Tokens are bytes here; a character is kept whole or left out."""
    wording = Template("Film: {text}\nIt is", (" bad", " good"))
    prompts = prompts_of(causal["gpt2"], wording, max_tokens=8, truncate=truncate, shots=(((text,), 1),))
    assert prompts.cut([(text,)]) == [(kept,)]
    ((ids,),) = prompts.rows([(text,)])
    assert prompts.tokenizer.decode(ids.tolist()) == f"Film: {kept}\nIt is good\n\nFilm: {kept}\nIt is"


def test_braces_and_special_tokens_are_text(causal):
    prompts = prompts_of(causal["gpt2"], Template("{{a}} {text}", ("x", "y")), max_tokens=40)
    ((ids,),) = prompts.rows([("<|endoftext|> {text}",)])
    assert prompts.tokenizer.decode(ids.tolist()) == "{a} <|endoftext|> {text}" and prompts.start not in ids


def test_pairs(write, nutshell, small, tmp_path):
    file = write(
        "task: prompt\nseeds: [13]\nmodel: {name: CAUSAL}\ndata: {name: sample_pairs, path: SMALL, max_tokens: 30}\n"
        "prompt: {templates: ['{sentence1}={sentence2}?'], answers: {equivalent: ' yes', not_equivalent: ' no'}}\n",
        "prompts/pairs.yaml",
    )
    code, printed, errors = nutshell("show", file)
    assert code == 0 and "1 template, 0 shots, 2 labels: not_equivalent, equivalent" in printed, errors
    assert nutshell("run", file)[0] == 0
    result = read_result(tmp_path / "outputs/prompts/pairs/seed-13")
    assert [*result.metrics] == ["accuracy", "f1", "label_bits", "auc"] and result.facts["texts cut to 30 tokens"] == 20


BAD = {
    "no text": ("prompt.templates=['It is']", "prompt.templates.0: {text} is missing: where the text is"),
    "another text": (
        "prompt.templates=['{review} is']",
        "prompt.templates.0: {review} is no text of this data; it has",
    ),
    "a format": ("prompt.templates=['{text!r} is']", "prompt.templates.0: {text!r} is no text of this data"),
    "twice": ("prompt.templates=['{text} {text}']", "prompt.templates.0: {text} is in it twice"),
    "open brace": ("prompt.templates=['{text} {']", "prompt.templates.0: a brace is open or stands alone"),
    "a space": ("prompt.templates=['{text} is ']", "prompt.templates.0: ends with a space; tokens begin with one"),
    "none": ("prompt.templates=[]", "prompt.templates: expected a list with at least 1 entry"),
    "equal": ("prompt.templates=['{text}a', '{text}a']", "prompt.templates.1: is the same as template 0"),
    "a number": ("prompt.templates=[3]", "prompt.templates.0: expected text, not 3"),
    "empty answer": ("prompt.answers={bad: '', good: b}", "prompt.answers.bad: is empty"),
    "equal answers": ("prompt.answers={bad: b, good: b}", "prompt.answers.good: the same as that of bad"),
    "begins another": (
        "prompt.answers={bad: ' good enough', good: ' good'}",
        'prompt.answers: " good" begins " good enough", so it is always the more probable one',
    ),
    "unknown label": ("prompt.answers={bad: a, good: b, odd: c}", "prompt.answers.odd: no label of this data; it has"),
    "missing label": ("prompt.answers={bad: a}", "prompt.answers: the label good has none"),
    "space after": ("prompt.answers={bad: 'a ', good: b}", "prompt.answers.bad: ends with a space"),
    "no answers": ("prompt.answers=null", "prompt.templates.0: has no answers; state them in prompt.answers"),
    "own answers": (
        "prompt.templates=[{template: '{text} is', answers: {bad: x}}, '{text}']",
        "prompt.templates.0.answers: the label good has none",
    ),
    "too long": (
        "data.max_tokens=60",
        "template 1 has 7 tokens, its 0 shots 0, a text up to 60 and an answer 4: 71, more than the 64 positions of the "
        "model; state data.max_tokens 53",
    ),
    "too many shots": ("prompt.shots=4", "more than the 64 positions of the model; choose fewer prompt.shots"),
    "too long a template": (
        f"prompt.templates=['{{text}} {'long' * 15}']",
        "more than the 64 positions of the model; choose a shorter template",
    ),
    "more shots than examples": (
        "prompt.shots=40",
        "prompt.shots: 40 examples are 20 of each label, but the training part has 15 that are bad and in no other part",
    ),
    "odd shots": ("prompt.shots=3", "prompt.shots: 3 examples cannot be as many of each label"),
    "choose one": ("prompt.templates=['{text}']", "prompt.choose: there is one template, and nothing to choose"),
    "median of few": (
        "prompt.calibration=train_median",
        "prompt.calibration_examples: 100 are more than the 30 training examples that are neither shots nor an adapter's",
    ),
    "median of one": (
        "prompt.calibration_examples=1",
        "prompt.calibration_examples: should be greater than or equal to 2",
    ),
    "examples of nothing": ("prompt.calibration_examples=5", "only prompt.calibration: train_median looks at training"),
    "normalization": ("prompt.length_normalization=words", "prompt.length_normalization: expected 'none', 'tokens' or"),
    "a key": ("prompt.shot=1", "did you mean 'shots'?"),
    "training": ("training.learning_rate=1e-3", "training.learning_rate: nothing is trained without adapter"),
    "numbers": ("data={name: stsb}", "an answer is to a label, and the label of this data is a number"),
    "three labels": (
        "data.labels=[bad, good, odd]",
        "train_median is a threshold between two labels, and this data has 3",
    ),
    "reported": ("data.reported_examples=23", "data.reported_examples: 23 of a test part with 22 examples"),
    "band": ("reference={part: test, source: x, accurcy: [0, 1]}", "did you mean 'accuracy'?"),
    "seeds of nothing": ("seeds=[1, 2]", "seeds: all 2 would give the same figures, since nothing is drawn"),
    "an encoder": ("model.name=minilm", "is a bert checkpoint"),
}
ALSO = {
    "median of one": ["prompt.calibration=train_median"],
    "choose one": ["prompt.choose=validation"],
    "numbers": ["prompt.templates=['{sentence1}{sentence2}']"],
    "three labels": ["prompt.calibration=train_median", "prompt.answers={bad: a, good: b, odd: c}"],
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_refused(file, nutshell, tmp_path, kind):
    word, message = BAD[kind]
    for command in ("show", "run"):
        code, _, errors = nutshell(command, file, word, *ALSO.get(kind, []))
        assert code == 2 and message in errors, errors
    assert not (tmp_path / HOME).exists()


@pytest.mark.parametrize("key", ["length_normalization=tokens", "calibration=contextual"])
def test_an_answer_that_begins_another_can_lose_when_scores_are_divided_or_calibrated(file, nutshell, key):
    code, _, errors = nutshell("show", file, "prompt.answers={bad: ' good enough', good: ' good'}", f"prompt.{key}")
    assert code == 0, errors


def test_what_the_data_refuses(file, nutshell, place):
    """Labels that only the files tell; a validation part that is not there, or is the one that is reported."""
    code, _, errors = nutshell("show", file, "data.labels=null", "prompt.answers={good: a, fair: b}")
    assert code == 2 and "prompt.answers.fair: no label of this data; it has bad, good" in errors
    (place / "validation.csv").rename(place / "kept")
    code, _, errors = nutshell("show", file, "prompt.choose=validation")
    assert code == 2 and "prompt.choose: table has none; hold some training examples out" in errors
    assert nutshell("show", file, "prompt.choose=validation", "data.validation_examples=10")[0] == 0
    (place / "test.csv").unlink()
    (place / "kept").rename(place / "validation.csv")
    code, _, errors = nutshell("show", file, "prompt.choose=validation")
    assert code == 2 and "prompt.choose: the validation part is what is reported" in errors


def test_answers_that_are_the_same_tokens(write, nutshell, place, causal, tmp_path):
    """A tokenizer that lower-cases knows no difference between Yes and yes."""
    import shutil

    own = tmp_path / "own"
    shutil.copytree(causal["gpt2"], own)
    tree = json.loads((own / "tokenizer.json").read_text(encoding="utf-8"))
    tree["normalizer"] = {"type": "Lowercase"}
    (own / "tokenizer.json").write_text(json.dumps(tree), encoding="utf-8")
    file = write(YAML.replace("PLACE", str(place)).replace("CAUSAL", str(own)), "prompts/films.yaml")
    code, _, errors = nutshell("show", file, "prompt.answers={bad: ' Yes', good: ' yes'}")
    assert code == 2 and 'prompt.answers: " yes" is to this tokenizer the same as " Yes"' in errors
