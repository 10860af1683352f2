"""Whether one experiment beats another: the same examples, the paired bootstrap, McNemar, what is refused."""

import json
import math

import numpy
import pytest
from scipy import stats

from nutshell.machine.errors import UserError
from nutshell.report import comparison, results

RANDOM = numpy.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 200)
GOOD, POOR = (numpy.where(RANDOM.random(200) < share, LABELS, 1 - LABELS) for share in (0.9, 0.6))


def entry(value: float, higher: bool) -> dict:
    return {"value": value, "interval_95": [0.0, 1.0], "unit": "a unit", "higher_is_better": higher}


def write(folder, seed: int, task: str, metrics: dict, rows: list[dict], digest: str = "d") -> None:
    """A finished run with these figures and predictions."""
    folder = folder / f"seed-{seed}"
    folder.mkdir(parents=True)
    data = {"name": "mrpc" if task == "classify" else "imdb"}
    resolved = {"task": task, "seed": seed, "model": {"name": folder.parent.name}, "data": data}
    (folder / "experiment.yaml").write_text(json.dumps(resolved))
    name = {"classify": "predictions.jsonl", "language_model": "stretches.jsonl"}.get(task, "samples.jsonl")
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {
        "evaluated_on": {
            "part": "test",
            "examples": len(rows),
            "chose": False,
            "text": f"{len(rows)} of the test part",
        },
        "metrics": metrics,
        "data": {
            "source": "made",
            "examples": {"test": len(rows)},
            "sha256": {"train": folder.parent.name, "test": digest},
        },
        "parameters": {"all": 1, "trained": 1},
        "training": None,
        "experiment": resolved,
        "provenance": {
            **{"commit": "c" * 40, "dirty": False, "device": "a CPU", "mixed_precision": "no", "processes": 1},
            "wall_seconds": 1.0,
        },
    }
    (folder / "metrics.json").write_text(json.dumps(content))


def classifier(folder, seed: int, predicted: numpy.ndarray, labels=LABELS, digest: str = "d") -> None:
    share = float((predicted == labels).mean())
    rows = [
        {
            "index": n,
            "label": int(label),
            "predicted": int(guess),
            "probabilities": [0.9, 0.1] if guess == 0 else [0.1, 0.9],
        }
        for n, (label, guess) in enumerate(zip(labels, predicted, strict=True))
    ]
    nats = [-math.log(row["probabilities"][row["label"]]) for row in rows]
    bits = float(numpy.mean(nats)) / math.log(2)
    both = int((predicted * labels).sum())
    f1 = 2 * both / int(predicted.sum() + labels.sum())
    figures = {"accuracy": entry(share, True), "f1": entry(f1, True), "label_bits": entry(bits, False)}
    write(folder, seed, "classify", figures, rows, digest)


def language_model(folder, seed: int, nats: numpy.ndarray, tokens: int = 10) -> None:
    rows = [
        {"document": n, "start_byte": 0, "bytes": 40 + n % 7, "tokens": tokens, "nats": float(cost)}
        for n, cost in enumerate(nats)
    ]
    size = sum(row["bytes"] for row in rows)
    figures = {
        "perplexity": entry(math.exp(nats.sum() / tokens / len(nats)), False),
        "bits_per_byte": entry(nats.sum() / math.log(2) / size, False),
    }
    write(folder, seed, "language_model", figures, rows)


def found(*folders):
    return [results.experiments(results.find([folder]))[0] for folder in folders]


def rows_of(both) -> dict:
    return {row.metric: row for row in comparison.compare(*both).rows}


def test_one_seed_each(tmp_path):
    one, other = tmp_path / "c/good", tmp_path / "c/poor"
    classifier(one, 13, GOOD), classifier(other, 21, POOR)
    both = comparison.compare(*found(one, other))
    rows = {row.metric: row for row in both.rows}
    assert (both.unit, both.count, both.seeds) == ("examples", 200, ([13], [21]))
    right, wrong = GOOD == LABELS, POOR == LABELS
    apart = right.astype(float) - wrong
    theirs = stats.bootstrap((apart,), numpy.mean, method="percentile", rng=3).confidence_interval
    assert rows["accuracy"].difference == pytest.approx(apart.mean())
    assert rows["accuracy"].interval_95 == pytest.approx((theirs.low, theirs.high), abs=0.015)
    assert [rows[name].better for name in ("accuracy", "f1", "label_bits")] == [0, 0, 0]
    assert all(row.over_seeds is None for row in both.rows)
    (test,) = both.mcnemar
    assert (test.seeds, test.only_one_right) == ((13, 21), int((right & ~wrong).sum()))
    assert rows["f1"].interval_95[0] < rows["f1"].difference < rows["f1"].interval_95[1]


def test_the_other_way_round(tmp_path):
    one, other = tmp_path / "c/good", tmp_path / "c/poor"
    classifier(one, 13, GOOD), classifier(other, 13, POOR)
    rows = rows_of(found(other, one))
    assert [row.better for row in rows.values()] == [1, 1, 1]
    assert rows["accuracy"].difference < 0 < rows["label_bits"].difference


