"""Seeds of one experiment summed up: mean, deviation, interval, and what a figure is worth."""

import numpy
import pytest

from nutshell.bits.figures import intervals
from nutshell.bits.figures.units import NAME
from nutshell.report.results import runs as results
from nutshell.report.results.summary import series, spread
from tests.report import runs


def summed(folder):
    (one,) = series(results.find([folder]))
    return one.summary


def test_one_seed_has_its_own_interval(tmp_path):
    runs.write(tmp_path / "c/one", runs.classified(right=30))
    summary = summed(tmp_path)
    estimate = summary.metrics["accuracy"]
    figure = runs.classified(right=30)["metrics.json"]["metrics"]["accuracy"]
    assert (estimate.mean, list(estimate.interval_95)) == (figure["value"], figure["interval_95"])
    assert (estimate.over, estimate.standard_deviation, estimate.by_seed) == ("examples", None, {13: 0.75})
    assert spread(summary) == "one seed: variation between seeds is not included"


def test_several_seeds_have_an_interval_over_seeds_and_examples(tmp_path):
    every = {seed: runs.classified(seed, right) for seed, right in ((13, 28), (21, 31), (42, 34))}
    for files in every.values():
        runs.write(tmp_path / "c/one", files)
    summary = summed(tmp_path)
    estimate = summary.metrics["accuracy"]
    assert estimate.mean == pytest.approx(31 / 40) and estimate.standard_deviation == pytest.approx(3 / 40)
    assert estimate.over == "seeds and examples" and spread(summary) == "3 seeds"
    metric = every[13][NAME].metrics[0]
    columns = [metric.select(files[NAME].columns) for files in every.values()]
    assert estimate.interval_95 == intervals.over_seeds_and_units(columns, metric.statistic)
    for one in columns:  # wider than over the examples of any one seed
        low, high = intervals.over_units(one, metric.statistic)
        assert high - low < estimate.interval_95[1] - estimate.interval_95[0]


def test_two_seeds_of_equal_accuracy_have_no_empty_interval(tmp_path):
    """The same 80 answers twice: other examples would still give other figures."""
    for seed in (13, 21):
        files = runs.classified(seed, right=20)
        units = files[NAME]
        columns = {name: numpy.concatenate([values, values]) for name, values in units.columns.items()}
        twice = runs.complete(files["metrics.json"]["experiment"], type(units)(units.kind, units.metrics, columns))
        runs.write(tmp_path / "c/one", twice)
    estimate = summed(tmp_path).metrics["accuracy"]
    low, high = estimate.interval_95
    assert estimate.mean == 0.5 and estimate.standard_deviation == 0
    assert low < 0.42 and high > 0.58 and estimate.over == "seeds and examples"


def test_without_its_units_an_interval_is_over_seeds_and_says_so(tmp_path):
    for seed, right in ((13, 28), (21, 31), (42, 34)):
        folder = runs.write(tmp_path / "c/one", runs.classified(seed, right))
    (folder / NAME).unlink()
    estimate = summed(tmp_path).metrics["accuracy"]
    assert estimate.over == "seeds"
    assert estimate.interval_95 == pytest.approx(intervals.over_seeds([28 / 40, 31 / 40, 34 / 40]))


def test_a_band_of_another_part_says_nothing_of_the_figure(tmp_path):
    runs.write(tmp_path / "c/same", runs.classified(right=20))
    runs.write(tmp_path / "c/other", runs.classified(right=20, band_part="validation"))
    same, other = summed(tmp_path / "c/same"), summed(tmp_path / "c/other")
    assert (same.band("accuracy"), same.verdict("accuracy")) == ((0.84, 0.88), "below")
    assert (other.band("accuracy"), other.verdict("accuracy")) == (None, "")


@pytest.mark.parametrize(("right", "verdict"), [(33, "below"), (34, "inside"), (35, "inside"), (36, "above")])
def test_where_the_mean_is_in_its_band(tmp_path, right, verdict):
    runs.write(tmp_path / "c/one", runs.classified(right=right))
    assert summed(tmp_path).verdict("accuracy") == verdict


@pytest.mark.parametrize(
    ("right", "expected"),
    [(4, "worse than"), (20, "no better than"), (25, "no better than"), (29, "better than"), (40, "better than")],
)
def test_a_figure_whose_interval_contains_its_baseline_is_no_better(tmp_path, right, expected):
    """Clear of the baseline on either side, or not."""
    runs.write(tmp_path / "c/one", runs.classified(right=right))
    summary = summed(tmp_path)
    assert summary.baseline["accuracy"] == {"always answering not_equivalent": 0.5}
    assert summary.standing("accuracy") == expected


def test_lower_is_better_than_the_best_compressor(tmp_path):
    for name, bits in (("good", 1.0), ("poor", 2.5)):
        runs.write(tmp_path / "l" / name, runs.modelled(bits=bits))
    assert summed(tmp_path / "l/good").standing("bits_per_byte") == "better than"
    assert summed(tmp_path / "l/poor").standing("bits_per_byte") == "worse than"
    assert summed(tmp_path / "l/poor").standing("perplexity") is None  # nothing to compare with


def test_a_note_names_the_seed_that_it_is_of(tmp_path):
    note = "the model gave one answer only, equivalent"
    for seed, notes in ((13, []), (21, [note])):
        files = runs.classified(seed)
        files["metrics.json"]["notes"] = notes
        runs.write(tmp_path / "c/some", files)
        files["metrics.json"]["notes"] = [note]
        runs.write(tmp_path / "c/all", files)
    assert summed(tmp_path / "c/some").notes == [f"seed 21: {note}"]
    assert summed(tmp_path / "c/all").notes == [note]


def test_validation_is_known_only_if_each_seed_s_is(tmp_path):
    for seed, values in ((13, {"accuracy": 0.7}), (21, {"accuracy": 0.8})):
        files = runs.classified(seed)
        files["metrics.json"]["validation"] = values
        runs.write(tmp_path / "c/both", files)
        files["metrics.json"]["validation"] = values if seed == 13 else None
        runs.write(tmp_path / "c/one", files)
    assert summed(tmp_path / "c/both").validation == {"accuracy": 0.75}
    assert summed(tmp_path / "c/one").validation is None
