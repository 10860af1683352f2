"""Every experiment file: found, counted, loaded, run two steps on a tiny model."""

import re
import shutil

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.data.glue import TASKS
from nutshell.experiment import load as loading
from nutshell.models.language.architectures import model_class
from nutshell.tasks.task import tasks
from tests.conftest import ROOT

FILES = sorted(set((ROOT / "experiments").rglob("*.yaml")) - set((ROOT / "experiments/hardware").iterdir()))


def load(file):
    """The experiment of a file."""
    return loading.load(file, [], tasks())


@pytest.fixture(scope="module")
def local_copies(tmp_path_factory):
    """A little MRPC, IMDB and WikiText-2 in their original layouts, made of the embedded samples."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("mrpc", "imdb", "wikitext2"):
        (folder / name).mkdir()
    pairs, reviews = (labelled.load(LabelledData(name=f"sample_{kind}")) for kind in ("pairs", "reviews"))
    for name, part in (("train", pairs.train), ("dev", pairs.validation)):
        lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        lines += [f"{y}\t1\t2\t{a}\t{b}" for (a, b), y in zip(part.texts[:24], part.labels[:24], strict=True)]
        (folder / "mrpc" / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, part in (("train", reviews.train), ("test", reviews.test)):
        columns = {"text": [text for (text,) in part.texts[:24]], "label": part.labels[:24]}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "imdb" / f"{name}.parquet")
    for name in ("train", "valid", "test"):
        text = "".join(f" \n = Chapter = \n \n The {name} part , {n} of it . \n" for n in range(20))
        (folder / "wikitext2" / f"wiki.{name}.raw").write_text(text, encoding="utf-8")
    return folder


# GLUE on the Hub: the columns of each task's parquet files, and how many labels it has (0: a number).
GLUE = {
    "cola": (("sentence",), 2),
    "sst2": (("sentence",), 2),
    "mrpc": (("sentence1", "sentence2"), 2),
    "qqp": (("question1", "question2"), 2),
    "stsb": (("sentence1", "sentence2"), 0),
    "mnli": (("premise", "hypothesis"), 3),
    "qnli": (("question", "sentence"), 2),
    "rte": (("sentence1", "sentence2"), 2),
    "wnli": (("sentence1", "sentence2"), 2),
}
GLUE_ROWS = {"train": 24, "validation": 12, "test": 5}
WHOLE = {"wnli": 71, "rte": 277, "mrpc": 408}  # whose validation part is as long as GLUE's, so that they count for it


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory, tiny):
    """The Hub's cache with the tiny BERT in the place of BERT-base-cased, and a little of all of GLUE."""
    cache, model = tmp_path_factory.mktemp("hub"), load(ROOT / "experiments/glue/rte.yaml").model
    folder = cache / f"models--{model.name.replace('/', '--')}" / "snapshots" / model.revision
    shutil.copytree(tiny, folder)
    glue = cache / "datasets--nyu-mll--glue/snapshots/bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    for task, (texts, labels) in GLUE.items():
        (glue / task).mkdir(parents=True)
        sizes = GLUE_ROWS | ({"validation": WHOLE[task]} if task in WHOLE else {})
        for part, rows in sizes.items():
            for split in ("_matched", "_mismatched") if task == "mnli" and part != "train" else ("",):
                hidden = part == "test" and task != "mrpc"
                pyarrow.parquet.write_table(
                    glue_table(texts, labels, part, rows, hidden), glue / task / f"{part}{split}-00000-of-00001.parquet"
                )
    return cache


