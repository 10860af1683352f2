"""Each mistake a user can make: one clear message, exit code 2, nothing left behind."""

import json
import shutil

import pytest
import torch

from nutshell.models import classifier as bert
from nutshell.models import find as models
from tests.conftest import PAIRS_YAML, PROMPTS_YAML, TEXT_YAML

TWO_PAIRS = [
    {"sentence1": "It rained.", "sentence2": "Rain fell.", "label": 1},
    {"sentence1": "It rained.", "sentence2": "It snowed.", "label": 0},
]


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
        ["pairs.yaml:5: training.learning_rate: should be a valid number, not 'fast'"],
    ),
    "infinite epochs": (
        replaced("max_steps: 2", "num_train_epochs: .inf"),
        ["training.num_train_epochs: should be a finite number"],
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
    "the same seed twice": (replaced("[13]", "[13, 13]"), ["seeds: a seed stands in it twice"]),
    "no seeds": (replaced("seeds: [13]\n", ""), ["seeds is missing"]),
    "unknown task": (
        replaced("task: classify", "task: clasify"),
        ["task: expected one of classify, language_model, generate, not 'clasify'"],
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
    text, said = FILES[case]
    code, _, err = nutshell(command, write(text))
    assert code == 2
    for words in said:
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
    ("words", "said"),
    [
        (["training.learning_rate=fast"], "command line, training.learning_rate=fast"),
        (["training.learning_rat=1"], "did you mean 'learning_rate'?"),
        (["data.name.x=1"], "name is a value, not a block"),
        (["training.learning_rate=[1"], "the value is not valid YAML"),
        (["training.bf16=true"], "accelerate_config.yaml"),
    ],
)
def test_override(words, said, write, nutshell):
    code, _, err = nutshell("run", write(), *words)
    assert code == 2 and said in err


def test_missing_file_names_the_nearest(write, nutshell):
    code, _, err = nutshell("run", write().with_name("pears.yaml"))
    assert code == 2 and "no such file; did you mean" in err and "pairs.yaml?" in err


def test_folder_for_a_file(write, nutshell):
    code, _, err = nutshell("run", write().parent)
    assert code == 2 and "is a folder; name an experiment file in it" in err


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
    assert code == 2 and "its results would land in" in err


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


def test_one_example_to_measure_on(write, nutshell, tmp_path):
    for part, rows in (("train", TWO_PAIRS), ("test", TWO_PAIRS[:1])):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}", "training.eval_strategy=no")
    assert code == 2 and "the test part has 1 example" in err


def test_unknown_option(write, nutshell):
    code, _, err = nutshell("run", write(), "--sed", 1)
    assert code == 2 and "unrecognized arguments: --sed" in err


def test_evaluation_without_a_validation_part(write, nutshell, tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TWO_PAIRS))
    for command in ("run", "show"):
        code, _, err = nutshell(command, write(), f"data.path={tmp_path}")
        assert code == 2 and "has no validation part with labels" in err and "data.validation_examples" in err


# Data


def rows(*changed: dict) -> list[dict]:
    return TWO_PAIRS + [{**TWO_PAIRS[0], **row} for row in changed]


def without_a_label(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "label"}


