"""The prequential length of labels: against the classifiers that it is made of, one by one; what a label may not change;
killed runs; what is refused."""

import json
import math
from fractions import Fraction

import numpy
import pytest

from nutshell.bits import baselines
from nutshell.bits.figures import units
from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json, read_lines
from tests.machine.test_launch import LAUNCH, finish
from tests.runs.conftest import SLOW, figures, history
from tests.runs.test_interruption import terminate_at

YAML = """\
task: code_length
seeds: [13]
model: {name: TINY}
data: {name: sample_pairs, path: SMALL, max_tokens: 64}
first_block: 8
training: {max_steps: 4, learning_rate: 1e-3, per_device_train_batch_size: 4, per_device_eval_batch_size: 8,
  logging_steps: 1}
"""
SIZES = [8, 16, 24]  # of the 48 pairs
PLACE = "bits/labels"


@pytest.fixture
def run(write, nutshell, tmp_path):
    """Runs the experiment; its seed's folder."""

    def _run(*words, text=YAML):
        code, _, errors = nutshell("run", write(text, f"{PLACE}.yaml"), *words)
        assert code == 0, errors
        return tmp_path / "outputs" / PLACE / "seed-13"

    return _run


@pytest.fixture
def part(small):
    """The examples whose labels are coded, as the data has them."""
    return labelled.load(LabelledData(name="sample_pairs", path=str(small))).train


def order(count=48, seed=13):
    return numpy.random.default_rng(seed).permutation(count).tolist()


