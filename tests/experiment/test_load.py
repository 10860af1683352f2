"""Experiment files and overrides that YAML, the file system or a wrong type could turn into something else than an
error of one line."""

import json
import os
import re
import socket
from itertools import product

import pytest
from pydantic import ValidationError

from nutshell.experiment import generation_keys, problems, training_keys
from nutshell.experiment.load import dump, load
from nutshell.experiment.problems import explain
from nutshell.experiment.yaml_text import MAX_BYTES, Unreadable, parse, shown
from nutshell.tasks.task import tasks
from tests.conftest import PAIRS_YAML, PROMPTS_YAML, TEXT_YAML

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
DEEP = "too much for an experiment: nested more than 20 levels deep, or an alias refers to itself"
# What no message may hold: Python's words for a value or a class.
PYTHON = r"(?<!\.)\b(None|True|False|nan|inf|dict|instance|datetime|Error|Traceback)\b|Scalar|Commented|<class|<unicode"
TEXTS = {
    "deeply nested": (PAIRS_YAML + f"a: {'[' * 5000}{']' * 5000}\n", f"pairs.yaml:6: {DEEP}"),
    "deeply nested without an end": (PAIRS_YAML + "a: " + "{" * 200000, f"pairs.yaml:6: {DEEP}"),
    "an alias that is in itself": (PAIRS_YAML + "a: &a [*a]\n", f"pairs.yaml:6: {DEEP}"),
    "a file that is in itself": ("&a {task: *a}\n", f"pairs.yaml:1: {DEEP}"),
    "a merge of itself": (PAIRS_YAML + "a: &a {<<: *a}\n", f"pairs.yaml:6: {DEEP}"),
    "nine levels of nine": (PAIRS_YAML + LAUGHS, "more than 100,000 values, those that aliases repeat included"),
    "5,001 digits": (
        PAIRS_YAML.replace("max_steps: 2", f"max_steps: {'1' * 5001}"),
        "pairs.yaml:5: too much for an experiment: a number of more than 18 digits",
    ),
    "5,001 hexadecimal digits": (
        PAIRS_YAML.replace("max_steps: 2", f"max_steps: 0x{'f' * 5001}"),
        "too much for an experiment: a number of more than 18 digits",
    ),
    "5,001 decimals": (
        PAIRS_YAML.replace("max_steps: 2", f"learning_rate: 0.{'1' * 5001}"),
        "too much for an experiment: a number of more than 40 digits",
    ),
    "a large file": (PAIRS_YAML + "#" * MAX_BYTES, "too much for an experiment: more than 250,000 bytes in the file"),
    "a key twice": (PAIRS_YAML + "task: generate\n", "pairs.yaml:6: not valid YAML: duplicate key task"),
    "a tag": (PAIRS_YAML.replace("TINY", "!foo bar"), "pairs.yaml:3: the tag !foo is not known here"),
    "a tag of a block": (PAIRS_YAML.replace("{name: TINY", "!!set {name"), "the tag !!set is not known here"),
    "a tag of Python": (
        PAIRS_YAML.replace("TINY", "!!python/object/apply:os.system ['true']"),
        "the tag !!python/object/apply:os.system is not known here",
    ),
    "bytes": (PAIRS_YAML.replace("TINY", "!!binary aGk="), "the tag !!binary is not known here"),
    "a number that is none": (PAIRS_YAML.replace("[13]", "[!!int x]"), "'x' is not what !!int stands for"),
    "a truth value that is none": (PAIRS_YAML.replace("[13]", "[!!bool x]"), "'x' is not what !!bool stands for"),
    "not a number": (
        PAIRS_YAML.replace("max_steps: 2", "learning_rate: .nan"),
        "training.learning_rate: expected a finite number, not .nan",
    ),
    "a merge of a number": (PAIRS_YAML + "<<: 5\n", "<< takes a mapping, or a list of them"),
    "a key that is a number": (PAIRS_YAML + "1: 2\n", "pairs.yaml:6: unknown key: '1' is not known"),
    "a key that is null": (PAIRS_YAML + "null: 2\n", "pairs.yaml:6: unknown key: 'null' is not known"),
    "a key that is a list": (PAIRS_YAML + "? [a]\n: 2\n", "pairs.yaml:6: not valid YAML for an experiment: a key is"),
    "a NUL byte": (PAIRS_YAML + "a: \x00\n", "pairs.yaml:6: not valid YAML: the character U+0000 is not allowed"),
    "half a character": (PAIRS_YAML.replace("TINY", r'"\ud83d"'), "an escape is half of a character"),
    "an escape beyond Unicode": (PAIRS_YAML.replace("TINY", r'"\U00110000"'), "pairs.yaml: not valid YAML"),
    "UTF-16": (PAIRS_YAML.encode("utf-16"), "pairs.yaml: is not UTF-8 text but UTF-16; save it as UTF-8"),
    "UTF-16 without a mark": (PAIRS_YAML.encode("utf-16-le"), "the character U+0000 is not allowed"),
    "two documents": (
        f"---\n{PAIRS_YAML}---\n{PAIRS_YAML}",
        "pairs.yaml:7: not valid YAML: expected a single document",
    ),
    "comments alone": ("# task: classify\n", "but the file is empty"),
    "an unknown alias": (PAIRS_YAML + "a: *b\n", "pairs.yaml:6: not valid YAML: found undefined alias 'b'"),
    "a block that is null": (
        PAIRS_YAML.replace("{name: TINY}", ""),
        "pairs.yaml:3: model: expected a mapping, not null",
    ),
    "a block that is a number": (PAIRS_YAML + "reference: 5\n", "pairs.yaml:6: reference: expected a mapping, not 5"),
    "text that is a number": (
        PAIRS_YAML.replace("TINY", "5"),
        "model.name: expected text, not 5 (text goes in quotes)",
    ),
    "a seed that is a word": (PAIRS_YAML.replace("[13]", "[1, x]"), "seeds.1: expected a whole number, not 'x'"),
    "a long value": (
        PAIRS_YAML.replace("[13]", f"'{'x' * 100}'"),
        f"pairs.yaml:2: seeds: expected a list, not '{'x' * 56}...\n",
    ),
    "a band of one": (
        PAIRS_YAML + "reference: {source: x, f1: [1]}\n",
        "reference.f1: expected a list with at least 2 entries, not [1]",
    ),
    "a member of a union": (
        TEXT_YAML.replace("name: CAUSAL", "config: {model_type: gpt2, attn_pdrop: x}, tokenizer: bytes"),
        "model.config.attn_pdrop: expected a number, not 'x'\n",
    ),
    "generation that is a number": (
        TEXT_YAML + "samples: [a]\ngeneration: 5\n",
        "pairs.yaml:7: generation: expected a mapping, not 5",
    ),
    "GenerationConfig's own words": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, top_p: 0.5"),
        "`do_sample` is not set to `true`",
    ),
}


