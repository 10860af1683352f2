"""nutshell as a library: what the commands do, with values in Python and errors that a program can catch."""

import os
import subprocess
import sys

import numpy
import pandas
import pytest

import nutshell as library
from nutshell.report.results.result import read_result
from tests.conftest import PROMPTS_YAML, SMALL_YAML, TEXT_YAML


def test_importing_it_imports_no_heavy_library():
    code = (
        "import sys, nutshell; print(sorted({*dir(nutshell)} & {'load', 'run', 'UserError'})); "
        "nutshell.load; print({'torch', 'transformers', 'datasets', 'scipy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['UserError', 'load', 'run']", "set()"]
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        library.runn  # noqa: B018


def test_run_is_the_command(write, nutshell, tmp_path):
    """The same folder for either: what one has finished the other finds complete."""
    file, output = write(SMALL_YAML), tmp_path / "outputs"
    outcome = library.run(file, {"training.learning_rate": 3e-5, "data.truncate": "tail"}, seeds=[1, 2], output=output)
    assert outcome.folder == output / "finetune/pairs" and outcome.summary.seeds == [1, 2]
    accuracy = outcome.metrics["accuracy"]
    assert accuracy.interval_95[0] <= accuracy.mean <= accuracy.interval_95[1] and {*accuracy.by_seed} == {1, 2}
    for seed, folder in outcome.folders.items():
        result = read_result(folder)
        assert outcome.results[seed] == result and result.metrics["accuracy"].value == accuracy.by_seed[seed]
        assert result.experiment["training"]["learning_rate"] == 3e-5
        assert "training.learning_rate=3e-05 data.truncate=tail" in result.command.replace('"', "").replace("'", "")
    words = ("training.learning_rate=3e-5", "data.truncate=tail", "--seeds", "1-2")
    code, _, errors = nutshell("run", file, *words)
    assert code == 0 and errors.count("complete, nothing to run") == 2, errors
    assert library.run(file, {"training.learning_rate": 3e-5, "data.truncate": "tail"}, seeds=[2], output=output)


def test_units_are_a_table(write, tmp_path):
    outcome = library.run(write(SMALL_YAML), seeds=[1, 2], output=tmp_path)
    frame = pandas.DataFrame(outcome.units)
    assert len(frame) == 40 and frame["unit"].tolist() == [*range(20)] * 2
    right = (frame["label"] == frame["predicted"]).groupby(frame["seed"]).mean()
    assert right.to_dict() == outcome.metrics["accuracy"].by_seed
    assert frame["nats"].mean() / numpy.log(2) == pytest.approx(outcome.metrics["label_bits"].mean)
    assert all(len(row) == 2 for row in frame["probabilities"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"training.learning_rat": 3e-5}, ["training.learning_rat=3e-05"]),
        ({"training.learning_rate": "fast"}, ['training.learning_rate="fast"']),
        ({"data.max_tokens": 4, "model.name": "nowhere"}, ["data.max_tokens=4", 'model.name="nowhere"']),
        ({"seeds": []}, ["seeds=[]"]),
        ({"model.name": "nowhere"}, ['model.name="nowhere"']),
    ],
)
def test_it_refuses_what_the_command_refuses(overrides, words, write, nutshell, tmp_path):
    file = write(SMALL_YAML)
    code, _, errors = nutshell("run", file, *words)
    with pytest.raises(library.UserError) as refusal:
        library.run(file, overrides, output=tmp_path / "outputs")
    assert code == 2 and errors == f"nutshell: {refusal.value}\n"


def test_a_folder_with_another_experiment_is_refused(write, tmp_path):
    file = write(SMALL_YAML)
    library.run(file, output=tmp_path)
    with pytest.raises(library.UserError, match=r"holds another experiment; data.max_tokens: 64 there, 32 here"):
        library.run(file, {"data.max_tokens": 32}, output=tmp_path)
    assert library.run(file, {"data.max_tokens": 32}, output=tmp_path, force=True).summary.seeds == [13]


def test_load_a_classifier(write, tmp_path):
    import torch

    folder = library.run(write(SMALL_YAML), output=tmp_path).folder
    loaded = library.load(folder)
    assert loaded.folders == [folder.resolve() / "seed-13"] and loaded.experiment.data.max_tokens == 64
    pair = ("It rained in Bern.", "In Bern it rained.")
    inputs = loaded.tokenizer(*pair, return_tensors="pt")
    assert not loaded.model.training and loaded.model.dtype == torch.float32
    with torch.no_grad():
        expected = loaded.model(**inputs).logits.softmax(-1)[0].tolist()
    answer = loaded.predict([pair])
    names = ("not_equivalent", "equivalent")
    assert [answer[f"probability_{name}"][0] for name in names] == pytest.approx(expected, abs=1e-6)
    assert answer["predicted"] == [names[expected.index(max(expected))]]
    assert loaded.predict([]) == {"predicted": [], **{f"probability_{name}": [] for name in names}}
    with pytest.raises(library.UserError, match="gives texts no probability"):
        loaded.score(["a text"])


def test_load_a_language_model(write, tmp_path):
    loaded = library.load(library.run(write(TEXT_YAML), output=tmp_path).folder)
    scores = loaded.score(["It rained.", "ßßß"])
    assert scores["tokens"] == [10, 6] and min(scores["nats"]) > 0
    with pytest.raises(library.UserError, match=r"texts\[0\]: text is a number, expected text"):
        loaded.score([5])
    with pytest.raises(library.UserError, match="expected a list of texts, not a text"):
        loaded.score("It rained.")


def test_load_what_is_none(write, tmp_path):
    with pytest.raises(library.UserError, match="no such folder"):
        library.load(tmp_path / "nowhere")
    with pytest.raises(library.UserError, match="holds no run"):
        library.load(tmp_path)
    outcome = library.run(write(PROMPTS_YAML), output=tmp_path)
    loaded = library.load(outcome.folder)
    with pytest.raises(library.UserError, match="task: generate saves no model"):
        _ = loaded.model
    with pytest.raises(library.UserError, match="task: generate gives texts no probability"):  # before it loads one
        loaded.answer_file("score", "nowhere.txt", None, (), None)
