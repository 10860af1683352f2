"""Whether one experiment beats another: the same units, the paired bootstrap, McNemar, the best of a group, what is
refused."""

import json
from dataclasses import replace

import numpy
import pytest
from scipy import stats

from nutshell.bits.figures.metrics import OF_ANY
from nutshell.bits.figures.units import NAME, Units
from nutshell.machine.errors import UserError
from nutshell.report import comparison
from nutshell.report.results import runs as results
from nutshell.report.results.summary import series
from nutshell.tasks import generate, language_model
from tests.report.runs import complete, write

RANDOM = numpy.random.default_rng(0)
METRICS = tuple(OF_ANY[name] for name in ("accuracy", "f1", "label_bits"))
LABELS = RANDOM.integers(0, 2, 200)
GOOD, POOR = (numpy.where(RANDOM.random(200) < share, LABELS, 1 - LABELS) for share in (0.9, 0.6))


def classifier(folder, seed: int, predicted, labels=LABELS, **more):
    """A complete run of a classifier that gave these answers; its folder."""
    nats = -numpy.log(numpy.where(predicted == labels, 0.9, 0.1))
    columns = {"label": labels, "predicted": predicted, "nats": nats}
    return _complete(folder, seed, "classify", Units("examples", METRICS, columns), **more)