def no_python(message: str) -> bool:
    return re.search(PYTHON, re.sub(r"/\S+/", "", message)) is None


@pytest.mark.parametrize("case", TEXTS)
def test_one_message(case, write, nutshell):
    content, message = TEXTS[case]
    file = write()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file = write(content)
    code, _, err = nutshell("show", file)
    assert code == 2 and message in err and no_python(err), err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (f"training.x={'[' * 5000}", f": {DEEP}"),
        ("training.x=&a [*a]", f"command line, training.x=&a [*a]: {DEEP}"),
        (f"seeds=[{'9' * 5001}]", "a number of more than 18 digits"),
        (f"training.{'a.' * 5000}b=1", "too much for an experiment: a key nested more than 20 levels deep"),
        ("training.learning_rate=!foo x", "command line, training.learning_rate=!foo x: the tag !foo is not known"),
        ("seeds=1\n---\n2", "command line, seeds=1?---?2: not valid YAML: expected a single document"),
        ("data.path=\udcff", "not valid YAML: the character U+DCFF is not allowed"),
        ("a.b=1", "command line, a.b=1: unknown key: 'a' is not known"),
        ("seeds=[1, x]", "command line, seeds=[1, x]: seeds.1: expected a whole number, not 'x'"),
    ],
)
def test_overrides_are_read_alike(word, message, write, nutshell):
    code, _, err = nutshell("show", write(), word)
    assert code == 2 and message in err and no_python(err), err
    assert len(err) < 400


def test_what_is_not_a_file_is_not_read(write, nutshell, tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.yaml"))
        for file in (tmp_path / "pipe.yaml", tmp_path / "socket.yaml", "/dev/zero", "/dev/stdin", "/dev/fd/0"):
            code, _, err = nutshell("show", file)
            assert code == 2 and f"{file}: is not a regular file (a pipe, a socket or a device)" in err


@pytest.mark.parametrize("name", ["loop.yaml", "pairs.yaml/more.yaml", f"{'x' * 300}.yaml"])
def test_names_that_the_system_refuses(name, write, nutshell):
    folder = write().parent
    (folder / "loop.yaml").symlink_to("loop.yaml")
    code, _, err = nutshell("show", folder / name)
    assert code == 2 and "cannot be read: " in err


def test_yaml_that_is_meant():
    """Aliases, merges, dates and keys are plain data, each with its line."""
    text = "base: &b {x: 1, y: [a, 2020-01-01]}\nmore:\n  <<: [*b, {x: 3, z: 0o17}]\n  y: *b\n7: !!str 5\n"
    base = {"x": 1, "y": ["a", "2020-01-01"]}
    tree, lines = parse(text)
    assert tree == {"base": base, "more": {"x": 1, "y": base, "z": 15}, "7": "5"}
    assert lines["more", "y"] == 4 and lines["more", "x"] == 1 and lines["more", "z"] == 3 and lines["7",] == 5
    assert parse("\ufeffa: 1") == ({"a": 1}, {("a",): 1}) and parse("") == (None, {})
    with pytest.raises(Unreadable, match="duplicate key a"):
        parse("{a: 1, a: 2}")


def test_what_is_written_reads_back_the_same(tmp_path):
    words = ["<<", "=", "2020-01-01", "1e5", "", " x", "a\n\nb ", "\u2028", "\x07", "x" * 200 + "\x85- ="]
    plain = {"words": words, "numbers": [1e-5, 1e300, -5, None, True], "again": words}
    dump(plain, tmp_path / "experiment.yaml")
    assert parse((tmp_path / "experiment.yaml").read_text(encoding="utf-8"))[0] == plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("yes", "'yes'"),
        ("it's", '"it\'s"'),
        ("a\nb", r'"a\nb"'),
        ([1, None, {"a": "b"}], "[1, null, {a: 'b'}]"),
        (float("-inf"), "-.inf"),
        (1e-5, "1e-05"),
        ("x" * 70, "'" + "x" * 56 + "..."),
    ],
)
def test_a_value_is_shown_as_yaml(value, text):
    assert shown(value) == text