@pytest.fixture
def hub(hub_cache, monkeypatch):
    """That cache, and no way to the Hub itself."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def glue_table(texts, labels: int, part: str, rows: int, hidden: bool) -> pyarrow.Table:
    """A part as the Hub has it: int64 labels, or float32 scores; -1 in the test part, except MRPC's; a number for each
    row."""
    columns = {text: [f"This is {part} {text} {row}." for row in range(rows)] for text in texts}
    if "question2" in texts and part == "train":
        columns["question2"][3] = ""  # QQP has two of them
    label = [-1 if hidden else row % labels if labels else row % 26 / 5 for row in range(rows)]
    kind = pyarrow.int64() if labels else pyarrow.float32()
    return pyarrow.table(
        {**columns, "label": pyarrow.array(label, kind), "idx": pyarrow.array(range(rows), pyarrow.int32())}
    )


SIZES = {
    "gpt2": {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 64},
    "scratch": {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "max_position_embeddings": 64},
    "lstm": {"num_hidden_layers": 1, "embedding_size": 8, "hidden_size": 8},
}


@pytest.fixture(scope="module")
def roomy(talker, tmp_path_factory):
    """A tiny GPT-2 with a chat template and a context in which prompts of bytes find room."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("roomy")
    shutil.copytree(talker, folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(talker)
    config.n_positions = 256
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def smaller(experiment, tiny, causal, roomy) -> dict:
    """What makes an experiment's steps short, and nothing else."""
    if experiment.task == "generate":
        return {"model.name": roomy, "model.revision": "null", "generation.max_new_tokens": 8}
    if experiment.task == "prompt":
        keys = {"model.name": roomy, "data.max_tokens": 16}
        keys |= {"data.reported_examples": 12} if experiment.data.reported_examples else {}
        keys |= {f"baselines.{name}": "[2]" for name, _ in experiment.baselines.counts}
        keys |= {"prompt.shots": 2} if experiment.prompt.shots else {}
        keys |= {"prompt.calibration_examples": 4} if experiment.prompt.calibration_examples else {}
        return keys | ({"adapter.examples": 4, "training.max_steps": 2} if experiment.adapter else {})
    batch = "global_batch_size" if experiment.global_batch_size else "training.per_device_train_batch_size"
    if experiment.task == "code_length":
        keys = {"model.name": tiny, "data.max_tokens": 32, "data.train_examples": 12, "first_block": 4}
        return keys | {"training.max_steps": 2, batch: 2}
    if experiment.task == "classify":
        trainable = experiment.model.trainable
        return {
            "model.name": tiny,
            "model.revision": "null",
            "model.trainable": "last_1" if trainable.startswith("last") else trainable,
            "data.max_tokens": 32,
            "data.train_examples": 12,
            "data.validation_examples": 4 if experiment.data.validation_examples else "null",
            "training.max_steps": 2,
            batch: 2,
        }
    keys = {"data.block_tokens": 32, "data.validation_bytes": 4000, "data.test_bytes": 4000, "evaluation.stride": 16}
    if experiment.model.config:
        keys |= {f"model.config.{key}": size for key, size in SIZES[experiment.model.config["model_type"]].items()}
        keys |= {"model.vocab_size": 280} if experiment.model.vocab_size else {}
    else:
        keys |= {"model.name": causal["gpt2"], "model.revision": "null"}
    if experiment.samples:
        keys |= {"generation.max_new_tokens": 8}
    if experiment.training.get("num_train_epochs") == 0:
        return keys
    return keys | {"training.max_steps": 2, batch: 2, "data.train_bytes": 4000}


def check_submission(task, folder):
    """The test part, whose labels are -1 on the Hub except MRPC's, is answered in the form that GLUE's server takes."""
    assert sorted(file.name for file in folder.iterdir()) == sorted(task.submissions.values())
    for file in folder.iterdir():
        head, *lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
        assert head == ["index", "prediction"] and [index for index, _ in lines] == [*"01234"]
        for _, answer in lines:
            if task.labels:
                assert answer in (task.labels if task.words else [*map(str, range(len(task.labels)))])
            else:
                assert re.fullmatch(r"[0-5]\.\d{3}", answer)


def test_all_are_found():
    assert len({load(file).place for file in FILES}) == len(FILES) > 20


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_two_steps(file, tiny, causal, roomy, local_copies, nutshell, result, monkeypatch, request, tmp_path):
    experiment = load(file)
    changed = smaller(experiment, tiny, causal, roomy)
    if file.parent.name == "glue":
        request.getfixturevalue("hub")
        del changed["model.name"], changed["model.revision"]
        assert nutshell("show", file)[0] == 0
    else:
        monkeypatch.setenv("NUTSHELL_DATA", str(local_copies))
    words = [f"{key}={value}" for key, value in changed.items()]
    code, out, err = nutshell("run", file, *words, "--seed", experiment.seeds[0])
    assert code == 0, err
    found = result(str(experiment.place), experiment.seeds[0])
    if "training.max_steps" in changed:
        assert found["training"]["steps"] == 2
    else:
        assert found["training"] is None
    reference = getattr(experiment, "reference", None)
    for name in reference.model_dump(exclude={"part", "source"}, exclude_none=True) if reference else ():
        assert name in out
    if file.parent.name == "glue":
        check_submission(
            TASKS[file.stem], tmp_path / f"outputs/{experiment.place}/seed-{experiment.seeds[0]}/predictions"
        )
        assert (found["benchmark"] is not None) == (file.stem in WHOLE)
    for key in experiment.training.keys() - {"per_device_train_batch_size", "max_steps"}:
        assert found["experiment"]["training"][key] == experiment.training[key]


def test_the_table_of_glue_from_runs(hub, tiny, nutshell, tmp_path):
    for name in ("rte", "wnli", "qnli"):  # the last one's validation part is not as long as GLUE's
        file = ROOT / f"experiments/glue/{name}.yaml"
        changed = smaller(load(file), tiny, {}, None)
        del changed["model.name"], changed["model.revision"]
        assert nutshell("run", file, *(f"{key}={value}" for key, value in changed.items()), "--seeds", 42)[0] == 0
    code, out, err = nutshell("report", tmp_path / "outputs", "--format", "markdown")
    assert code == 0, err
    assert "GLUE, `google-bert/bert-base-cased`. Mean over 2 of the 9 tasks of GLUE, validation part: 0." in out
    assert "It is no GLUE score, because CoLA, SST-2, MRPC, QQP, STS-B, MNLI and QNLI are missing." in out
    assert [line.split(" | ")[0] for line in out.splitlines() if line.endswith("` |")] == ["| RTE", "| WNLI"]


def test_the_small_models_are_one_comparison():
    """The same text, tokens and training but for the learning rate; parameters within 5 %."""
    found = [load(ROOT / f"experiments/language_model/small_{name}.yaml") for name in SIZES]
    assert len({str(e.data) for e in found}) == len({e.model.vocab_size for e in found}) == 1
    assert len({str({**e.training, "learning_rate": None}) for e in found}) == 1
    sizes = []
    for experiment in found:
        keys = {**experiment.model.config, "vocab_size": experiment.model.vocab_size}
        architecture = keys.pop("model_type")
        model = model_class(architecture)
        sizes.append(model(model.config_class(**keys)).num_parameters())
    assert max(sizes) <= 1.05 * min(sizes)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_each_states_its_question_source_and_cost_first(file):
    text = file.read_text(encoding="utf-8")
    assert re.findall(r"^(\w+):", text, re.M)[:4] == ["question", "source", "cost", "task"]
    experiment = load(file)
    assert experiment.question.endswith("?") and experiment.source and experiment.cost
    assert not [line for line in text.splitlines() if len(line) > 120]
    assert 20 <= len(text.splitlines()) <= 40
    reference = getattr(experiment, "reference", None)
    assert reference is None or reference.part in ("validation", "test")