def language_model_run(folder, seed: int, nats, tokens: int = 10):
    """A complete run of a language model whose stretches of text cost this much; its folder."""
    sizes = 40 + numpy.arange(len(nats)) % 7
    columns = {"bytes": sizes, "words": sizes // 5, "tokens": numpy.full(len(nats), tokens), "nats": nats}
    return _complete(folder, seed, "language_model", Units("stretches of text", language_model.METRICS, columns))


def _complete(folder, seed: int, task: str, units: Units, **more):
    experiment = {"task": task, "seed": seed, "model": {"name": folder.name}, "data": {"name": "mrpc"}}
    return write(folder, complete(experiment, units, **more))


def every(*folders):
    return [series(results.find([folder]))[0] for folder in folders]


def rows_of(pair) -> dict:
    return {row.metric: row for row in comparison.compare(*pair).rows}


def test_one_seed_each(tmp_path):
    one, other = tmp_path / "c/good", tmp_path / "c/poor"
    classifier(one, 13, GOOD), classifier(other, 21, POOR)
    both = comparison.compare(*every(one, other))
    rows = {row.metric: row for row in both.rows}
    assert (both.unit, both.count, both.seeds) == ("examples", 200, ([13], [21]))
    right, wrong = GOOD == LABELS, POOR == LABELS
    difference = right.astype(float) - wrong
    theirs = stats.bootstrap((difference,), numpy.mean, method="percentile", rng=3).confidence_interval
    assert rows["accuracy"].difference == pytest.approx(difference.mean())
    assert rows["accuracy"].interval_95 == pytest.approx((theirs.low, theirs.high), abs=0.015)
    assert [rows[name].better for name in ("accuracy", "f1", "label_bits")] == [0, 0, 0]
    assert all(row.over == "examples" for row in both.rows)
    (test,) = both.mcnemar
    assert (test.seeds, test.only_first_right) == ((13, 21), int((right & ~wrong).sum()))
    assert rows["f1"].interval_95[0] < rows["f1"].difference < rows["f1"].interval_95[1]


def test_the_other_way_round(tmp_path):
    one, other = tmp_path / "c/good", tmp_path / "c/poor"
    classifier(one, 13, GOOD), classifier(other, 13, POOR)
    rows = rows_of(every(other, one))
    assert [row.better for row in rows.values()] == [1, 1, 1]
    assert rows["accuracy"].difference < 0 < rows["label_bits"].difference


def test_an_experiment_does_not_beat_itself(tmp_path):
    classifier(tmp_path / "c/good", 13, GOOD), classifier(tmp_path / "c/same", 13, GOOD)
    both = comparison.compare(*every(tmp_path / "c/good", tmp_path / "c/same"))
    assert all(row.difference == 0 and row.better is None for row in both.rows)
    assert both.mcnemar[0].p_value == 1.0


def test_several_seeds(tmp_path):
    """Each one's mean over its own seeds; the interval is over seeds and examples; McNemar for each seed both have."""
    one, other = tmp_path / "c/good", tmp_path / "c/poor"
    for seed in (13, 21, 42):
        flip = numpy.random.default_rng(seed).random(200) < 0.03
        classifier(one, seed, numpy.where(flip, 1 - GOOD, GOOD))
        if seed != 42:
            classifier(other, seed, numpy.where(flip, 1 - POOR, POOR))
    both = comparison.compare(*every(one, other))
    row = both.rows[0]
    assert row.difference == pytest.approx(row.values[0] - row.values[1]) and row.better == 0
    assert row.interval_95[0] < row.difference < row.interval_95[1] and row.over == "seeds and examples"
    assert [test.seeds for test in both.mcnemar] == [(13, 13), (21, 21)]


def test_language_models(tmp_path):
    costs = RANDOM.gamma(20.0, 1.0, 60)
    language_model_run(tmp_path / "l/one", 13, costs)
    language_model_run(tmp_path / "l/other", 13, costs * 1.05)
    language_model_run(tmp_path / "l/third", 13, costs * 1.05, tokens=12)
    rows = rows_of(every(tmp_path / "l/one", tmp_path / "l/other"))
    assert rows["bits_per_byte"].better == rows["perplexity"].better == 0
    assert rows["bits_per_byte"].difference == pytest.approx(-0.05 * rows["bits_per_byte"].values[0])
    rows = rows_of(every(tmp_path / "l/one", tmp_path / "l/third"))
    assert list(rows) == ["bits_per_byte", "word_perplexity", "byte_perplexity"]  # not per token: those are others


@pytest.mark.parametrize(("count", "too_few"), [(4, True), (19, True), (20, False)])
def test_below_twenty_units_nobody_wins(tmp_path, nutshell, count, too_few):
    """Half the cost on each stretch of text, and still no winner is called on 19 of them."""
    costs = RANDOM.gamma(20.0, 1.0, count)
    one, other = tmp_path / "l/one", tmp_path / "l/other"
    language_model_run(one, 13, costs), language_model_run(other, 13, 2 * costs)
    both = comparison.compare(*every(one, other))
    assert both.too_few is too_few
    assert [row.better for row in both.rows] == [None if too_few else 0] * 4
    code, printed, _ = nutshell("compare", one, other)
    assert code == 0 and ("too few to tell" in printed) is too_few and ("A is better" in printed) is not too_few


def test_a_single_stretch_of_text_is_not_compared(tmp_path, nutshell):
    """A short text is one unit: there is nothing to draw again, and the report says so."""
    for name, cost in (("one", 5.0), ("other", 6.0)):
        language_model_run(tmp_path / "l" / name, 13, numpy.array([cost]))
    code, _, errors = nutshell("compare", tmp_path / "l/one", tmp_path / "l/other")
    assert code == 2 and "only one unit of stretches of text, too few to compare" in errors
    assert nutshell("report", tmp_path, "--output", tmp_path / "report.html")[0] == 0
    assert "too few to compare" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_groups_are_of_the_same_units(tmp_path):
    classifier(tmp_path / "c/poor", 13, POOR), classifier(tmp_path / "c/good", 13, GOOD)
    classifier(tmp_path / "c/elsewhere", 13, GOOD, digest="e" * 64)
    language_model_run(tmp_path / "l/one", 13, RANDOM.gamma(20.0, 1.0, 60))
    (group,) = comparison.groups(series(results.find([tmp_path])))
    assert [one.label for one in group.series] == ["c/good", "c/poor"]
    assert (group.chosen_by, group.settings) == ("reported", 2)


def test_the_best_is_chosen_by_the_validation_part(tmp_path):
    """Not by the figure that is reported, which is then still that of a part that chose nothing."""
    classifier(tmp_path / "c/poor", 13, POOR, validation={"accuracy": 0.8})
    classifier(tmp_path / "c/good", 13, GOOD, validation={"accuracy": 0.7})
    classifier(tmp_path / "c/other", 13, GOOD, validation={"accuracy": 0.75})
    (group,) = comparison.groups(series(results.find([tmp_path])))
    assert [one.label for one in group.series] == ["c/poor", "c/other", "c/good"]
    assert (group.chosen_by, group.settings) == ("validation", 3)


def test_the_mean_over_seeds_chooses(tmp_path):
    """The best validation figure of a single seed does not."""
    for seed, lucky, steady in ((1, 0.9, 0.8), (2, 0.6, 0.8)):
        classifier(tmp_path / "c/lucky", seed, GOOD, validation={"accuracy": lucky})
        classifier(tmp_path / "c/steady", seed, GOOD, validation={"accuracy": steady})
    (group,) = comparison.groups(series(results.find([tmp_path])))
    assert [one.label for one in group.series] == ["c/steady", "c/lucky"]
    assert group.series[1].summary.validation == {"accuracy": 0.75}


def test_lower_is_better_where_the_metric_says_so(tmp_path):
    costs = RANDOM.gamma(20.0, 1.0, 60)
    language_model_run(tmp_path / "l/worse", 13, costs * 1.1), language_model_run(tmp_path / "l/better", 13, costs)
    (group,) = comparison.groups(series(results.find([tmp_path])))
    assert [one.label for one in group.series] == ["l/better", "l/worse"]


def test_what_cannot_be_compared(tmp_path, nutshell):
    for name in ("good", "lost", "torn"):
        classifier(tmp_path / "c" / name, 13, GOOD)
    classifier(tmp_path / "c/elsewhere", 13, GOOD, digest="e" * 64)
    classifier(tmp_path / "c/swapped", 13, GOOD, 1 - LABELS)
    classifier(tmp_path / "c/short", 13, GOOD[:150], LABELS[:150])
    texts = {"nats": numpy.ones(3), "tokens": numpy.ones(3), "ids": [[1, 2, 3, 4, 5]] * 3}
    _complete(tmp_path / "g/prompts", 13, "generate", Units("continuations", generate.METRICS, texts))
    _complete(tmp_path / "g/again", 13, "generate", Units("continuations", generate.METRICS, texts))
    (tmp_path / "c/lost/seed-13" / NAME).unlink()
    torn = tmp_path / "c/torn/seed-13" / NAME
    torn.write_bytes(torn.read_bytes()[:-20])
    unfinished = tmp_path / "c/unfinished/seed-13"
    unfinished.mkdir(parents=True)
    (unfinished / "experiment.yaml").write_text("{task: classify, seed: 13}")
    good, damaged = "c/good", f"{NAME}: is missing or damaged; run the experiment again with --force"
    for first, second, message in (
        (good, "c/elsewhere", "were not measured on the same data"),
        (good, "c/lost", f"c/lost/seed-13/{damaged}"),
        (good, "c/torn", f"c/torn/seed-13/{damaged}"),
        (good, "c/swapped", "have no figure that can be compared unit by unit"),
        (good, "c/short", "their files of units differ in length; run them again"),
        (good, "g/prompts", "were not measured on the same data"),
        ("g/prompts", "g/again", "have no figure that can be compared unit by unit"),
        (good, "c/unfinished", "no run of it is complete"),
        (good, "c", "holds 7 experiments; name one of c/elsewhere, c/good, c/lost, c/short, c/swapped and 2 more"),
        (good, "nowhere", "no such folder"),
    ):
        code, _, errors = nutshell("compare", tmp_path / first, tmp_path / second)
        assert code == 2 and message in errors, second


def test_figures_by_other_rules_are_not_compared(tmp_path, nutshell):
    """One model measured in two ways would be better than itself."""
    costs = RANDOM.gamma(20.0, 1.0, 60)
    for name in ("usual", "other"):
        language_model_run(tmp_path / "l" / name, 13, costs)
    file = tmp_path / "l/other/seed-13/metrics.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    result["evaluated_on"]["rules"] = "count_ends: false"
    file.write_text(json.dumps(result), encoding="utf-8")
    code, _, errors = nutshell("compare", tmp_path / "l/usual", tmp_path / "l/other")
    assert code == 2 and "on the same data by the same rules" in errors
    assert comparison.groups(every(tmp_path / "l/usual", tmp_path / "l/other")) == []


def test_runs_of_two_definitions_of_a_metric_are_not_compared(tmp_path):
    """A figure of the same name that comes about in another way is another figure."""
    columns = {"label": LABELS, "predicted": GOOD, "nats": numpy.ones(200)}
    other = (replace(METRICS[0], statistic=METRICS[1].statistic), *METRICS[1:])
    _complete(tmp_path / "c/one", 13, "classify", Units("examples", METRICS, columns))
    _complete(tmp_path / "c/other", 13, "classify", Units("examples", other, columns))
    assert list(rows_of(every(tmp_path / "c/one", tmp_path / "c/other"))) == ["f1", "label_bits"]


def test_the_command_prints_the_table(tmp_path, nutshell):
    classifier(tmp_path / "c/good", 13, GOOD), classifier(tmp_path / "c/good", 21, POOR)
    code, printed, _ = nutshell("compare", tmp_path / "c/good/seed-13", tmp_path / "c/good/seed-21")
    assert code == 0 and "A is better" in printed and "McNemar's exact test, seeds 13 and 21" in printed
    assert "variation between seeds is not included" in " ".join(printed.split())
    with pytest.raises(UserError):
        results.find([tmp_path / "c/good/seed-99"])


def test_more_than_two_are_compared_with_the_first(tmp_path, nutshell):
    for name, answers in (("one", GOOD), ("two", POOR), ("three", LABELS)):
        classifier(tmp_path / "c" / name, 13, answers)
    code, printed, _ = nutshell("compare", *(tmp_path / "c" / name for name in ("one", "two", "three")))
    assert code == 0 and printed.count("McNemar") == 2
    assert "2 comparisons; no interval and no p-value is corrected for how many there are" in printed


MATCHED = numpy.arange(200) < 150


def by_part(folder, seed: int, predicted, matched=MATCHED):
    """A complete run of a classifier that is measured on two groups of examples."""
    accuracy = OF_ANY["accuracy"]
    metrics = (
        replace(accuracy, where="matched"),
        replace(accuracy, name="accuracy_mismatched", where="mismatched"),
    )
    columns = {"label": LABELS, "predicted": predicted, "matched": matched, "mismatched": ~matched}
    return _complete(folder, seed, "classify", Units("examples", metrics, columns))


def test_metrics_of_some_units_are_paired_within_them(tmp_path):
    """Better on the first 150 examples, no different on the others; each row is that of a run of its examples."""
    one, other = tmp_path / "c/good", tmp_path / "c/poor"
    mixed = numpy.where(MATCHED, POOR, GOOD)
    for seed in (13, 21):
        by_part(one, seed, GOOD), by_part(other, seed, mixed)
    rows = rows_of(every(one, other))
    right = (GOOD == LABELS).astype(float) - (POOR == LABELS)
    assert rows["accuracy"].difference == pytest.approx(right[MATCHED].mean()) and rows["accuracy"].better == 0
    assert rows["accuracy_mismatched"].difference == 0 and rows["accuracy_mismatched"].better is None
    estimates = every(one)[0].summary.metrics
    assert estimates["accuracy"].mean == pytest.approx((GOOD == LABELS)[MATCHED].mean())
    assert estimates["accuracy_mismatched"].over == "seeds and examples"
    low, high = estimates["accuracy_mismatched"].interval_95
    assert low < (GOOD == LABELS)[~MATCHED].mean() < high


def test_groups_of_other_units_cannot_be_paired(tmp_path):
    by_part(tmp_path / "c/one", 13, GOOD), by_part(tmp_path / "c/other", 13, POOR, ~MATCHED)
    with pytest.raises(UserError, match="no figure that can be compared unit by unit"):
        comparison.compare(*every(tmp_path / "c/one", tmp_path / "c/other"))


def test_too_few_units_of_a_group(tmp_path):
    few = numpy.arange(200) < 19
    by_part(tmp_path / "c/one", 13, LABELS, few), by_part(tmp_path / "c/other", 13, 1 - LABELS, few)
    rows = rows_of(every(tmp_path / "c/one", tmp_path / "c/other"))
    assert rows["accuracy"].better is None and rows["accuracy_mismatched"].better == 0


def test_an_undefined_figure_is_left_out_of_a_comparison(tmp_path):
    """No positive answer and no positive label: F1 is 0 / 0."""
    labels = numpy.zeros(200, dtype=int)
    classifier(tmp_path / "c/one", 13, labels, labels), classifier(tmp_path / "c/other", 13, labels, labels)
    rows = rows_of(every(tmp_path / "c/one", tmp_path / "c/other"))
    assert [*rows] == ["accuracy", "label_bits"]