def test_an_experiment_does_not_beat_itself(tmp_path):
    classifier(tmp_path / "c/good", 13, GOOD), classifier(tmp_path / "c/same", 13, GOOD)
    both = comparison.compare(*found(tmp_path / "c/good", tmp_path / "c/same"))
    assert all(row.difference == 0 and row.better is None for row in both.rows)
    assert both.mcnemar[0].p_value == 1.0


def test_several_seeds(tmp_path):
    """Each one's mean over its own seeds; a claim must also hold over seeds; McNemar for each seed both have."""
    one, other = tmp_path / "c/good", tmp_path / "c/poor"
    for seed in (13, 21, 42):
        flip = numpy.random.default_rng(seed).random(200) < 0.03
        classifier(one, seed, numpy.where(flip, 1 - GOOD, GOOD))
        if seed != 42:
            classifier(other, seed, numpy.where(flip, 1 - POOR, POOR))
    both = comparison.compare(*found(one, other))
    row = both.rows[0]
    assert row.difference == pytest.approx(row.values[0] - row.values[1]) and row.better == 0
    assert row.over_seeds[0] < row.difference < row.over_seeds[1]
    assert [test.seeds for test in both.mcnemar] == [(13, 13), (21, 21)]


def test_language_models(tmp_path):
    costs = RANDOM.gamma(20.0, 1.0, 60)
    language_model(tmp_path / "l/one", 13, costs)
    language_model(tmp_path / "l/other", 13, costs * 1.05)
    language_model(tmp_path / "l/third", 13, costs * 1.05, tokens=12)
    rows = rows_of(found(tmp_path / "l/one", tmp_path / "l/other"))
    assert rows["bits_per_byte"].better == rows["perplexity"].better == 0
    assert rows["bits_per_byte"].difference == pytest.approx(-0.05 * rows["bits_per_byte"].values[0])
    assert list(rows_of(found(tmp_path / "l/one", tmp_path / "l/third"))) == ["bits_per_byte"]  # other tokens


def test_groups_are_of_the_same_examples(tmp_path):
    classifier(tmp_path / "c/poor", 13, POOR), classifier(tmp_path / "c/good", 13, GOOD)
    classifier(tmp_path / "c/elsewhere", 13, GOOD, digest="e")
    language_model(tmp_path / "l/one", 13, RANDOM.gamma(20.0, 1.0, 60))
    (group,) = comparison.groups(results.experiments(results.find([tmp_path])))
    assert [experiment.label for experiment in group] == ["c/good", "c/poor"]


def test_what_cannot_be_compared(tmp_path, nutshell):
    classifier(tmp_path / "c/good", 13, GOOD), classifier(tmp_path / "c/elsewhere", 13, GOOD, digest="e")
    classifier(tmp_path / "c/lost", 13, GOOD), classifier(tmp_path / "c/torn", 13, GOOD)
    classifier(tmp_path / "c/swapped", 13, GOOD, 1 - LABELS)
    write(tmp_path / "g/prompts", 13, "generate", {"mean_nats": entry(2.0, None)}, [])
    (tmp_path / "c/lost/seed-13/predictions.jsonl").unlink()
    torn = tmp_path / "c/torn/seed-13/predictions.jsonl"
    torn.write_text("".join(torn.read_text().splitlines(keepends=True)[:-1]))
    unfinished = tmp_path / "c/unfinished/seed-13"
    unfinished.mkdir(parents=True)
    (unfinished / "experiment.yaml").write_text("{task: classify, seed: 13}")
    for other, said in (
        ("c/elsewhere", "were not measured on the same examples"),
        ("c/lost", "predictions.jsonl: is missing or damaged; run the experiment again with --force"),
        ("c/torn", "c/torn/seed-13/predictions.jsonl: is damaged"),
        ("c/swapped", "is not of the examples that metrics.json names"),
        ("g/prompts", "continuations cannot be right or wrong"),
        ("c/unfinished", "no run of it is complete"),
        ("c", "holds 6 experiments; name one of c/elsewhere, c/good, c/lost, c/swapped, c/torn and 1 more"),
        ("nowhere", "no such folder"),
    ):
        code, _, said_to_user = nutshell("compare", tmp_path / "c/good", tmp_path / other)
        assert code == 2 and said in said_to_user, other


def test_the_command_prints_the_table(tmp_path, nutshell):
    classifier(tmp_path / "c/good", 13, GOOD), classifier(tmp_path / "c/good", 21, POOR)
    code, printed, _ = nutshell("compare", tmp_path / "c/good/seed-13", tmp_path / "c/good/seed-21")
    assert code == 0 and "A is better" in printed and "McNemar's exact test, seeds 13 and 21" in printed
    with pytest.raises(UserError):
        results.find([tmp_path / "c/good/seed-99"])
