"""GLUE's nine tasks as GLUE has them: columns, labels, what is scored, what its server takes."""

import math
import re

import pytest

from nutshell.data import glue, labelled
from nutshell.data.datasets import LabelledData
from nutshell.experiment.yaml_text import parse
from nutshell.machine.errors import UserError
from tests.conftest import PAIRS_YAML, ROOT

EXPERIMENTS = ROOT / "experiments" / "glue"
# Published for one run of bert-base-cased by the README of transformers' text classification examples: in fp32 and in
# fp16, in per cent, with the examples of the validation part.
PUBLISHED = {
    ("cola", "matthews"): (56.53, 56.78, 1043),
    ("sst2", "accuracy"): (92.32, 91.74, 872),
    ("mrpc", "f1"): (88.85, 88.12, 408),
    ("mrpc", "accuracy"): (84.07, 83.58, 408),
    ("stsb", "pearson"): (88.64, 88.71, 1500),
    ("stsb", "spearman"): (88.48, 88.55, 1500),
    ("qqp", "accuracy"): (90.71, 90.67, 40430),
    ("qqp", "f1"): (87.49, 87.43, 40430),
    ("mnli", "accuracy"): (83.91, 84.04, 9815),
    ("mnli", "accuracy_mismatched"): (84.10, 84.06, 9832),
    ("qnli", "accuracy"): (90.66, 90.96, 5463),
    ("rte", "accuracy"): (65.70, 65.34, 277),
    ("wnli", "accuracy"): (56.34, 56.34, 71),
}
# The first columns of each file of GLUE's download; the other parts' differ where the label is hidden.
TRAIN_COLUMNS = {
    "sst2": "sentence label",
    "qqp": "id qid1 qid2 question1 question2 is_duplicate",
    "stsb": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "mnli": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label",
    "qnli": "index question sentence label",
    "rte": "index sentence1 sentence2 label",
    "wnli": "index sentence1 sentence2 label",
}


@pytest.mark.parametrize("name", TRAIN_COLUMNS)
def test_every_column_of_glue_s_own_files_is_known(name):
    task = glue.TASKS[name]
    columns = [task.aliases.get(column, column) for column in TRAIN_COLUMNS[name].split()]
    assert [column for column in columns if column not in {*task.texts, "label", *task.extra}] == []
    assert {*task.texts, "label"} <= {*columns} and len({*columns}) == len(columns)


def test_cola_has_no_header():
    headers = {name: task.header for name, task in glue.TASKS.items() if task.header}
    assert headers == {"cola": ("source", "label", "mark", "sentence")}


def test_the_labels_are_in_the_hub_s_order():
    assert {name: task.labels for name, task in glue.TASKS.items()} == {
        "cola": ("unacceptable", "acceptable"),
        "sst2": ("negative", "positive"),
        "mrpc": ("not_equivalent", "equivalent"),
        "qqp": ("not_duplicate", "duplicate"),
        "stsb": (),
        "mnli": ("entailment", "neutral", "contradiction"),
        "qnli": ("entailment", "not_entailment"),
        "rte": ("entailment", "not_entailment"),
        "wnli": ("not_entailment", "entailment"),
    }


def test_the_validation_parts_are_as_long_as_glue_s():
    lengths = {name: 0 for name in glue.TASKS}
    for name, metric in PUBLISHED:
        if metric not in ("f1", "spearman"):
            lengths[name] += PUBLISHED[name, metric][2]
    assert lengths == {name: task.examples for name, task in glue.TASKS.items()}