JSON_FAULTS = {
    "missing column": ([without_a_label(TWO_PAIRS[0])], "train.jsonl: row 1: missing column label"),
    "extra column": ([{**TWO_PAIRS[0], "score": 1}], "train.jsonl: row 1: extra column score"),
    "columns change": (rows({"idx": 3}), "train.jsonl: row 3: columns"),
    "empty text": (rows({"sentence2": "  "}), "train.jsonl: row 3: sentence2 is empty"),
    "text that is no Unicode": (rows({"sentence1": "\ud800"}), "train.jsonl: row 3: sentence1 is not valid Unicode"),
    "label with two signs": (rows({"label": "--1"}), "train.jsonl: row 3: label '--1' is outside the set"),
    "text that is none": (rows({"sentence1": None}), "train.jsonl: row 3: sentence1 is empty"),
    "label outside the set": (rows({"label": 2}), "train.jsonl: row 3: label 2 is outside the set 0 (not_equivalent)"),
    "label in words": (rows({"label": "yes"}), "train.jsonl: row 3: label 'yes' is outside the set"),
    "label missing among others": (rows({"label": -1}), "train.jsonl: row 3: label -1 (no label)"),
    "empty part": ([], "train.jsonl: the train part is empty"),
}
TSV_HEAD = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
RAW_FAULTS = {
    "train.tsv": [
        (TSV_HEAD + "1\t1\t2\tIt rained.\n", "train.tsv: row 2: has 4 fields, the header 5"),
        (TSV_HEAD + "1\t1\t2\ta\tb\tc\n", "train.tsv: row 2: has 6 fields, the header 5"),
        (TSV_HEAD + "1\t1\t2\ta\tb\n\n1\t1\t2\ta\tb\n", "train.tsv: row 3: has 1 fields"),
        (TSV_HEAD.encode() + b"1\t1\t2\tcaf\xe9\tb\n", "train.tsv: row 2: not UTF-8 text (byte 0xe9)"),
        (TSV_HEAD, "train.tsv: the train part is empty"),
    ],
    "train.csv": [
        ("sentence1,sentence2,label,label\na,b,1,0\n", "train.csv: row 1: column label stands in it twice"),
        ("sentence1,sentence2,label\na,b\n", "train.csv: row 2: has 2 fields, the header 3"),
        ('sentence1,sentence2,label\n"a,b,1\n', "train.csv: row 2: not valid CSV"),
    ],
    "train.jsonl": [
        ('{"sentence1": \n', "train.jsonl: row 1: not valid JSON"),
        ("[1, 2]\n", "train.jsonl: row 1: expected an object"),
    ],
    "train.parquet": [("not parquet", "train.parquet: not a readable parquet file")],
}


@pytest.mark.parametrize("case", JSON_FAULTS)
def test_faulty_rows(case, write, nutshell, tmp_path):
    content, said = JSON_FAULTS[case]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 2 and said in err


@pytest.mark.parametrize(("name", "content", "said"), [(n, *case) for n, cases in RAW_FAULTS.items() for case in cases])
def test_faulty_files(name, content, said, write, nutshell, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 2 and said in err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "holds no training part of sample_pairs; known layouts"),
        (["train"], "has no validation and no test part"),
        (["train", "dev", "validation"], "holds the validation part more than once"),
    ],
)
def test_missing_parts(names, said, write, nutshell, tmp_path):
    for name in names:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TWO_PAIRS))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 2 and said in err


def test_more_examples_than_there_are(write, nutshell):
    code, _, err = nutshell("show", write(), "data.train_examples=500", "data.validation_examples=100")
    assert code == 2 and "more than the 420 training examples" in err


def test_data_folder_that_is_not_there(write, nutshell, monkeypatch):
    code, _, err = nutshell("show", write(), "data.path=nowhere")
    assert code == 2 and "nowhere: no such folder (data.path names it)" in err
    monkeypatch.setenv("NUTSHELL_DATA", "nowhere")
    code, _, err = nutshell("show", write(), "data.name=mrpc")
    assert code == 2 and "nowhere/mrpc: no such folder (NUTSHELL_DATA names it)" in err


def test_shared_examples_are_a_warning(write, nutshell, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TWO_PAIRS))
    code, _, err = nutshell("show", write(), f"data.path={tmp_path}")
    assert code == 0 and "2 of the 2 validation examples stand in the training part too" in err


# Models


def checkpoint(tiny, tmp_path, **config):
    folder = shutil.copytree(tiny, tmp_path / "checkpoint")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "but pytorch_model.bin; weights in a pickle are not loaded",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "config.json").unlink(), "holds no checkpoint"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: expected a JSON object"),
        (lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {}}'), "names code of its own (auto_map)"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "not a tokenizer"),
    ],
)
def test_faulty_checkpoint(change, said, tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path)
    change(folder)
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and said in err


def test_remote_code(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, auto_map={"AutoModel": "modeling.Mine"})
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "auto_map" in err and "not run" in err


def test_another_architecture(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, model_type="roberta")
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "is a roberta checkpoint; this task runs bert" in err


