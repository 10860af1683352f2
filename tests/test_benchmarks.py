"""The benchmark: its arithmetic, its tables, and the script itself in its smallest size."""

import json
import os
import subprocess
import sys

import arithmetic
import pytest
import tables
import throughput

from nutshell.report.tables import renewed
from tests.conftest import ROOT

SCRIPT = ROOT / "experiments" / "benchmarks" / "throughput.py"


def row(side: str, turn: int, rate: float, **more) -> dict:
    """One measurement as a child process reports it."""
    precision = {"nutshell": "bf16"}.get(side, "no")
    figures = {"examples_per_second": rate, "padding_share": 0.5, "peak_memory_bytes": 2**30}
    return {"side": side, "alternation": turn, "precision": precision, **figures, **more}


def content(*rows: dict, name: str = "mrpc_train", quick: bool = False) -> dict:
    """A results file with one workload."""
    return {"device": "A chip", "workloads": {name: {"quick": quick, **arithmetic.summary(name, list(rows))}}}


def test_medians_and_ratios_of_neighbours():
    rates = ((10.0, 40.0), (5.0, 25.0), (20.0, 60.0))
    rows = [row("stock", turn, one) for turn, (one, _) in enumerate(rates)]
    rows += [row("nutshell", turn, other) for turn, (_, other) in enumerate(rates)]
    total = arithmetic.summary("mrpc_train", rows)
    assert total["sides"]["stock"]["examples_per_second"] == 10
    assert total["sides"]["nutshell"]["examples_per_second"] == 40
    assert total["ratios"] == {"nutshell": {"median": 4, "lowest": 3, "highest": 5}}  # not 40 / 10 of the medians
    assert total["measurements"] == rows


def test_a_failed_measurement_costs_its_pair_alone():
    failed = {"side": "nutshell", "alternation": 1, "precision": "bf16", "failed": "out of memory"}
    rows = [row("stock", 0, 10.0), row("nutshell", 0, 30.0), row("stock", 1, 20.0), failed]
    total = arithmetic.summary("mrpc_train", rows)
    assert total["ratios"]["nutshell"] == {"median": 3, "lowest": 3, "highest": 3}
    assert arithmetic.summary("mrpc_train", [failed])["ratios"] == {}
    assert arithmetic.summary("matmul", [failed]) == {"unit": None, "measurements": [failed]}


def test_flop_per_token_by_hand():
    """One token of a model with 2 layers of width 4 and 100 parameters, among 3: 6 for each parameter (a product and a
    sum forward, twice that backward), and in each layer two products of width 4 with 3 tokens."""
    attention = 2 * (2 * 4 * 3) * 2 * 3  # queries with keys and weights with values; layers; forward and backward
    assert arithmetic.flop_per_token(100, 2, 4, 3.0) == 600 + attention


def test_padding_share():
    assert arithmetic.padding_share(30, 40) == 0.25
    assert arithmetic.padding_share(0, 0) is None
    batches = [(0.0, 2, 6, 10), (1.0, 1, 5, 5)]
    figures = arithmetic.figures(batches, {"seconds": 2.0})
    assert figures["padding_share"] == pytest.approx(1 - 11 / 15)
    assert (figures["examples"], figures["tokens"], figures["mean_tokens"]) == (3, 11, 11 / 3)
    assert (figures["examples_per_second"], figures["tokens_per_second"]) == (1.5, 5.5)
    recorded = arithmetic.figures(batches, {"seconds": 2.0, "tokens_per_second": 7.0, "steps": 9})
    assert recorded["tokens_per_second"] == 7.0


def test_positions_of_prompts():
    """Continued longest first: 5 and 4 side by side, 2 and 1; every row 10 tokens further."""
    assert arithmetic.generation_positions([1, 5, 2, 4], 2, 10) == (12 + 40, 2 * 5 + 2 * 2 + 40)
    assert arithmetic.generation_positions([1, 5, 2, 4], 1, 10) == (52, 52)


def test_steady_rates_leave_out_the_start():
    """Batches of 4 examples and 20 tokens, one in advance: the first takes 100 s, every other 2 s."""
    moments = [0.0, 0.0, *(100.0 + 2 * step for step in range(10))]
    rates = arithmetic.steady([(moment, 4, 20, 20) for moment in moments])
    assert rates == {"steady_examples_per_second": 2.0, "steady_tokens_per_second": 10.0}
    assert arithmetic.steady([(0.0, 4, 20, 20)] * 7) == {}


def test_a_run_of_some_workloads_replaces_those_alone():
    stored = arithmetic.merged({}, content(row("stock", 0, 10.0), row("nutshell", 0, 20.0)))
    ceiling = {"side": "nutshell", "flop_per_second": {"no": 100.0, "bf16": 400.0}}
    stored = arithmetic.merged(
        stored, {"device": "A chip", "workloads": {"matmul": arithmetic.summary("matmul", [ceiling])}}
    )
    assert list(stored["workloads"]) == ["matmul", "mrpc_train"]
    rows = [row("stock", 0, 10.0, flop_per_second=50.0), row("nutshell", 0, 50.0, flop_per_second=100.0)]
    again = arithmetic.merged(stored, content(*rows))
    assert again["workloads"]["matmul"] == stored["workloads"]["matmul"]
    assert again["workloads"]["mrpc_train"]["ratios"]["nutshell"]["median"] == 5
    assert [again["workloads"]["mrpc_train"]["sides"][side]["mfu"] for side in ("stock", "nutshell")] == [0.5, 0.25]