def test_the_server_s_files():
    names = [file for task in glue.TASKS.values() for file in task.submissions.values()]
    assert names == [
        *("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "QQP.tsv", "STS-B.tsv"),
        *("MNLI-m.tsv", "MNLI-mm.tsv", "QNLI.tsv", "RTE.tsv", "WNLI.tsv"),
    ]


@pytest.mark.parametrize(
    ("name", "predictions", "answers"),
    [
        ("cola", [1, 0], ["1", "0"]),
        ("mnli", [0, 1, 2], ["entailment", "neutral", "contradiction"]),
        ("qnli", [0, 1], ["entailment", "not_entailment"]),
        ("rte", [1], ["not_entailment"]),
        ("wnli", [1, 0], ["1", "0"]),  # entailment and not_entailment, as numbers
        ("stsb", [-0.25, 2.34567, 5.3, 4.0], ["0.000", "2.346", "5.000", "4.000"]),
    ],
)
def test_a_submission_has_the_server_s_form(name, predictions, answers):
    text = glue.TASKS[name].submission(predictions)
    assert text == "index\tprediction\n" + "".join(f"{row}\t{answer}\n" for row, answer in enumerate(answers))


@pytest.mark.parametrize(("name", "prediction"), [("cola", 2), ("mnli", -1), ("rte", 0.5), ("stsb", math.nan)])
def test_what_is_no_answer_is_no_submission(name, prediction):
    with pytest.raises(ValueError, match=glue.TASKS[name].title):
        glue.TASKS[name].submission([prediction])


def mean(task_scores) -> float:
    scores = [sum(values) / len(values) for values in task_scores]
    return sum(scores) / len(scores)


def test_the_mean_is_the_leaderboard_s():
    """BERT-large's row of the leaderboard: 80.5, with WNLI and with MNLI's two parts as one task."""
    row = {
        "cola": {"matthews": 60.5},
        "sst2": {"accuracy": 94.9},
        "mrpc": {"f1": 89.3, "accuracy": 85.4},
        "stsb": {"pearson": 87.6, "spearman": 86.5},
        "qqp": {"f1": 72.1, "accuracy": 89.3},
        "mnli": {"accuracy": 86.7, "accuracy_mismatched": 85.9},
        "qnli": {"accuracy": 92.7},
        "rte": {"accuracy": 70.1},
        "wnli": {"accuracy": 65.1},
    }
    benchmarks = {name: task.counts_for for name, task in glue.TASKS.items()}
    assert all(set(benchmarks[name]["metrics"]) == set(row[name]) for name in glue.TASKS)
    assert [one["task"] for one in benchmarks.values()] == benchmarks["cola"]["tasks"]
    assert round(mean([row[name][metric] for metric in one["metrics"]] for name, one in benchmarks.items()), 1) == 80.5


def ends(name: str, metric: str, value: float, examples: int) -> tuple[float, float]:
    """The ends of a published figure's own 95 % interval: binomial for an accuracy, Fisher's z for a correlation
    (Matthews' is Pearson's of two classes), the delta method for F1, which with the accuracy gives the counts."""
    if metric in ("matthews", "pearson", "spearman"):
        width = 1.96 / math.sqrt(examples - 3)
        return math.tanh(math.atanh(value) - width), math.tanh(math.atanh(value) + width)
    if metric == "f1":
        wrong = 1 - PUBLISHED[name, "accuracy"][0] / 100
        true = value * wrong / (2 * (1 - value))
        by_true, by_wrong = 2 * wrong / (2 * true + wrong) ** 2, -2 * true / (2 * true + wrong) ** 2
        variance = by_true**2 * true * (1 - true) + by_wrong**2 * wrong * (1 - wrong)
        variance -= 2 * by_true * by_wrong * true * wrong
    else:
        variance = value * (1 - value)
    width = 1.96 * math.sqrt(variance / examples)
    return value - width, value + width


def test_each_band_is_the_published_figure_s_own_interval():
    bands = {}
    for name in glue.TASKS:
        plain, _ = parse((EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"))
        reference = dict(plain["reference"])
        assert reference.pop("part") == "validation"
        source = reference.pop("source")
        assert f"{PUBLISHED[name, next(iter(glue.TASKS[name].scored))][0]:.2f}" in re.findall(r"\d\d\.\d\d", source)
        bands |= {(name, metric): tuple(band) for metric, band in reference.items()}
    assert bands.keys() == PUBLISHED.keys()
    for (name, metric), (single, half_precision, examples) in PUBLISHED.items():
        expected = ends(name, metric, single / 100, examples)
        assert bands[name, metric] == pytest.approx(expected, abs=5.1e-5)
        assert bands[name, metric][0] < half_precision / 100 < bands[name, metric][1]  # the recipe's other run


def test_the_nine_files_are_one_recipe():
    """The same but for epochs, seeds and logging."""
    rest = set()
    for name, task in glue.TASKS.items():
        plain, _ = parse((EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"))
        training = dict(plain["training"])
        assert {**plain["data"], "reported": None} == {"name": name, "max_tokens": 128, "reported": None}
        assert training.pop("num_train_epochs") == (5 if task.title in ("MRPC", "WNLI") else 3)
        training.pop("logging_steps")
        rest.add(str((plain["model"], plain["global_batch_size"], training)))
    assert len(rest) == 1
    assert {file.stem for file in EXPERIMENTS.glob("*.yaml")} == set(glue.TASKS)


# The first lines of GLUE's own files, made up: the header, and how a row of train or dev, and of test, is written.
# {n} is the row's number, {y} its label.
OWN_FILES = {
    "cola": (None, 'gj04\t{y}\t\tThey drank "the" pub {n}.', "index\tsentence", "{n}\tBill sang {n}."),
    "sst2": ("sentence\tlabel", "a sometimes tedious film {n} \t{y}", "index\tsentence", "{n}\tuneasy film {n}"),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '{y}\t702876\t702977\tHe said "no" {n}.\tHe said no {n}.',
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "{n}\t1\t2\tIt rose {n}.\tIt fell {n}.",
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "{n}\t1\t2\tWhy is it {n}?\tIs it {n}?\t{y}",
        "id\tquestion1\tquestion2",
        "{n}\tWhy {n}?\tHow {n}?",
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "{n}\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\tA plane {n}.\tAn air plane {n}.\t{y}.250",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
        "{n}\tmain-captions\tMSRvid\t2012test\t0024\tnone\tnone\tA girl {n}.\tA girl {n} is.",
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        "{n}\tWho {n}?\tHe {n}.\t{y}",
        "index\tquestion\tsentence",
        "{n}\tA?\tB.",
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        "{n}\tIt is {n}.\tIs {n}.\t{y}",
        "index\tsentence1\tsentence2",
        "{n}\tA.\tB.",
    ),
    "wnli": (
        "index\tsentence1\tsentence2\tlabel",
        "{n}\tIt is {n}.\tIs {n}.\t{y}",
        "index\tsentence1\tsentence2",
        "{n}\tA.\tB.",
    ),
}


def own_files(folder, name: str, rows: int = 12):
    """A task's own files, with made-up rows."""
    head, row, test_head, test_row = OWN_FILES[name]
    task = glue.TASKS[name]
    for part in ("train", "dev", "test"):
        lines = [test_head] if part == "test" else [head] if head else []
        for n in range(rows):
            label = n % (len(task.labels) or 5)
            lines.append(
                (test_row if part == "test" else row).format(n=n, y=task.labels[label] if task.words else label)
            )
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", OWN_FILES)
def test_glue_s_own_files_are_read_as_they_are(name, tmp_path):
    parts = labelled.load(LabelledData(name=name, path=str(own_files(tmp_path, name))))
    classes = len(glue.TASKS[name].labels)
    expected = [n % classes if classes else n % 5 + 0.25 for n in range(12)]
    assert list(parts.train.labels) == expected and list(parts.reported.labels) == expected
    assert parts.reported_as == "validation" and len(parts.train.texts[0]) == len(glue.TASKS[name].texts)


def test_mnli_s_two_validation_parts_are_told_apart(tmp_path):
    head = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
    head += "\tsentence1\tsentence2"
    ends = {
        "train": "\tlabel1\tgold_label",
        "dev": "".join(f"\tlabel{n}" for n in range(1, 6)) + "\tgold_label",
        "test": "",
    }
    words = glue.TASKS["mnli"].labels
    for name in ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched"):
        part = name.partition("_")[0]
        lines = [head + ends[part]]
        for n in range(6 if part == "train" else 3):
            row = f'{n}\t1\t1n\tslate\t( a )\t( b )\t(ROOT a)\t(ROOT b)\tA "rule" of {name} {n}\tIt is {n}'
            lines.append(row + f"\t{words[n % 3]}" * ends[part].count("\t"))
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    parts = labelled.load(LabelledData(name="mnli", path=str(tmp_path)))
    assert parts.train.labels == [0, 1, 2, 0, 1, 2] and parts.reported.labels == [0, 1, 2, 0, 1, 2]
    assert parts.reported.splits == ["matched"] * 3 + ["mismatched"] * 3
    assert parts.reported.texts[3] == ('A "rule" of dev_mismatched 0', "It is 0")
    assert parts.unlabelled.splits == ["matched"] * 3 + ["mismatched"] * 3


HALF = "sentence1\tsentence2\tgold_label\nIt is.\tIs it?\tneutral\nIt was.\tWas it?\tentailment\n"


def test_a_split_that_is_missing_is_named(tmp_path):
    for name in ("train", "dev_matched"):
        (tmp_path / f"{name}.tsv").write_text(HALF, encoding="utf-8")
    with pytest.raises(UserError, match=r"validation part .* lacks mismatched"):
        labelled.load(LabelledData(name="mnli", path=str(tmp_path)))


def test_one_half_of_the_test_part_without_labels_is_refused(tmp_path):
    for name in ("train", "dev_matched", "dev_mismatched", "test_matched"):
        (tmp_path / f"{name}.tsv").write_text(HALF, encoding="utf-8")
    (tmp_path / "test_mismatched.tsv").write_text("sentence1\tsentence2\nIt is.\tIs it?\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"the test part .* has labels, but not those of mismatched"):
        labelled.load(LabelledData(name="mnli", path=str(tmp_path)))


def test_no_part_that_is_measured_in_halves_is_held_out(tmp_path, write, nutshell):
    for name in ("train", "dev_matched", "dev_mismatched"):
        (tmp_path / f"{name}.tsv").write_text(HALF, encoding="utf-8")
    text = PAIRS_YAML.replace("name: sample_pairs", f"name: mnli, path: {tmp_path}")
    for key in ("validation_examples", "test_examples"):
        code, _, err = nutshell("run", write(text), f"data.{key}=1")
        assert code == 2 and f"data.{key}: mnli is measured on matched and mismatched" in err
    (tmp_path / "dev_matched.tsv").unlink()
    (tmp_path / "dev_mismatched.tsv").rename(tmp_path / "dev.tsv")
    with pytest.raises(UserError, match=r"would be called validation_matched and validation_mismatched, or dev_\.\.\."):
        labelled.load(LabelledData(name="mnli", path=str(tmp_path)))


def test_qqp_s_torn_rows_are_left_out_and_counted_and_its_empty_questions_are_read(tmp_path):
    own_files(tmp_path, "qqp")
    train = tmp_path / "train.tsv"
    torn = "\n".join(["90\t1\t2\tWho was it?", '"\tWas he a real figure?\t0', "91\t1\t2\tHow to make an app?\t\t0"])
    train.write_text(train.read_text(encoding="utf-8") + torn + "\n", encoding="utf-8")
    parts = labelled.load(LabelledData(name="qqp", path=str(tmp_path)))
    assert len(parts.train) == 13 and parts.train.texts[-1] == ("How to make an app?", "")
    assert parts.notes["torn rows left out"] == 2


def test_a_torn_row_of_the_test_part_is_refused(tmp_path):
    """The server knows a row by its number: those after one that is left out would be answered with another's."""
    own_files(tmp_path, "qqp")
    with (tmp_path / "test.tsv").open("a", encoding="utf-8") as file:
        file.write("12\tWho?\n")
    with pytest.raises(UserError, match=r"test.tsv: row 14: has 2 fields, the header 3"):
        labelled.load(LabelledData(name="qqp", path=str(tmp_path)))


@pytest.mark.parametrize("name", ["rte", "sst2"])
def test_torn_rows_of_another_task_are_refused(name, tmp_path):
    own_files(tmp_path, name)
    with (tmp_path / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("torn\n")
    with pytest.raises(UserError, match=r"train.tsv: row 14: has 1 fields"):
        labelled.load(LabelledData(name=name, path=str(tmp_path)))
