"""Each mistake a user can make: one clear message, exit code 2, nothing left behind."""

import shutil

import pytest

from tests.conftest import PAIRS_YAML


def replaced(old: str, new: str) -> str:
    assert old in PAIRS_YAML
    return PAIRS_YAML.replace(old, new)


FILES = {
    "unknown top key": (PAIRS_YAML + "modle: {}\n", ["pairs.yaml:6", "'modle' is not known; did you mean 'model'"]),
    "unknown training key": (
        replaced("max_steps: 2", "learning_rat: 1"),
        ["unknown key in training", "'learning_rat' is not known; did you mean 'learning_rate'?"],
    ),
    "learning rate in words": (
        replaced("max_steps: 2", "learning_rate: fast"),
        ["pairs.yaml:5: training.learning_rate: expected a number, not 'fast'"],
    ),
    "infinite epochs": (
        replaced("max_steps: 2", "num_train_epochs: .inf"),
        ["training.num_train_epochs: expected a finite number, not .inf"],
    ),
    "negative epochs": (
        replaced("max_steps: 2", "num_train_epochs: -1"),
        ["training.num_train_epochs: should be greater than 0, not -1"],
    ),
    "no such choice": (
        replaced("eval_strategy: epoch", "eval_strategy: epoc"),
        ["training.eval_strategy: expected 'no', 'steps' or 'epoch', not 'epoc'; did you mean 'epoch'?"],
    ),
    "two batch sizes": (
        PAIRS_YAML + "global_batch_size: 16\n",
        [
            "pairs.yaml:5: training.per_device_train_batch_size: follows from global_batch_size and the launch",
            "state one of them, the other null",
        ],
    ),
    "a global batch of nothing": (
        PAIRS_YAML + "global_batch_size: 0\n",
        ["global_batch_size: should be greater than or equal to 1, not 0"],
    ),
    "an order that follows from the processes": (
        replaced("max_steps: 2", "train_sampling_strategy: batch_rebalance"),
        ["expected 'random', 'sequential' or 'group_by_length', not 'batch_rebalance'"],
    ),
    "a list": ("- task: classify\n", ["an experiment is a mapping", "but the file is a list"]),
    "nothing": ("", ["the file is empty"]),
    "not YAML": ("task: [classify\n", ["pairs.yaml:", "not valid YAML"]),
    "a key twice": (PAIRS_YAML + "task: classify\n", ["not valid YAML", "duplicate key"]),
    "precision in training": (
        replaced("max_steps: 2", "bf16: true"),
        ["training.bf16 does not belong in an experiment", "accelerate_config.yaml"],
    ),
    "precision at the top": (PAIRS_YAML + "mixed_precision: bf16\n", ["mixed_precision does not belong", "accelerate"]),
    "a seed in training": (
        replaced("max_steps: 2", "seed: 3"),
        ["training.seed does not belong", "`seeds:` at the top"],
    ),
    "an output folder": (
        replaced("max_steps: 2", "output_dir: x"),
        ["training.output_dir does not belong", "--output"],
    ),
    "a token in training": (replaced("max_steps: 2", "hub_token: x"), ["hub_token does not belong", "leaked key"]),
    "the same seed twice": (replaced("[13]", "[13, 13]"), ["seeds: a seed is in it twice"]),
    "no seeds": (replaced("seeds: [13]\n", ""), ["seeds is missing"]),
    "unknown task": (
        replaced("task: classify", "task: clasify"),
        [
            "task: expected one of classify, code_length, compress, generate, language_model, prompt, not 'clasify'; did you mean 'classify'?"
        ],
    ),
    "unknown data set": (replaced("sample_pairs", "sample_pear"), ["not 'sample_pear'; did you mean 'sample_pairs'?"]),
    "a branch, not a commit": (
        replaced("name: TINY", "name: a/b, revision: main"),
        ["model.revision: expected a commit of 40 hexadecimal digits", "not 'main'"],
    ),
    "revision of embedded data": (
        replaced("max_tokens: 64", f"revision: {'a' * 40}"),
        ["data.revision: sample_pairs is embedded and has no revision"],
    ),
    "revision and path": (
        replaced("name: sample_pairs", f"name: mrpc, path: x, revision: {'a' * 40}"),
        ["data.revision is a commit on the Hub and data.path a folder"],
    ),
    "layers in words": (replaced("name: TINY", "name: TINY, trainable: top"), ["expected all, head or last_<n>"]),
    "too few tokens": (
        replaced("max_tokens: 64", "max_tokens: 2"),
        ["data.max_tokens: should be greater than or equal"],
    ),
    "a band without a source": (PAIRS_YAML + "reference: {accuracy: [0.8, 0.9]}\n", ["reference.source is missing"]),
    "a band upside down": (
        PAIRS_YAML + "reference: {source: x, accuracy: [0.9, 0.8]}\n",
        ["reference.accuracy: a band is [lowest, highest], not [0.9, 0.8]"],
    ),
    "a band for another metric": (
        replaced("sample_pairs", "sample_reviews") + "reference: {source: x, f1: [0.8, 0.9]}\n",
        ["reference.f1: sample_reviews is measured by accuracy, label_bits"],
    ),
    "an unknown best metric": (
        replaced("max_steps: 2", "metric_for_best_model: acuracy"),
        ["'acuracy' is not known; did you mean 'accuracy'?"],
    ),
    "a best metric the wrong way round": (
        replaced("max_steps: 2", "metric_for_best_model: label_bits"),
        ["training.greater_is_better: must be false where the metric is label_bits"],
    ),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("command", ["run", "show"])
def test_experiment_file(case, command, write, nutshell, tmp_path):
    text, messages = FILES[case]
    code, _, err = nutshell(command, write(text))
    assert code == 2
    for words in messages:
        assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "outputs").exists()


