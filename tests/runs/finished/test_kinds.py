"""Every kind of classifier answers as it was measured, to the last bit."""

import csv

import numpy
import pytest

import nutshell as library
from nutshell.bits.figures import units
from nutshell.data import labelled
from nutshell.models.classifiers import encoders
from tests.conftest import SMALL_YAML
from tests.models.classifiers import tiny as tiny_models

TABLE = "{name: table, path: FILE, texts: [review], label: stars, validation_examples: 12, test_examples: 15, KEYS}"
WORDS = ("dull", "slow", "fine", "warm", "clever", "loud", "bright", "long", "short", "odd")
STARS = ("one", "three", "two")


@pytest.fixture
def rows(tmp_path):
    """Writes a table of short reviews; returns the file."""

    def _rows(star) -> str:
        file, draw = tmp_path / "reviews.csv", numpy.random.default_rng(0)
        with file.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("stars", "review"))
            for number in range(90):
                writer.writerow((star(number), " ".join(draw.choice(WORDS, draw.integers(1, 12))) + f" {number}"))
        return str(file)

    return _rows


def measured(outcome) -> tuple[dict, dict]:
    """What a run recorded of its measured part, and what is answered to those texts now."""
    (folder,), trained = outcome.folders.values(), library.load(outcome.folder)
    texts = labelled.load(trained.experiment.data).reported.texts
    return units.read(folder).columns, trained.predict([text if len(text) > 1 else text[0] for text in texts])


def test_three_classes(rows, write, tmp_path):
    data = TABLE.replace("FILE", rows(lambda number: STARS[number % 3])).replace("KEYS", "max_tokens: 16")
    text = SMALL_YAML.replace(SMALL_YAML.split("\n")[3], f"data: {data}")
    recorded, answers = measured(library.run(write(text, "tables/stars.yaml"), output=tmp_path / "outputs"))
    assert list(answers) == ["predicted", *(f"probability_{name}" for name in STARS)]
    assert answers["predicted"] == [STARS[number] for number in recorded["predicted"]]
    for place, name in enumerate(STARS):
        assert answers[f"probability_{name}"] == [row[place] for row in recorded["probabilities"]]


def test_numbers(rows, write, nutshell, tmp_path):
    data = TABLE.replace("FILE", rows(lambda number: number / 30)).replace("KEYS", "target: number, max_tokens: 16")
    text = SMALL_YAML.replace(SMALL_YAML.split("\n")[3], f"data: {data}")
    outcome = library.run(write(text, "tables/numbers.yaml"), seeds=[1], output=tmp_path / "outputs")
    recorded, answers = measured(outcome)
    assert answers == {"predicted": recorded["predicted"].tolist()} and len({*answers["predicted"]}) > 1
    code, printed, errors = nutshell("predict", outcome.folder, tmp_path / "reviews.csv")
    assert code == 0, errors
    assert printed.splitlines()[0] == "stars,review,predicted" and len(printed.splitlines()) == 91


def test_adapters(write, tmp_path):
    words = {"model.lora": {"rank": 2, "alpha": 4}, "training.learning_rate": 0.01}
    recorded, answers = measured(library.run(write(SMALL_YAML), words, output=tmp_path))
    assert answers["probability_equivalent"] == [row[1] for row in recorded["probabilities"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_every_encoder(name, write, tmp_path):
    model = tiny_models.make(name, tmp_path / "model")
    words = {"model.name": str(model), "data.max_tokens": 40, "training.learning_rate": 0.01}
    recorded, answers = measured(library.run(write(SMALL_YAML), words, output=tmp_path / "outputs"))
    assert answers["probability_equivalent"] == [row[1] for row in recorded["probabilities"]]
    assert numpy.std(answers["probability_equivalent"]) > 1e-4