def write_table(folder, **parts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        rows = zip(part.texts, part.labels, strict=True)
        lines = [json.dumps({"one": one, "other": other, "label": ("no", "yes")[y]}) for (one, other), y in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_each_block_costs_what_a_classifier_of_those_before_says(run, part, write, nutshell, result, tmp_path):
    """Whole runs of `task: classify`, trained on the blocks before and tested on the block."""
    seed = run()
    found, nats = result(PLACE), units.read(seed).columns["nats"]
    assert numpy.array_equal(units.read(seed).columns["label"], part.labels)
    assert nats[order()[:8]] == pytest.approx([math.log(2)] * 8)
    expected = [8 * math.log(2)]
    for block in (1, 2):
        learned = sum(SIZES[:block])
        coded = order()[learned : learned + SIZES[block]]
        table = tmp_path / f"table-{block}"
        write_table(table, train=part.take(order()[:learned]), test=part.take(coded))
        text = YAML.replace("first_block: 8\n", "").replace("code_length", "classify")
        text = text.replace(
            "name: sample_pairs, path: SMALL", f"name: table, path: {table}, texts: [one, other], label: label"
        )
        assert nutshell("run", write(text, f"bits/block_{block}.yaml"))[0] == 0
        own = units.read(tmp_path / f"outputs/bits/block_{block}/seed-13").columns["nats"]
        assert nats[coded] == pytest.approx(own, abs=1e-6)
        expected.append(own.sum())
    bits = sum(expected) / math.log(2)
    assert found["metrics"]["label_code_length"]["value"] == pytest.approx(bits, rel=1e-6)
    assert found["metrics"]["bits_per_label"]["value"] == pytest.approx(bits / 48, rel=1e-6)
    assert found["facts"] == {"block sizes, labels": "8, 16, 24"}
    assert found["training"]["steps"] == 8 and found["evaluation"]["examples"] == 40
    assert found["data"]["examples"] == {"train": 48} and found["evaluated_on"]["part"] == "train"
    ((_, *blocks, (_, every)),) = (table["rows"] for table in found["tables"])
    shares = [cost / size / math.log(2) for cost, size in zip(expected[1:], SIZES[1:], strict=True)]
    assert [row[:2] for _, row in blocks] == [pytest.approx(pair) for pair in zip(SIZES[1:], shares, strict=True)]
    assert every[:2] == pytest.approx([48, bits / 48])
    logged = [entry for entry in history(seed) if "eval_bits_per_label" in entry]
    assert [entry["step"] for entry in logged] == [4, 8]
    assert [entry["eval_bits_per_label"] for entry in logged] == pytest.approx(shares)
    assert [entry["step"] for entry in history(seed) if "loss" in entry] == [*range(1, 9)]


def test_the_baselines_are_coded_in_the_same_order(run, part, result):
    """The frequencies' estimate in fractions, by hand; a bag of words fitted for each block."""
    run()
    in_order, costs = part.take(order()), {}
    counts, probability = [0, 0], Fraction(1)
    for label in in_order.labels:
        probability *= Fraction(2 * counts[label] + 1, 2 * sum(counts) + 2)
        counts[label] += 1
    costs["frequencies of the labels before"] = -math.log2(probability)
    bits = 8.0
    for learned, size in ((8, 16), (24, 24)):
        known, coded = in_order.take([*range(learned)]), in_order.take([*range(learned, learned + size)])
        chances = baselines.bag_of_words(known.texts, numpy.array(known.labels), coded.texts)
        for row, label in zip(chances, coded.labels, strict=True):
            bits -= math.log2((learned * row[label] + 1) / (learned + 2))
    costs["bag of words, in the same blocks"] = bits
    baseline = result(PLACE)["baseline"]
    assert baseline["label_code_length"] == pytest.approx(costs)
    assert baseline["bits_per_label"] == pytest.approx({name: cost / 48 for name, cost in costs.items()})


def test_a_label_changes_nothing_before_it(run, part, tmp_path):
    """Nor what its own block's others cost: other labels in the last block, the same nats up to there."""
    text = YAML.replace(
        "name: sample_pairs, path: SMALL", "name: table, path: TABLE, texts: [one, other], label: label"
    )
    last, nats = order()[24:], []
    for flipped in ([], last[::2]):
        labels = [1 - y if row in flipped else y for row, y in enumerate(part.labels)]
        changed = type(part)(part.texts, labels)
        table = tmp_path / f"table-{len(flipped)}"
        write_table(table, train=changed, test=part.take([0, 1, 2, 3]))
        columns = units.read(run("--force", text=text.replace("TABLE", str(table)))).columns
        assert columns["label"].tolist() == labels
        nats.append(columns["nats"])
    others = [*order()[:24], *last[1::2]]
    assert numpy.array_equal(nats[0][others], nats[1][others])
    assert not numpy.isclose(nats[0][last[::2]], nats[1][last[::2]]).all()


def test_seeds_are_orders_and_give_the_interval(write, nutshell, tmp_path):
    code, _, errors = nutshell("run", write(YAML.replace("[13]", "[13, 21]"), f"{PLACE}.yaml"))
    assert code == 0, errors
    one, other = (units.read(tmp_path / "outputs" / PLACE / f"seed-{seed}").columns["nats"] for seed in (13, 21))
    for nats, seed in ((one, 13), (other, 21)):
        assert [*numpy.flatnonzero(nats == math.log(2))] == sorted(order(seed=seed)[:8])
    folder, page = tmp_path / "outputs" / PLACE, tmp_path / "page.html"
    estimate = read_json(folder / "summary.json")["metrics"]["bits_per_label"]
    assert estimate["over"] == "seeds and examples"
    assert estimate["mean"] == pytest.approx((one.mean() + other.mean()) / 2 / math.log(2))
    assert nutshell("report", folder, "--output", page)[0] == 0
    assert "Bits per label, block by block" in page.read_text(encoding="utf-8")
    code, printed, errors = nutshell("compare", folder / "seed-13", folder / "seed-21")
    assert code == 0 and "bits_per_label" in printed, errors


@pytest.mark.parametrize(
    ("moment", "blocks"),
    [
        pytest.param("step 2", 0, marks=SLOW),
        ("step 7", 1),
        pytest.param("batch 4", 1, marks=SLOW),  # in the pass over the last block
    ],
)
def test_a_killed_run_resumes_within_its_block(run, write, nutshell, result, monkeypatch, tmp_path, moment, blocks):
    seed = run()
    whole, log, nats = result(PLACE), history(seed), units.read(seed).columns["nats"]
    seed.rename(tmp_path / "whole")
    terminate_at(moment, monkeypatch)
    code, _, errors = nutshell("run", write(YAML, f"{PLACE}.yaml"))
    assert code == 143, errors
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert len(read_lines(seed / "blocks.jsonl")) == blocks and [*seed.glob("checkpoint-*")]
    code, _, errors = nutshell("run", write(YAML, f"{PLACE}.yaml"))
    assert code == 0, errors
    assert ("block 2 of 3" in errors) == (blocks == 0) and "block 3 of 3" in errors
    assert figures(result(PLACE)) == figures(whole) and numpy.array_equal(units.read(seed).columns["nats"], nats)
    assert history(seed) == log and not [*seed.glob("checkpoint-*")]
    assert result(PLACE)["training"]["resumed_from_step"] > 0 == whole["training"]["resumed_from_step"]


@SLOW
def test_blocks_of_another_precision_are_not_mixed(run, nutshell, tmp_path):
    seed = run()
    before = units.read(seed).columns["nats"]
    rows = read_lines(seed / "blocks.jsonl")
    changed = [json.dumps(row | {"launch": [1, "bf16"], "nats": [9.0] * len(row["nats"])}) for row in rows]
    (seed / "blocks.jsonl").write_text("\n".join(changed), encoding="utf-8")
    (seed / "metrics.json").unlink()
    assert numpy.array_equal(units.read(run()).columns["nats"], before)


@SLOW
def test_two_processes_as_one(run, write, tmp_path):
    text = YAML.replace("TINY}", "TINY, dropout: 0.0}").replace("per_device_train_batch_size: 4, ", "")
    file = write(f"{text}global_batch_size: 4\n", f"{PLACE}.yaml")
    one = units.read(run(text=file.read_text(encoding="utf-8"))).columns["nats"]
    finish([*LAUNCH, "--num_processes", "2", "-m", "nutshell"], "run", file, "--output", tmp_path / "two")
    two = units.read(tmp_path / "two" / PLACE / "seed-13").columns["nats"]
    numpy.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)


def test_damaged_blocks_are_named(run, write, nutshell):
    seed = run()
    (seed / "metrics.json").unlink()
    (seed / "blocks.jsonl").write_text('{"nats": [1.0]}\n', encoding="utf-8")
    code, _, errors = nutshell("run", write(YAML, f"{PLACE}.yaml"))
    assert code == 2 and "blocks.jsonl: is damaged; run the seed again with --force" in errors


def test_show(write, nutshell):
    code, printed, errors = nutshell("show", write(YAML, f"{PLACE}.yaml"))
    assert code == 0, errors
    for line in (
        "examples: 48 train (local copy); the figure is of the train part",
        "blocks:   8, 16, 24 labels, each but the first by a classifier",
        "steps:    8 in 2 trainings (4, 4), each of 4 examples",
    ):
        assert line in printed
    code, printed, _ = nutshell(
        "show", write(YAML, f"{PLACE}.yaml"), "training.max_steps=null", "training.num_train_epochs=3"
    )
    assert "steps:    24 in 2 trainings (6, 18)" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["first_block=48"], "first_block: 48 labels of a training part with 48: no label would be left"),
        (["first_block=0"], "first_block: should be greater than or equal to 1, not 0"),
        (["data.name=stsb"], "data: its labels are numbers; code_length codes classes"),
        (["data.reported_examples=4"], "data.reported_examples: the labels of the training part are coded"),
        (["training.eval_strategy=epoch"], "training.eval_strategy: each label is coded before it is learned"),
        (["training.load_best_model_at_end=true"], "training.load_best_model_at_end: each label is coded"),
        (["keep_checkpoints=true"], "keep_checkpoints: those of a block are removed"),
        (["loss.class_weights=balanced"], "loss"),
        (["blocks=[16, 32]"], "blocks"),
        (["reference.accuracy=[0, 1]"], "reference.accuracy"),
    ],
)
def test_what_is_refused(write, nutshell, words, message):
    code, _, errors = nutshell("show", write(YAML, f"{PLACE}.yaml"), *words)
    assert code == 2 and message in errors and "Traceback" not in errors


def test_a_bag_of_words_codes_labels_that_it_has_not_seen():
    """One label only so far: (n + 1) / (n + labels) for it, 1 / (n + labels) for any other."""
    texts = [(f"word{number}",) for number in range(6)]
    nats = baselines.bag_of_words_in_blocks(texts, [0, 0, 0, 1, 2, 0], [2, 2, 2], 3)
    assert numpy.exp(-nats[:4]) == pytest.approx([1 / 3, 1 / 3, 3 / 5, 1 / 5])
    assert math.exp(-nats[4]) == pytest.approx(1 / 7)
    with pytest.raises(UserError, match="a bag of words of 2 training examples: "):
        baselines.bag_of_words_in_blocks([("",)] * 4, [0, 1, 0, 1], [2, 2], 2)