def test_all_problems_at_once(write, nutshell):
    text = PAIRS_YAML.replace("max_steps: 2", "learning_rate: fast, bf16: true").replace(
        "max_tokens: 64", "max_token: 64"
    )
    code, _, err = nutshell("show", write(text), "seeds=[]", "reference.f1=[1,0]", "reference.source=x")
    assert code == 2
    for words in ("learning_rate", "bf16", "'max_token'", "command line, seeds=[]", "reference.f1"):
        assert words in err


def test_two_files_with_problems(write, nutshell):
    first = write(FILES["learning rate in words"][0], "a/first.yaml")
    code, _, err = nutshell("run", first, write(FILES["negative epochs"][0], "a/second.yaml"))
    assert code == 2 and "first.yaml:5" in err and "second.yaml:5" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training.learning_rate=fast"], "command line, training.learning_rate=fast"),
        (["training.learning_rat=1"], "did you mean 'learning_rate'?"),
        (["data.name.x=1"], "name is a value, not a block"),
        (["training.learning_rate=[1"], "command line, training.learning_rate=[1: not valid YAML"),
        (["training.bf16=true"], "accelerate_config.yaml"),
    ],
)
def test_override(words, message, write, nutshell):
    code, _, err = nutshell("run", write(), *words)
    assert code == 2 and message in err


def test_missing_file_names_the_nearest(write, nutshell):
    code, _, err = nutshell("run", write().with_name("pears.yaml"))
    assert code == 2 and "no such file; did you mean" in err and "pairs.yaml?" in err


def test_file_that_is_not_text(write, nutshell):
    file = write()
    file.write_bytes(b"task: \xff\n")
    code, _, err = nutshell("run", file)
    assert code == 2 and "is not UTF-8 text" in err


def test_no_file(nutshell):
    code, _, err = nutshell("run", "training.max_steps=1")
    assert code == 2 and "no experiment file" in err


def test_two_experiments_with_one_place(write, nutshell, tmp_path):
    other = tmp_path / "elsewhere" / "finetune" / "pairs.yaml"
    other.parent.mkdir(parents=True)
    shutil.copy(write(), other)
    code, _, err = nutshell("run", write(), other)
    assert code == 2 and "its results would be in" in err


def test_arguments_that_trainer_refuses(write, nutshell):
    text = replaced("max_steps: 2", "load_best_model_at_end: true, save_strategy: steps")
    code, _, err = nutshell("run", write(text))
    assert code == 2 and "training:" in err and "load_best_model_at_end" in err


@pytest.mark.parametrize(
    "settings",
    [
        "lr_scheduler_type: cosine_with_min_lr",
        "lr_scheduler_kwargs: {foo: 1}",
        "optim: adamw_bnb_8bit",
    ],
)
def test_optimizer_or_schedule_that_cannot_be_made(settings, write, nutshell, tmp_path):
    code, _, err = nutshell("run", write(replaced("max_steps: 2", f"max_steps: 2, {settings}")))
    assert code == 2 and "training: optimizer or schedule cannot be made" in err
    assert not list((tmp_path / "outputs").rglob("*.yaml"))


def test_divergence(write, nutshell, tmp_path):
    code, _, err = nutshell("run", write(replaced("max_steps: 2", "max_steps: 4, learning_rate: 1e30")))
    assert code == 2 and "training diverged" in err
    assert not list((tmp_path / "outputs").rglob("metrics.json"))


def test_unknown_option(write, nutshell):
    code, _, err = nutshell("run", write(), "--sed", 1)
    assert code == 2 and "unrecognized arguments: --sed" in err


# The results' folder


def test_occupied_folder(write, nutshell, tmp_path):
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    seed.mkdir(parents=True)
    (seed / "thesis.txt").write_text("mine")
    for more in ([], ["--force"]):
        code, _, err = nutshell("run", write(), *more)
        assert code == 2 and "files that no run has written" in err
    assert (seed / "thesis.txt").read_text() == "mine"


def test_outputs_that_cannot_be_written(write, nutshell, tmp_path):
    (tmp_path / "outputs").write_text("a file where the folder should be")
    code, _, err = nutshell("run", write())
    assert code == 2 and "outputs" in err and "--output" in err


@pytest.mark.parametrize("content", ["", "task: [", "- 1"])
def test_a_folder_whose_experiment_is_damaged(content, write, nutshell, tmp_path):
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    seed.mkdir(parents=True)
    (seed / "experiment.yaml").write_text(content)
    code, _, err = nutshell("run", write())
    assert code == 2 and "cannot be read as an experiment" in err


def test_force_keeps_the_old_run_until_the_new_one_can_begin(write, nutshell, result):
    assert nutshell("run", write())[0] == 0
    before = result()
    assert nutshell("run", write(), "--force", "data.path=nowhere")[0] == 2
    assert nutshell("run", write(), "--force", "model.trainable=last_9")[0] == 2
    assert result() == before