VALUES = (None, True, 5, -5, 5.5, float("nan"), 10**17, "", "x", [], [None], [[]], {}, {"a": None})


def fields():
    """Every key of every block, by its task and dotted path."""
    for word, task in tasks().items():
        plain = {"task": word, "model": {"config": {"model_type": "gpt2"}}}
        for place, block in task.asks.blocks(plain).items():
            yield from ((word, (*place, key)) for key in block.model_fields)


@pytest.mark.parametrize("task", tasks())
def test_every_wrong_type_has_a_plain_sentence(task):
    """No value at any key is answered with Python's words."""
    kind = tasks()[task].asks
    for (_, path), value in product([entry for entry in fields() if entry[0] == task], VALUES):
        plain = {"task": task, "model": {}}
        block = plain
        for step in path[:-1]:
            block = block.setdefault(step, {})
        if path[:-1] == ("model", "config"):
            block["model_type"] = "gpt2"
        block[path[-1]] = value
        with pytest.raises(ValidationError) as caught:
            kind.model_validate(plain)
        for detail in caught.value.errors():
            place, message = explain(detail, kind, plain)
            assert no_python(message) and "a valid" not in message, (path, value, message)
            assert all(not step.startswith(("float", "int", "list")) for step in place)


HINTS = {
    "training.early_stopping_patience": "did you mean early_stopping.patience?",
    "training.patience_of_nobody": "the keys are those of transformers.TrainingArguments",
    "learning_rate": "'learning_rate' is not known here; did you mean training.learning_rate?",
    "learning_rat": "did you mean training.learning_rate?",
    "training.lr": "'lr' is not known; did you mean 'learning_rate'?",
    "lr": "did you mean training.learning_rate?",
    "training.batch_size": "did you mean 'per_device_train_batch_size' (on each device; global_batch_size at the top",
    "batch_size": "did you mean training.per_device_train_batch_size (on each device; global_batch_size at the top",
    "epochs": "did you mean training.num_train_epochs?",
    "training.beta1": "did you mean 'adam_beta1'?",
    "training.evaluation_strategy": "did you mean 'eval_strategy'?",
    "training.warmup_ratio": "did you mean 'warmup_steps' (below 1 it is a share of all steps)?",
    "training.group_by_length": "did you mean 'train_sampling_strategy' with the value group_by_length?",
    "training.no_cuda": "training.no_cuda does not belong in an experiment: precision and hardware",
    "training.overwrite_output_dir": "--force discards",
    "training.max_tokens": "did you mean data.max_tokens?",
    "model.seed": "did you mean seeds?",
    "output_dir": "output_dir does not belong in an experiment: the results' place follows",
    "zzz": "'zzz' is not known; known are question, source, cost, task, seeds,",
}


@pytest.mark.parametrize("key", HINTS)
def test_hints(key, write, nutshell):
    code, _, err = nutshell("show", write(), f"{key}=1")
    assert code == 2 and HINTS[key] in err, err
    assert ("did you mean" in err) == ("did you mean" in HINTS[key])


def test_aliases_name_keys_that_there_are():
    paths = {".".join(path) for _, path in fields()}
    assert set(problems.ALIASES.values()) <= paths and not set(problems.ALIASES) & set(training_keys.defaults())
    assert not set(problems.ALIASES) & set(generation_keys.KEYS) and set(problems.REMARKS) <= set(problems.ALIASES)


def test_another_experiment_is_refused_with_both_values(write, nutshell, tmp_path):
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    seed.mkdir(parents=True)
    changed = {name: 3 for name in ("logging_steps", "eval_steps", "save_steps", "save_total_limit", "warmup_steps")}
    resolved = load(write(), [], tasks()).resolved(13)
    resolved["training"] |= {"max_steps": 5, **changed, "adam_beta1": 0.5, "eval_strategy": "no"}
    (seed / "experiment.yaml").write_text(json.dumps(resolved))
    code, _, err = nutshell("run", write())
    assert code == 2 and "holds another experiment; read.model: not stated there, '" in err
    assert "; training.adam_beta1: 0.5 there, not stated here; " in err
    assert (
        "training.eval_strategy: 'no' there, 'epoch' here; " in err and "training.max_steps: 5 there, 2 here; " in err
    )
    assert "; and 1 more. Choose another --output, or discard those results with --force" in err