def test_truncated_weights(tiny, write, nutshell, tmp_path):
    file = checkpoint(tiny, tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    code, _, err = nutshell("run", write(), f"model.name={file.parent}")
    assert code == 2 and str(file.parent) in err and "cannot be read" in err and "Traceback" not in err


def test_missing_layers(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, num_hidden_layers=3)
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "lacks weights of the encoder" in err


def test_weights_of_another_shape(tiny, write, nutshell, tmp_path):
    folder = checkpoint(tiny, tmp_path, intermediate_size=65)
    code, _, err = nutshell("run", write(), f"model.name={folder}")
    assert code == 2 and "do not fit 2 labels or its own config" in err


def test_no_model_there(write, nutshell):
    code, _, err = nutshell("run", write(), "model.name=google-bert/bert-base-uncased")
    assert code == 2 and "no folder here" in err and "model.revision" in err


def test_more_layers_than_there_are(write, nutshell):
    code, _, err = nutshell("run", write(), "model.trainable=last_3")
    assert code == 2 and "last_3, but the model has 2 layers" in err


def test_more_tokens_than_positions(tiny, write, nutshell):
    code, _, err = nutshell("run", write(), "data.max_tokens=513")
    assert code == 2 and "513 is more than the 512 positions" in err


def test_wrong_digest_of_the_embedded_weights(write, nutshell, monkeypatch):
    monkeypatch.setattr(models, "MINILM_SHA256", "0" * 64)
    code, _, err = nutshell("run", write(), "model.name=minilm")
    assert code == 2 and "sha256 is 53aa51172d" in err and "not the published 0000" in err


def test_embedded_package_not_installed(write, nutshell, monkeypatch):
    monkeypatch.setattr(models, "MINILM_PACKAGE", "not-installed")
    code, _, err = nutshell("run", write(), "model.name=minilm")
    assert code == 2 and "not installed" in err and "requirements.txt" in err


def test_a_head_for_other_labels(tiny, write, nutshell, tmp_path):
    torch.manual_seed(0)
    bert.load(tiny, ("negative", "positive")).save_pretrained(tmp_path / "reviews")
    shutil.copy(tiny / "tokenizer.json", tmp_path / "reviews")
    code, _, err = nutshell("run", write(), f"model.name={tmp_path / 'reviews'}")
    assert code == 2 and "its head tells ['negative', 'positive'] apart" in err


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


# Language models and prompts

LANGUAGE = TEXT_YAML.replace(
    "model: {name: CAUSAL}", "model: {config: {model_type: gpt2, n_embd: 8}, tokenizer: bytes}"
)
CAUSAL_FILES = {
    "neither a checkpoint nor a config": (
        LANGUAGE.replace("config: {model_type: gpt2, n_embd: 8}, tokenizer: bytes", ""),
        ["prompts.yaml:3: model: state either name, a checkpoint, or config"],
    ),
    "both": (LANGUAGE.replace("{config", "{name: CAUSAL, config"), ["model: state either name"]),
    "another tokenizer for a checkpoint": (
        TEXT_YAML.replace("name: CAUSAL", "name: CAUSAL, tokenizer: bytes"),
        ["model.tokenizer: a checkpoint comes with its own tokenizer"],
    ),
    "no tokenizer": (LANGUAGE.replace(", tokenizer: bytes", ""), ["model.tokenizer is missing: bytes, or bpe"]),
    "bpe of no size": (LANGUAGE.replace("bytes", "bpe"), ["model.vocab_size is the size of a bpe"]),
    "a vocabulary too small to train": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: bpe, vocab_size: 256"),
        ["model.vocab_size: should be greater than or equal to 257, not 256"],
    ),
    "an unknown architecture": (
        LANGUAGE.replace("model_type: gpt2", "model_type: gpt3"),
        ["model.config: expected model_type: gpt2, scratch, lstm, not 'gpt3'"],
    ),
    "an unknown key of the config": (
        LANGUAGE.replace("n_embd: 8", "n_emb: 8"),
        ["prompts.yaml:3: unknown key in model.config: 'n_emb' is not known; did you mean 'n_embd'?"],
    ),
    "a config key in words": (LANGUAGE.replace("n_embd: 8", "n_layer: two"), ["model.config.n_layer", "not 'two'"]),
    "no layers": (
        LANGUAGE.replace("n_embd: 8", "n_layer: 0"),
        ["model.config.n_layer: should be greater than or equal to 1"],
    ),
    "a vocabulary in the config": (
        LANGUAGE.replace("n_embd: 8", "vocab_size: 8"),
        ["model.config.vocab_size does not belong in an experiment: it follows from the tokenizer"],
    ),
    "an untrained new model": (
        LANGUAGE.replace("max_steps: 2", "num_train_epochs: 0"),
        ["training.num_train_epochs: 0 leaves a model of model.config untrained"],
    ),
    "windows that skip tokens": (
        TEXT_YAML + "evaluation: {stride: 17}\n",
        ["evaluation.stride: 17 would skip tokens between windows of data.block_tokens 16"],
    ),
    "blocks grouped by length": (
        TEXT_YAML.replace("max_steps: 2", "max_steps: 2, train_sampling_strategy: group_by_length"),
        ["training.train_sampling_strategy: blocks are of one length"],
    ),
    "text from nowhere": (TEXT_YAML.replace("path: STORIES, ", ""), ["data.path is missing: a text file"]),
    "embedded text from somewhere": (
        TEXT_YAML.replace("name: text", "name: sample_text"),
        ["data.path: sample_text is embedded"],
    ),
    "labelled data": (TEXT_YAML.replace("name: text", "name: mrpc"), ["data.name: expected 'imdb'", "not 'mrpc'"]),
    "a classifier's band": (TEXT_YAML + "reference: {source: x, f1: [0, 1]}\n", ["unknown key in reference: 'f1'"]),
    "samples that are never continued": (
        TEXT_YAML.replace(", eval_strategy: epoch", "") + "samples: [a]\ngeneration: {max_new_tokens: 3}\n",
        ["samples: are continued at each evaluation, but training.eval_strategy is no"],
    ),
    "steps in words": (
        LANGUAGE.replace("max_steps: 2", "num_train_epochs: 0, max_steps: abc"),
        ["training.max_steps: should be a valid integer"],
    ),
    "no config": (LANGUAGE.replace("{model_type: gpt2, n_embd: 8}", "null"), ["model: state either name"]),
    "no name": (TEXT_YAML.replace("name: CAUSAL", "name: null"), ["model: state either name"]),
    "a tokenizer that is none": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: null"),
        ["model.tokenizer is missing"],
    ),
    "a size that is none": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: bpe, vocab_size: null"),
        ["model.vocab_size is the size of a bpe"],
    ),
    "smoothed labels": (
        TEXT_YAML.replace("max_steps: 2", "max_steps: 2, label_smoothing_factor: 0.1"),
        ["training.label_smoothing_factor: Trainer would smooth"],
    ),
    "dropped windows": (
        TEXT_YAML.replace("max_steps: 2", "max_steps: 2, dataloader_drop_last: true"),
        ["training.dataloader_drop_last does not belong in an experiment"],
    ),
    "an unknown activation": (
        LANGUAGE.replace("n_embd: 8", "activation_function: gulu"),
        ["model.config.activation_function: expected one of ", "not 'gulu'; did you mean 'gelu'?"],
    ),
    "prompts that are numbers": (
        PROMPTS_YAML.replace("[Once, The", "[5, The"),
        ["prompts: expected a list of texts, or the name of a file with one on each line, not [5,"],
    ),
    "more tokens at least than at most": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, min_new_tokens: 9"),
        ["generation: min_new_tokens 9 is more than max_new_tokens"],
    ),
    "samples without a length": (TEXT_YAML + "samples: [a]\n", ["generation.max_new_tokens is missing"]),
    "generation without samples": (
        TEXT_YAML + "generation: {max_new_tokens: 3}\n",
        ["generation: continues the prompts of samples, but there are none"],
    ),
    "no prompts": (
        PROMPTS_YAML.replace('[Once, The cat sat on, "", A long prompt of more words]', "[]"),
        ["prompts.yaml:4: prompts: the list is empty"],
    ),
    "an unknown key of generation": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokns: 8"),
        ["unknown key in generation: 'max_new_tokns' is not known; did you mean 'max_new_tokens'?"],
    ),
    "a length that depends on the batch": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, max_length: 9"),
        ["generation.max_length does not belong in an experiment", "state max_new_tokens"],
    ),
    "no new tokens": (PROMPTS_YAML.replace("tokens: 8", "tokens: 0"), ["should be greater than or equal to 1"]),
    "temperature without sampling": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, temperature: 0.5"),
        ["generation: `temperature`", "do_sample"],
    ),
    "beams that are drawn": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, num_beams: 2, do_sample: true"),
        ["generation.num_beams: beams and do_sample together"],
    ),
    "samples of the most likely text": (
        PROMPTS_YAML + "samples_per_prompt: 2\n",
        ["samples_per_prompt: without generation.do_sample the 2 texts of a prompt would be the same"],
    ),
    "greedy twice": (PROMPTS_YAML + "greedy: true\n", ["greedy: without generation.do_sample"]),
    "training where nothing is trained": (
        PROMPTS_YAML + "training: {learning_rate: 1}\n",
        ["unknown key in training: 'learning_rate' is not known; known are per_device_eval_batch_size"],
    ),
}


