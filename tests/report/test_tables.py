"""The tables of the terminal, of `nutshell report --format` and of the READMEs."""

import csv
import io
import json
import re

import pytest

from nutshell.report import tables
from nutshell.report.results import benchmark
from nutshell.report.results import runs as results
from nutshell.report.results.summary import read_summaries, series
from tests.conftest import ROOT
from tests.report import runs


@pytest.fixture
def root(tmp_path):
    """A classifier of three seeds and one of a single seed, and a language model."""
    for seed in (13, 21, 42):
        runs.write(tmp_path / "finetune/pairs_large", runs.classified(seed, 28 + seed % 4))
    runs.write(tmp_path / "finetune/weak", runs.classified(right=12))
    runs.write(tmp_path / "language_model/small", runs.modelled())
    return tmp_path


def summaries(folder):
    return [one.summary for one in series(results.find([folder]))]


def cells(text: str) -> list[list[str]]:
    """A Markdown table's cells, without the line below its head."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert len({len(line) for line in lines}) == 1
    return [line for line in lines if set("".join(line)) != {"-"}]


def report(nutshell, root, form: str) -> str:
    code, printed, _ = nutshell("report", root, "--format", form)
    assert code == 0
    return printed


def test_markdown(nutshell, root):
    head, *lines = cells(report(nutshell, root, "markdown"))
    assert head[:6] == ["experiment", "metric", "value", "95 % interval", "published band", "baseline"]
    assert [line[0] for line in lines if line[0]] == [
        "`finetune/pairs_large`",
        "`finetune/weak`",
        "`language_model/small`",
    ]
    first, weak = lines[0], lines[2]
    assert first[1:3] == ["accuracy", "0.73 ± 0.01"] and first[3].endswith("over seeds and examples")
    assert first[4:7] == ["0.84 to 0.88: below", "better than 0.50 (always answering not_equivalent)", "13, 21, 42"]
    assert first[7:] == ["fp32, AMD EPYC (2 threads)", "61 s"]
    assert weak[5] == "worse than 0.50 (always answering not_equivalent)"
    assert lines[4][5] == "better than 2.400 (xz -9e)"  # the best compressor


def test_comma_separated(nutshell, root):
    rows = list(csv.DictReader(io.StringIO(report(nutshell, root, "csv"))))
    assert len(rows) == 8
    first = rows[0]
    (expected, *_) = summaries(root)
    estimate = expected.metrics["accuracy"]
    assert (first["experiment"], first["metric"], first["seeds"]) == ("finetune/pairs_large", "accuracy", "13 21 42")
    assert float(first["value"]) == estimate.mean and float(first["deviation"]) == estimate.standard_deviation
    assert (float(first["interval_low"]), float(first["interval_high"])) == estimate.interval_95
    assert (first["band_low"], first["band_high"], rows[1]["band_low"], rows[2]["deviation"]) == (
        "0.84",
        "0.88",
        "",
        "",
    )


def test_json_has_the_same_rows_in_full_precision(nutshell, root):
    rows = json.loads(report(nutshell, root, "json"))
    assert rows == json.loads(json.dumps(tables.figures(summaries(root))))
    assert rows[0]["seeds"] == [13, 21, 42] and rows[2]["deviation"] is None


def test_latex(nutshell, root):
    text = report(nutshell, root, "latex")
    assert text.startswith("\\begin{tabular}{lllllll}\n\\hline\n") and text.endswith("\\hline\n\\end{tabular}\n")
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(body) == 9 and {line.count(" & ") for line in body} == {6}
    assert r"finetune/pairs\_large & accuracy & 0.73 $\pm$ 0.01" in text and r"95 \% interval" in text


def test_every_special_letter_of_latex_is_escaped():
    files = runs.classified()
    files["metrics.json"]["provenance"]["device"] = "50 % & more_$#{x}~^\\"
    text = tables.latex([runs.outcome(files)[1]])
    assert r"50 \% \& more\_\$\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in text


def test_a_format_goes_into_a_file(nutshell, root, tmp_path):
    file = tmp_path / "table.csv"
    code, printed, _ = nutshell("report", root, "--format", "csv", "--output", file)
    assert code == 0 and printed == f"{file}: 5 runs, 5 complete\n"
    assert len(file.read_text().splitlines()) == 9


def estimate_of(interval, mean: float = 0.5, deviation=None):
    estimate = runs.outcome(runs.classified())[1].metrics["accuracy"]
    return estimate.model_copy(update={"mean": mean, "interval_95": interval, "standard_deviation": deviation})


@pytest.mark.parametrize(
    ("interval", "places"),
    [
        ((0.77, 0.89), 3),  # half of it is 0.06: two digits of that
        ((0.4, 0.6), 2),
        ((0.49997, 0.50003), 6),
        ((100.0, 140.0), 0),
        ((0.5, 0.5), 4),
        (None, 4),
    ],
)
def test_a_figure_is_rounded_to_its_interval(interval, places):
    assert tables.decimals(estimate_of(interval)) == places


def test_value_deviation_interval_and_baseline_have_the_same_decimals():
    summary = runs.outcome(runs.classified(band_part="validation"))[1]
    estimate = estimate_of((0.4471, 0.5612), 0.51234, 0.01234)
    summary = summary.model_copy(update={"metrics": {"accuracy": estimate}})
    row = tables.row(summary, "accuracy")
    assert row.value == "0.512 ± 0.012" and row.interval == "0.447 to 0.561 over examples"
    assert row.band == "" and row.baseline == "no better than 0.500 (always answering not_equivalent)"


def test_a_band_is_as_it_was_published():
    summary = runs.outcome(runs.classified())[1]
    for mean, verdict in ((0.86, "inside"), (0.83, "below"), (0.9, "above")):
        one = summary.model_copy(update={"metrics": {"accuracy": estimate_of((0.8, 0.9), mean)}})
        assert tables.row(one, "accuracy").band == f"0.84 to 0.88: {verdict}"


def test_a_figure_that_is_no_number_is_an_empty_cell():
    one = runs.outcome(runs.classified())[1]
    one = one.model_copy(update={"metrics": {"accuracy": estimate_of(None, None)}})
    assert tables.row(one, "accuracy") == (
        "accuracy",
        "",
        "",
        "0.84 to 0.88",
        "0.5000 (always answering not_equivalent)",
    )


def test_no_column_is_empty(root):
    """One that is empty in every row is left out."""
    head, *lines = cells(tables.markdown(summaries(root / "language_model")))
    assert "published band" not in head and "baseline" in head
    for number in range(len(head)):
        assert any(line[number] for line in lines), head[number]
    assert cells(tables.markdown_table(("a", "b"), [("1", ""), ("2", "")])) == [["a"], ["1"], ["2"]]


def test_the_overview_has_what_each_figure_is_to_be_compared_with(root):
    head, *lines = cells(tables.overview(summaries(root)))
    column = head.index("to compare with")
    assert [line[column] for line in lines] == [
        "published 0.84 to 0.88: below",
        "published 0.84 to 0.88: below",
        "better than 2.400 (xz -9e)",
    ]
    assert [line[1] for line in lines] == ["accuracy", "accuracy", "bits_per_byte"]


def test_the_compression_table_has_language_models_only(root):
    head, *lines = cells(tables.compression(summaries(root)))
    assert head[-3:] == ["bits per byte", "gzip -9", "xz -9e"]
    assert [line[0] for line in lines] == ["`language_model/small`"] and lines[0][-3:] == [
        "**2.000**",
        "2.600",
        "2.400",
    ]


def test_a_readme_is_renewed_between_its_marks():
    text = "a\n<!-- results: written by `make results` -->\nold\n<!-- end of results -->\nb\n"
    assert tables.renewed(text, {"results": "| new |"}) == text.replace("old", "| new |")
    assert tables.renewed(text, {"other": "| new |"}) == text
    with pytest.raises(SystemExit, match="<!-- end of results --> after it is missing"):
        tables.renewed(text.replace("<!-- end of results -->", ""), {"results": ""})


TASKS = ["Words", "Pairs", "Films"]


def on_benchmark(task: str, right: int = 30, metrics=("accuracy",), model: str = "minilm", seed: int = 13) -> dict:
    """What a classifier leaves behind that was measured on one task of a made-up benchmark."""
    files = runs.classified(seed, right)
    files["metrics.json"]["benchmark"] = {"name": "TRIO", "task": task, "metrics": list(metrics), "tasks": TASKS}
    for tree in (files["experiment.yaml"], files["metrics.json"]["experiment"]):
        tree["model"]["name"] = model
    return files


@pytest.fixture
def trio(tmp_path):
    """Writes an experiment on each of the tasks that are named, with `right` of 40 answers right."""

    def _trio(**rights: int):
        for task, right in rights.items():
            runs.write(tmp_path / "trio" / task.lower(), on_benchmark(task, right))
        return tmp_path

    return _trio


def test_a_benchmark_has_its_tasks_in_its_own_order_and_the_mean_over_them(nutshell, trio):
    root = trio(Films=20, Pairs=30, Words=40)
    text = report(nutshell, root, "markdown")
    results_table, sentence, table = text.strip().split("\n\n")
    assert sentence == "TRIO, `minilm`. Mean over all 3 tasks of TRIO, test part: 0.750."
    head, *lines = cells(table)
    assert head == ["task", "figures", "their mean", "published band", "measured on", "seeds", "experiment"]
    assert [line[0] for line in lines] == TASKS and [line[2] for line in lines] == ["1.000", "0.750", "0.500"]
    assert lines[1][1].startswith("accuracy 0.7") and lines[1][3] == "accuracy 0.84 to 0.88: below"
    assert lines[1][4:] == ["40 examples, test", "13", "`trio/pairs`"]
    assert len(cells(results_table)) == 7


def test_a_task_s_score_is_the_mean_of_its_metrics_each_over_its_seeds(tmp_path):
    for seed, right in ((13, 30), (21, 34)):
        runs.write(tmp_path / "trio/words", on_benchmark("Words", right, ("accuracy", "label_bits"), seed=seed))
    runs.write(tmp_path / "trio/pairs", on_benchmark("Pairs", 20))
    every = summaries(tmp_path)
    words = next(one for one in every if one.experiment == "trio/words")
    expected = (words.metrics["accuracy"].mean + words.metrics["label_bits"].mean) / 2
    (standing,) = benchmark.standings(every)
    assert standing.scores[0].value == pytest.approx(expected) and words.metrics["accuracy"].mean == 0.8
    assert standing.mean == pytest.approx((expected + 0.5) / 2)
    assert re.search(r"\| Words \| accuracy 0.80 ± 0.07, label_bits [\d.]+ ± [\d.]+ \|", tables.benchmarks(every))


def test_a_mean_over_some_of_the_tasks_is_no_score(nutshell, trio):
    text = report(nutshell, trio(Words=40, Pairs=30), "markdown")
    assert (
        "Mean over 2 of the 3 tasks of TRIO, test part: 0.875. It is no TRIO score, because Films is missing." in text
    )


def test_one_task_makes_no_table(nutshell, trio):
    assert "TRIO" not in report(nutshell, trio(Words=40), "markdown")


def test_each_model_has_a_table_of_its_own(tmp_path):
    for model in ("minilm", "other"):
        for task in ("Words", "Pairs"):
            runs.write(tmp_path / model / "trio" / task, on_benchmark(task, model=model))
    text = tables.benchmarks(summaries(tmp_path))
    assert text.count("Mean over 2 of the 3 tasks") == 2 and "TRIO, `minilm`." in text and "TRIO, `other`." in text


def test_a_task_that_is_there_twice_has_no_mean(tmp_path, trio):
    runs.write(tmp_path / "again" / "words", on_benchmark("Words"))
    text = tables.benchmarks(summaries(trio(Words=40, Pairs=30)))
    assert "No mean over 2 of the 3 tasks of TRIO, test part, because of several experiments on Words." in text
    assert "`again/words`" in text and "`trio/words`" in text


def test_a_figure_that_is_no_number_leaves_no_mean(trio, tmp_path):
    files = on_benchmark("Pairs")
    files["metrics.json"]["metrics"]["accuracy"] |= {"value": None, "interval_95": None}
    runs.write(tmp_path / "trio" / "pairs", files)
    text = tables.benchmarks(summaries(trio(Words=40)))
    assert "No mean over 2 of the 3 tasks of TRIO, test part, because Pairs has no score." in text


def test_what_was_written_without_a_benchmark_is_read():
    files = runs.classified()
    del files["metrics.json"]["benchmark"]
    assert runs.outcome(files)[1].benchmark is None


def test_a_bar_in_a_template_ends_no_cell():
    text = tables.variants(read_summaries(ROOT / "experiments/results"))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert any("\\|" in line for block in blocks for line in block)
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1


def test_codes_of_one_text(tmp_path):
    """A table for each length, the shortest total first; what failed says so and has no size."""
    failed = runs.coded("broken", None, 1_000_000)
    runs.write(tmp_path / "bits/gpt2", runs.compressed([failed, *runs.CODES]))
    short, long = tables.codes(summaries(tmp_path)).split("imdb, test part, 1,000,000 bytes:\n\n")
    assert short.startswith("imdb, test part, 100,000 bytes:\n\n| code |")
    assert [line[0] for line in cells(short.split("\n\n")[1])][1:] == [
        "ppmd, 256 MB",
        "prequential",
        "gzip -9",
        "a model",
    ]
    head, *lines = cells(long)
    assert head[:4] == ["code", "bytes", "bits per byte", "over the ideal"]
    assert head[4:] == [
        "kB/s, coding",
        "kB/s, decoding",
        "model, fp32",
        "model, int8",
        "code and model",
    ]
    assert lines[0] == ["a model", "200,000", "1.6000", "0.0006%", "500.0", "250.0", "400,000", "50,000", "250,000"]
    assert lines[1][0] == "ppmd, 256 MB" and lines[1][-3:] == ["", "", "260,000"]
    assert lines[-1] == ["broken", "failed: its decoder did not return the text", *[""] * 7]


def test_codes_are_in_no_table_of_language_models(tmp_path):
    runs.write(tmp_path / "bits/gpt2", runs.compressed())
    assert tables.compression(summaries(tmp_path)).count("\n") == 1
