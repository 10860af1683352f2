"""What an experiment file may say, and where its results land."""

import pytest

from nutshell.experiment import load as loading
from nutshell.experiment import training_keys
from nutshell.tasks.task import tasks
from tests.conftest import PAIRS_YAML, ROOT


def load(file, overrides=()):
    """The experiment of a file."""
    return loading.load(file, overrides, tasks())


def test_yaml_1_2(write):
    """`2e-5` is a number, `no` is a word, and a whole number will do for a float."""
    text = PAIRS_YAML.replace("max_steps: 2", "learning_rate: 2e-5, num_train_epochs: 3").replace("epoch}", "no}")
    training = load(write(text)).training
    assert training["learning_rate"] == 2e-5 and training["eval_strategy"] == "no"
    assert training["num_train_epochs"] == 3.0 and isinstance(training["num_train_epochs"], float)


def test_overrides(write):
    words = ["training.learning_rate=2e-5", "seeds=[1, 2]", "data.truncate=tail", "reference={part: test, source: x}"]
    experiment = load(write(), words)
    assert experiment.training["learning_rate"] == 2e-5 and experiment.seeds == [1, 2]
    assert experiment.data.truncate == "tail" and experiment.reference.source == "x"


def test_merge_keys(write):
    text = PAIRS_YAML.replace("training: {max_steps: 2,", "training: {<<: {max_steps: 7},")
    assert load(write(text)).training["max_steps"] == 7


def test_place_follows_from_the_path(write, tmp_path, monkeypatch):
    assert str(load(write(name="finetune/mine.yaml")).place) == "finetune/mine"
    monkeypatch.chdir(tmp_path / "experiments" / "finetune")
    assert str(load("mine.yaml").place) == "finetune/mine"


def test_a_seed_s_experiment(write):
    plain = load(write()).resolved(7)
    assert plain["seed"] == 7 and "seeds" not in plain and plain["data"]["truncate"] == "head"


def test_training_keys_are_training_arguments_own():
    """Every field is either allowed, with its own default and as its own type, or refused with a reason."""
    from dataclasses import MISSING, fields

    from transformers import TrainingArguments

    own = {field.name: field for field in fields(TrainingArguments) if field.init}
    allowed = training_keys.defaults()
    assert set(allowed) == set(own) - set(training_keys.REFUSED)
    for name, value in allowed.items():
        assert own[name].default is MISSING or own[name].default == value, name


@pytest.mark.parametrize("name", sorted(training_keys.defaults()))
def test_every_default_passes_its_own_check(name):
    value = training_keys.defaults()[name]
    if (name, value) != ("max_steps", -1):  # its way of saying unset
        training_keys.schema().model_validate({name: value})


def test_another_model_does_not_keep_the_file_s_revision():
    file = ROOT / "experiments" / "finetune" / "mrpc.yaml"
    assert load(file).model.revision and load(file, ["model.name=minilm"]).model.revision is None
    assert load(file, ["model.name=a/b", f"model.revision={'a' * 40}"]).model.revision == "a" * 40