def test_losses_and_accuracy_are_summed_up():
    rows = [row("nutshell_fp32", 0, 1.0, losses=[1.0, 2.0]), row("nutshell", 0, 1.0, losses=[1.5, 2.25])]
    total = arithmetic.summary("losses", rows)
    assert total["losses"] == {"fp32": [1.0, 2.0], "bf16": [1.5, 2.25]}
    assert (total["largest_difference"], total["mean_difference"]) == (0.5, 0.375)
    rows = [row("stock", 0, 1.0, accuracy=value, seed=seed) for seed, value in ((13, 0.5), (21, 0.75), (42, 1.0))]
    stock = arithmetic.summary("accuracy", rows)["sides"]["stock"]
    assert stock == {"mean": 0.75, "standard_deviation": 0.25, "by_seed": {"13": 0.5, "21": 0.75, "42": 1.0}}


def test_the_speed_table(tmp_path):
    assert tables.speed(tmp_path).count("\n") == 1  # a head alone
    compiled = {"side": "nutshell_compiled", "peak_gpu_memory_bytes": 2**29, "padding_share": None}
    rows = [row("stock", 0, 1234.5), row("nutshell", 0, 2469.0), row("nutshell", 0, 3703.5) | compiled]
    (tmp_path / "a-chip.json").write_text(json.dumps(content(*rows)))
    (tmp_path / "tried.json").write_text(json.dumps(content(*rows, quick=True)))
    lines = tables.speed(tmp_path).splitlines()[2:]
    unit, ratio = "examples a second", "2.00 (2.00 to 2.00)"
    cells = f"`mrpc_train` | A chip | {unit} | 1,234 | 2,469 (bf16) | {ratio} | 50% / 50% | 1.00 GiB / 1.00 GiB |"
    assert lines[0] == f"| {cells}"  # and no column for MFU, which no row has
    assert len(lines) == 2 and "3,704 (bf16, compiled) | 3.00 (3.00 to 3.00) |  | 1.00 GiB / 0.50 GiB" in lines[1]
    assert tables.tables(tmp_path)["speed"] == tables.speed(tmp_path)


def test_the_readme_has_the_tables_of_the_stored_measurements():
    text = (ROOT / "experiments" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    stored = tables.tables()
    assert all(table in text for table in stored.values())
    assert renewed(text, stored) == text, "run `make results`"


def test_what_is_measured_where(monkeypatch):
    assert throughput.chosen(None, False) == ["matmul", *arithmetic.PAIRED, "growth"]
    assert throughput.chosen(["growth", "mrpc_train"], False) == ["mrpc_train", "growth"]
    assert "losses" in throughput.chosen(None, True)
    assert throughput.sides("mrpc_train", False) == ("stock", "nutshell", "nutshell_fp32")
    assert throughput.sides("generation", False) == ("stock", "nutshell")
    assert {*throughput.sides("mrpc_train", True), "stock_bf16"} == {"stock", *tables.SIDES}
    assert throughput.sides("predict", True) == ("stock", "stock_bf16", "nutshell")
    assert throughput.sides("csv", False) == ("stock", "nutshell")
    assert throughput.sides("growth", True) == ("nutshell",)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    set_ = {side: throughput.environment(side) for side in throughput.PRECISIONS}
    assert set_["stock"]["ACCELERATE_MIXED_PRECISION"] == "no" and "ACCELERATE_DYNAMO_BACKEND" not in set_["stock"]
    assert set_["nutshell"]["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert set_["nutshell_compiled"]["ACCELERATE_DYNAMO_BACKEND"] == "INDUCTOR"


def bench(*words, **environment) -> subprocess.CompletedProcess:
    """The script in a process of its own."""
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_script(tmp_path):
    done = bench("--quick", "--workloads", "mrpc_train", "--alternations", 1, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.json")
    total = json.loads(file.read_text(encoding="utf-8"))["workloads"]["mrpc_train"]
    stock, ours, _ = total["measurements"]
    assert [stock["side"], ours["side"], stock["precision"], ours["precision"]] == ["stock", "nutshell", "no", "bf16"]
    assert (stock["examples"], stock["tokens"]) == (ours["examples"], ours["tokens"])  # the same examples
    assert 0 < ours["padding_share"] < stock["padding_share"] < 1
    for measured in (stock, ours):
        assert measured["examples_per_second"] == pytest.approx(32 / measured["seconds"])
        assert min(measured[key] for key in ("start_up_seconds", "flop_per_second", "peak_memory_bytes")) > 0
    assert total["quick"] and total["ratios"]["nutshell"]["lowest"] > 0
    assert "0 of 3 left" in done.stdout and "times as fast" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workloads", "mrpc_trian"], "'mrpc_trian' is not known; did you mean 'mrpc_train'?"),
        (["--alternations", "0"], "--alternations: expected at least 1, not 0"),
        (["--workloads", "mrpc_eval"], "MISSING/mrpc: no such folder"),
    ],
)
def test_mistakes_are_reported(tmp_path, words, message):
    done = bench(*words, "--output", tmp_path, NUTSHELL_DATA=str(tmp_path / "MISSING"))
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.json"))


def test_the_codec_next_to_a_plain_coder():
    golden = ROOT / "tests" / "bits" / "codec" / "golden"
    words = [golden, golden / "text.txt", "--turns", "2", "--tokens", "5", "--coders", "exact:3", "native:3:fp32"]
    script = ROOT / "experiments" / "benchmarks" / "codec.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, *map(str, words)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert process.returncode == 0, process.stderr
    assert [line.split(" | ")[0] for line in process.stdout.splitlines()[2:]] == [
        "| plain",
        "| exact:3",
        "| native:3:fp32",
    ]