@pytest.mark.parametrize("case", CAUSAL_FILES)
@pytest.mark.parametrize("command", ["run", "show"])
def test_language_experiment_file(case, command, write, nutshell, tmp_path):
    text, said = CAUSAL_FILES[case]
    code, _, err = nutshell(command, write(text, "generate/prompts.yaml"))
    assert code == 2
    for words in said:
        assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "outputs").exists()


CAUSAL_RUNS = {
    "a block longer than the context": (
        TEXT_YAML.replace("block_tokens: 16", "block_tokens: 65"),
        ["data.block_tokens: 65 is more than the 64 positions of"],
    ),
    "a block longer than a new model's context": (
        LANGUAGE.replace("n_embd: 8", "n_positions: 8"),
        ["data.block_tokens: 16 is more than the 8 positions of a gpt2 of this model.config"],
    ),
    "heads that do not divide": (
        LANGUAGE.replace("n_embd: 8", "n_embd: 9, n_head: 2"),
        ["model.config: no gpt2 can be made of it"],
    ),
    "a model that no memory holds": (
        LANGUAGE.replace("n_embd: 8", "n_embd: 100000000, n_head: 1"),
        ["model.config: no gpt2 can be made of it", "memory"],
    ),
    "a token that is none": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, bad_words_ids: [[1], [999]]"),
        ["generation.bad_words_ids: 999 is no token; the model's are 0 to 256"],
    ),
    "suppressed tokens that are none": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, suppress_tokens: [257]"),
        ["generation.suppress_tokens: 257 is no token"],
    ),
    "half a character": (PROMPTS_YAML.replace("Once", '"\\ud83d"'), ["prompt 1 (", "is not valid Unicode"]),
    "a vocabulary larger than the text": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: bpe, vocab_size: 5000"),
        ["model.vocab_size: 5000 tokens cannot be had from a training part of", "state at most that"],
    ),
    "a BERT": (TEXT_YAML.replace("CAUSAL", "TINY"), ["is a bert checkpoint; this task runs gpt2, scratch, lstm"]),
    "a BERT to prompt": (PROMPTS_YAML.replace("CAUSAL", "TINY"), ["is a bert checkpoint; this task runs gpt2"]),
    "a run that is not there": (
        PROMPTS_YAML.replace("CAUSAL", "outputs/quickstart/nothing"),
        ["outputs/quickstart/nothing is no folder here (in", "if it is an earlier run's, run that first"],
    ),
    "a prompt longer than the context": (
        PROMPTS_YAML.replace("Once", "x" * 70),
        ["prompt 1 ('" + "x" * 40 + "'...): has 70 tokens, 6 more than the 64 positions"],
    ),
    "new tokens that do not fit": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 50"),
        ["generation.max_new_tokens: 50 after the 27 tokens of prompt 4", "at most 37"],
    ),
    "samples that do not fit": (
        TEXT_YAML + "samples: [abc]\ngeneration: {max_new_tokens: 62}\n",
        ["generation.max_new_tokens: 62 after the 3 tokens of prompt 1 ('abc')", "at most 61"],
    ),
    "all of the text held out": (
        TEXT_YAML.replace("block_tokens: 16", "block_tokens: 16, test_bytes: 100000"),
        ["data.test_bytes: 100,000 is all there is of the training part"],
    ),
}


@pytest.mark.parametrize("case", CAUSAL_RUNS)
def test_what_a_language_run_finds_wrong(case, write, nutshell, tmp_path):
    text, said = CAUSAL_RUNS[case]
    code, _, err = nutshell("run", write(text, "generate/prompts.yaml"))
    assert code == 2
    for words in said:
        assert words in err
    assert "Traceback" not in err
    assert not list((tmp_path / "outputs").rglob("experiment.yaml"))


TEXTS = {
    "not UTF-8": (b"good \xe4 bad", ["text.txt: not UTF-8 text: byte 0xe4 at offset 5"]),
    "an empty file": (b"", ["text.txt: is empty"]),
    "blanks alone": (b" \n\n", ["text.txt: is empty"]),
    "a byte-order mark alone": (b"\xef\xbb\xbf", ["text.txt: is empty"]),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("text", [TEXT_YAML, PROMPTS_YAML], ids=["data", "prompts"])
def test_text_files(case, text, write, nutshell, tmp_path):
    raw, said = TEXTS[case]
    (tmp_path / "text.txt").write_bytes(raw)
    word = f"data.path={tmp_path / 'text.txt'}" if text == TEXT_YAML else f"prompts={tmp_path / 'text.txt'}"
    code, _, err = nutshell("run", write(text, "generate/prompts.yaml"), word)
    assert code == 2 and all(words in err for words in said) and "Traceback" not in err


def test_an_empty_prompt_needs_a_start_token(causal, write, nutshell, tmp_path):
    folder = shutil.copytree(causal["scratch"], tmp_path / "startless")
    config = json.loads((folder / "config.json").read_text())
    config.pop("bos_token_id")
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = nutshell("run", write(PROMPTS_YAML.replace("CAUSAL", str(folder)), "generate/prompts.yaml"))
    assert code == 2 and "prompt 3 (''): is empty, and the model has no start token" in err


def test_weights_without_a_place(causal, write, nutshell, tmp_path):
    folder = shutil.copytree(causal["gpt2"], tmp_path / "deeper")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    code, _, err = nutshell("run", write(PROMPTS_YAML.replace("CAUSAL", str(folder)), "generate/prompts.yaml"))
    assert code == 2 and "has weights that its config has no room for, transformer.h.1." in err


def test_a_mistake_costs_no_earlier_results(write, nutshell, tmp_path):
    file = write(PROMPTS_YAML, "generate/prompts.yaml")
    assert nutshell("run", file)[0] == 0
    words = ["generation.bad_words_ids=[[999]]", "--force"]
    assert nutshell("run", file, *words)[0] == 2
    assert (tmp_path / "outputs" / "generate" / "prompts" / "seed-13" / "metrics.json").exists()


def test_a_prompts_file_that_is_not_there(write, nutshell):
    code, _, err = nutshell("run", write(PROMPTS_YAML, "generate/prompts.yaml"), "prompts=nothing.txt")
    assert code == 2 and "nothing.txt: cannot be read: No such file" in err


def test_a_language_model_that_diverges(write, nutshell, tmp_path):
    text = LANGUAGE.replace("n_embd: 8", "n_embd: 8, n_head: 2").replace(
        "max_steps: 2", "max_steps: 6, learning_rate: 1e30"
    )
    code, _, err = nutshell("run", write(text, "language_model/text.yaml"), "training.max_grad_norm=0")
    assert code == 2 and "a token's cost is not finite: training diverged; try a lower training.learning_rate" in err
    assert not list((tmp_path / "outputs").rglob("metrics.json"))
