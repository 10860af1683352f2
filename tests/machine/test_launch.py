"""The command as its users start it, in processes of its own: launched, killed, started again."""

import fcntl
import json
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy
import psutil
import pytest

from nutshell.bits.figures import units
from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.machine import checkpoints
from tests.conftest import DATA, PROMPTS_YAML, ROOT, SMALL_YAML, TEXT_YAML

pytestmark = pytest.mark.slow

TRAINED = SMALL_YAML.replace(
    "max_steps: 2", "max_steps: 60, save_strategy: steps, save_steps: 20, train_sampling_strategy: group_by_length"
).replace("eval_strategy: epoch", "learning_rate: 1e-3, logging_steps: 1, eval_strategy: steps, eval_steps: 30")
PLACE = Path("finetune/pairs/seed-13")
NUTSHELL = [sys.executable, "-m", "nutshell"]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_config.yaml")]
# Ends its own process the hard way while checkpoint-40's optimizer is being written.
TEARING = """
import os, signal, sys, torch
stock = torch.save
def save(content, file, *args, **kwargs):
    stock(content, file, *args, **kwargs)
    if "checkpoint-40" in str(file) and str(file).endswith("optimizer.pt"):
        os.truncate(file, os.path.getsize(file) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = save
from nutshell.cli.main import main
main(sys.argv[1:])
"""


def start(command, *words, **more) -> subprocess.Popen:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [*command, *map(str, words)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def finish(command, *words) -> str:
    process = start(command, *words)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out + err


def wait_for(file: Path, process: subprocess.Popen) -> None:
    """Until the process has written the file."""
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def read(output, name: str = "metrics.json"):
    text = (output / "finetune" / "pairs" / "seed-13" / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def uninterrupted(write, tmp_path):
    file, output = write(TRAINED), tmp_path / "whole"
    finish(NUTSHELL, "run", file, "--output", output)
    return file, output


def same(one, other):
    first, second = read(one), read(other)
    for key in ("metrics", "matrix", "data", "parameters"):
        assert first[key] == second[key]
    weights = [folder / "finetune/pairs/seed-13/model/model.safetensors" for folder in (one, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def same_answers(one: Path, other: Path) -> int:
    """How many examples two classifiers have answered alike, in the same order, each probability to 1e-4."""
    first, second = units.read(one), units.read(other)
    assert first.kind == second.kind and first.columns.keys() == second.columns.keys()
    for name, column in first.columns.items():
        if name in ("nats", "probabilities", "confidence"):
            numpy.testing.assert_allclose(list(column), list(second.columns[name]), rtol=1e-3, atol=1e-4)
        else:
            assert list(column) == list(second.columns[name]), name
    return len(first)


@pytest.mark.parametrize("moment", ["checkpoint-20", "checkpoint-40"])
def test_killed_in_the_middle_of_an_epoch(moment, uninterrupted, tmp_path):
    file, whole = uninterrupted
    output = tmp_path / "killed"
    process = start(NUTSHELL, "run", file, "--output", output)
    seed = output / "finetune" / "pairs" / "seed-13"
    wait_for(seed / moment / "checkpoint.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (seed / "metrics.json").exists()
    printed = finish(NUTSHELL, "run", file, "--output", output)
    assert "resumes from checkpoint-" in printed
    same(whole, output)


def test_killed_while_a_checkpoint_is_written(uninterrupted, tmp_path):
    file, whole = uninterrupted
    output = tmp_path / "torn"
    process = start([sys.executable, "-c", TEARING], "run", file, "--output", output)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    seed = output / "finetune/pairs/seed-13"
    assert [path.name for path in checkpoints.all_of(seed)] == ["checkpoint-20"]
    printed = finish(NUTSHELL, "run", file, "--output", output)
    assert "resumes from checkpoint-20" in printed and not list(seed.glob(".checkpoint-*"))
    same(whole, output)


def test_killed_at_random_moments(write, tmp_path):
    """As often as KILLS says: in training, evaluation, saving, or before and after; each run then ends alike."""
    often = TRAINED.replace("save_steps: 20", "save_steps: 3, save_total_limit: 2").replace(
        "eval_steps: 30", "eval_steps: 5"
    )
    file, whole = write(often), tmp_path / "whole"
    finish(NUTSHELL, "run", file, "--output", whole)
    lasts, chance, moments = read(whole)["provenance"]["wall_seconds"], random.Random(0), []
    for number in range(int(os.environ.get("KILLS", "4"))):
        output = tmp_path / str(number)
        seed = output / "finetune" / "pairs" / "seed-13"
        process = start(NUTSHELL, "run", file, "--output", output)
        wait_for(seed / "experiment.yaml", process)
        time.sleep(chance.random() * lasts)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        newest = checkpoints.newest(seed)
        saving = "while saving" if list(seed.glob(".checkpoint-*")) else ""
        moments.append(f"after {newest.name if newest else 'no checkpoint'} {saving}")
        finish(NUTSHELL, "run", file, "--output", output)
        same(whole, output)
    print(f"{len(moments)} of {len(moments)} runs killed and resumed ended bit-identically: {moments}")


def test_sigterm_ends_with_143_and_its_workers_live_that_long(write, tmp_path):
    """To the whole group, data-loader workers among it."""
    file, output = write(TRAINED.replace("save_steps: 20", "save_steps: 1000")), tmp_path / "ended"
    command = ["run", file, "training.dataloader_num_workers=2", "training.max_steps=600", "--output", output]
    process = start(NUTSHELL, *command, start_new_session=True)
    wait_for(output / "finetune/pairs/seed-13/experiment.yaml", process)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143 and "Traceback" not in err, err
    assert checkpoints.newest(output / "finetune/pairs/seed-13")


def test_a_mistake_ends_two_processes_at_once(uninterrupted):
    """The main process finds it while the other waits to be connected."""
    file, output = uninterrupted
    command = [*LAUNCH, "--num_processes", "2", "-m", "nutshell", "run", file, "training.max_steps=61"]
    process = start(command, "--output", output)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0 and "holds another experiment; training.max_steps: 60 there, 61 here" in err
    assert "forcefully exiting" not in err  # after the launcher's 30 s of patience


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_to_the_launcher(processes, write, tmp_path):
    """As Slurm sends it, to the launcher and its processes: a checkpoint of the very step, and the same command resumes it."""
    launcher = [*LAUNCH, "--num_processes", str(processes), "-m", "nutshell", "run"]
    file = write(TRAINED.replace("save_steps: 20", "save_steps: 1000"))
    finish(launcher, file, "--output", tmp_path / "whole")
    output = tmp_path / "ended"
    process = start(launcher, file, "--output", output, start_new_session=True)
    wait_for(output / "finetune/pairs/seed-13/experiment.yaml", process)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and time.monotonic() - began < 30 and "ended by SIGTERM" in err
    assert not (output / "finetune/pairs/seed-13/metrics.json").exists()
    printed = finish(launcher, file, "--output", output)
    assert "resumes from checkpoint-" in printed
    same(tmp_path / "whole", output)


def test_a_process_that_dies_ends_the_launch(write, tmp_path):
    launcher = [*LAUNCH, "--num_processes", "2", "-m", "nutshell", "run"]
    file = write(TRAINED.replace("max_steps: 60", "max_steps: 120"))
    finish(launcher, file, "--output", tmp_path / "whole")
    output = tmp_path / "killed"
    process = start(launcher, file, "--output", output)
    wait_for(output / "finetune/pairs/seed-13/checkpoint-20/checkpoint.json", process)
    workers = {int(worker.environ()["RANK"]): worker for worker in psutil.Process(process.pid).children()}
    workers[1].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "nutshell: rank 0 lost another process of this launch" in err
    assert re.search(r"Root Cause.*\n.*\n.*\n.*\n *rank +: 1 .*\n *exitcode +: -9", err), err
    printed = finish(launcher, file, "--output", output)
    assert "resumes from checkpoint-" in printed
    same(tmp_path / "whole", output)


def test_machines_that_are_told_different_things(write, tmp_path):
    launchers = []
    port = 20000 + os.getpid() % 10000  # below those that the system hands out itself
    for rank in range(2):
        words = ["--config_file", ROOT / "experiments" / "hardware" / "multi_node.yaml", "--num_machines", "2"]
        words += ["--num_processes", "2", "--machine_rank", rank, "--main_process_ip", "127.0.0.1"]
        words += ["--main_process_port", port, "-m", "nutshell", "run", write(SMALL_YAML), "--output", tmp_path]
        words += ["training.learning_rate=1e-3"] * rank
        launchers.append(start([sys.executable, "-m", "accelerate.commands.launch"], *words))
    errors = [launcher.communicate(timeout=100)[1] for launcher in launchers]
    assert all(launcher.returncode for launcher in launchers)
    assert "process 1 has another experiment or code than the main process, training.learning_rate differ" in errors[0]
    assert not (tmp_path / "finetune" / "pairs" / "seed-13").exists()


def test_fewer_processes_than_were_asked_for_is_an_error(write, tmp_path):
    """For accelerate these are one process, without a word."""
    for kind, count in (("MULTI_CPU", "num_processes: 2"), ("NO", "num_processes: 1")):
        config = tmp_path / f"{kind}.yaml"
        config.write_text(f"compute_environment: LOCAL_MACHINE\ndistributed_type: '{kind}'\n{count}\nuse_cpu: true\n")
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
        launcher += ["--num_processes", "2"] if kind == "NO" else []
        process = start([*launcher, "-m", "nutshell", "run"], write(SMALL_YAML), "--output", tmp_path / kind)
        _, err = process.communicate(timeout=120)
        assert process.returncode != 0
        assert "the launch asked for 2 processes, but 1 work together" in err and "MULTI_GPU" in err


def test_a_disk_that_is_really_full_and_a_folder_that_is_read_only(write, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system can be mounted only by root")
    try:
        file = write(TRAINED.replace("max_steps: 60", "max_steps: 6").replace("save_steps: 20", "save_steps: 3"))
        process = start(NUTSHELL, "run", file, "--output", folder)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2 and "cannot be written" in err and "make room" in err
        assert "Traceback" not in err
        seed = folder / "finetune/pairs/seed-13"
        assert [path.name for path in checkpoints.all_of(seed)] == ["checkpoint-3"]
        assert not list(seed.glob(".checkpoint-*"))
        subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
        assert "resumes from checkpoint-3" in finish(NUTSHELL, "run", file, "--output", folder)

        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        process = start(NUTSHELL, "run", file, "--seed", "14", "--output", folder)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2 and "cannot be written (Read-only file system)" in err
        assert "choose another --output" in err and "Traceback" not in err
    finally:
        subprocess.run(["umount", folder], check=True)


def test_two_at_once_in_one_folder(write, tmp_path):
    file, output = write(TRAINED.replace("max_steps: 60", "max_steps: 2000")), tmp_path / "outputs"
    first = start(NUTSHELL, "run", file, "--output", output)
    wait_for(output / "finetune" / "pairs" / "seed-13" / "experiment.yaml", first)
    second = start(NUTSHELL, "run", file, "--output", output)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 2 and "another process is running in it" in err
    first.kill()
    first.communicate()


def test_every_way_to_launch(uninterrupted, tmp_path):
    """The command, the module and accelerate with one process: the same weights and figures."""
    file, whole = uninterrupted
    for number, command in enumerate(([str(Path(sys.executable).with_name("nutshell"))], [*LAUNCH, "-m", "nutshell"])):
        finish(command, "run", file, "--output", tmp_path / str(number))
        same(whole, tmp_path / str(number))


def test_two_processes_train_as_one(write, tmp_path):
    """The same global batch: the same losses, gradients and predictions, every example once and in order; 47 of them
    do not divide by steps of 4, nor by two processes."""
    file, words = write(TRAINED), ["model.dropout=0", "training.max_steps=30", "data.train_examples=47"]
    finish(NUTSHELL, "run", file, *words, "--output", tmp_path / "one")
    words += ["training.per_device_train_batch_size=2", "--output", tmp_path / "two"]
    out = finish([*LAUNCH, "--num_processes", "2", "-m", "nutshell"], "run", file, *words)
    assert out.count("95 % interval") == 1 and read(tmp_path / "two")["provenance"]["processes"] == 2
    histories = [
        [
            (entry.get("loss", entry.get("eval_loss")), entry.get("grad_norm", 0))
            for entry in read(tmp_path / name, "trainer_state.json")["log_history"]
            if "loss" in entry or "eval_loss" in entry
        ]
        for name in ("one", "two")
    ]
    assert len(histories[0]) == 31
    for one, two in zip(*histories, strict=True):
        assert one == pytest.approx(two, rel=1e-3)
    assert same_answers(tmp_path / "one" / PLACE, tmp_path / "two" / PLACE) > 0


MRPC_YAML = """\
task: classify
seeds: [13]
global_batch_size: 16
model: {name: minilm, dropout: 0}
data: {name: mrpc, path: FOLDER}
training: {num_train_epochs: 1, learning_rate: 5e-5, logging_steps: 1, train_sampling_strategy: group_by_length}
"""


@pytest.mark.parametrize("examples", [407, 408])
def test_two_processes_fine_tune_minilm_as_one(examples, write, tmp_path):
    """As many pairs of MRPC, where NUTSHELL_DATA names it, or of the embedded ones, to train on and to predict: every
    step's loss to 1e-4, and the same predictions in the same order."""
    data = {"name": "mrpc", "path": str(Path(DATA).resolve() / "mrpc")} if DATA else {"name": "sample_pairs"}
    parts = labelled.load(LabelledData(**data))
    for part, found in (("train", parts.train), ("test", parts.reported)):
        rows = [
            {"sentence1": one, "sentence2": other, "label": label}
            for (one, other), label in zip(found.texts, found.labels, strict=True)
        ]
        rows = (rows * 3)[:examples]  # of the embedded ones there are fewer to predict
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    file, folders = write(MRPC_YAML.replace("FOLDER", str(tmp_path))), []
    for count in (1, 2):
        folders.append(tmp_path / str(count))
        finish([*LAUNCH, "--num_processes", str(count), "-m", "nutshell"], "run", file, "--output", folders[-1])
    curves = [
        [entry["loss"] for entry in read(folder, "trainer_state.json")["log_history"] if "loss" in entry]
        for folder in folders
    ]
    assert len(curves[0]) == 26 and curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert same_answers(*(folder / PLACE for folder in folders)) == examples


def test_precision_comes_from_the_launch(write, tmp_path):
    finish([*LAUNCH, "--mixed_precision", "bf16", "-m", "nutshell"], "run", write(SMALL_YAML), "--output", tmp_path)
    assert read(tmp_path)["provenance"]["mixed_precision"] == "bf16"


@pytest.mark.parametrize("name", ["gpt2", "scratch", "lstm"])
def test_prompts_in_bf16(name, causal, write, tmp_path):
    """Nearly the nats that the same tokens cost in fp32; of one new token, since a rounding may change a text."""
    costs = []
    file = write(PROMPTS_YAML.replace("CAUSAL", str(causal[name])).replace(" 8}", " 1}"), "finetune/pairs.yaml")
    for precision in ("no", "bf16"):
        output = tmp_path / precision
        finish([*LAUNCH, "--mixed_precision", precision, "-m", "nutshell"], "run", file, "--output", output)
        costs.append([row["mean_nats"] or 0 for row in read(output, "samples.jsonl")])
        assert read(output)["provenance"]["mixed_precision"] == precision
    assert costs[0] == pytest.approx(costs[1], abs=0.1) and costs[0] != costs[1]


@pytest.mark.parametrize(("command", "seconds"), [("--help", 0.5), ("show", 2)])
def test_answers_at_once(command, seconds, write):
    """Neither torch nor transformers is imported, and the answer takes no longer of a processor (the best of three)."""
    words = [command, *([write(SMALL_YAML)] if command == "show" else [])]
    printed = finish([sys.executable, "-X", "importtime", "-m", "nutshell"], *words)
    assert re.search(r"\|\s+nutshell\.cli$", printed, re.M) and not re.search(
        r"\|\s+(torch|transformers)$", printed, re.M
    )
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        finish(NUTSHELL, *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < seconds


def test_unreachable_hub(write):
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    text = SMALL_YAML.replace("{name: TINY}", f"{{name: someone/bert, revision: {'a' * 40}}}")
    done = subprocess.run([*NUTSHELL, "show", write(text)], cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 2 and "the Hub cannot be reached" in done.stderr and "minilm" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_shows_a_bar(write, tmp_path):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = os.environ | {"TERM": "xterm"}
    command = [*NUTSHELL, "run", str(write(SMALL_YAML)), "training.logging_steps=1", "--output", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    while True:
        try:
            printed += (more := os.read(ours, 65536))
        except OSError:  # the other end is closed
            break
        if not more:
            break
    assert process.wait() == 0
    text = printed.decode()
    assert "2/2 [" in text and "100%|" in text and "step 1/2  epoch" in text and "{" not in text


LANGUAGE = TEXT_YAML.replace("max_steps: 2", "max_steps: 12, learning_rate: 1e-3, logging_steps: 1").replace(
    "model: {name: CAUSAL}",
    "model: {config: {model_type: MODEL}, tokenizer: bytes}",
)
SIZES = {
    "gpt2": "gpt2, n_embd: 32, n_layer: 2, n_head: 2, n_positions: 32, resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0",
    "scratch": "scratch, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, dropout: 0",
    "lstm": "lstm, embedding_size: 16, hidden_size: 32, dropout: 0",
}


@pytest.mark.parametrize("name", SIZES)
def test_two_processes_train_a_language_model_as_one(name, write, tmp_path):
    file = write(LANGUAGE.replace("MODEL", SIZES[name]), "finetune/pairs.yaml")
    one, two = tmp_path / "one", tmp_path / "two"
    finish(NUTSHELL, "run", file, "--output", one)
    words = ["training.per_device_train_batch_size=2", "training.per_device_eval_batch_size=3"]
    finish([*LAUNCH, "--num_processes", "2", "-m", "nutshell"], "run", file, *words, "--output", two)
    curves = []
    for output in (one, two):
        history = read(output, "trainer_state.json")["log_history"]
        curves.append([(e["step"], e.get("loss"), e.get("grad_norm"), e.get("eval_loss")) for e in history[:-1]])
    assert len(curves[0]) == len(curves[1]) > 12
    for whole, split in zip(*curves, strict=True):
        assert [v or 0 for v in whole] == pytest.approx([v or 0 for v in split], rel=2e-4)
    first, second = read(one)["facts"], read(two)["facts"]
    assert first.pop("nats measured") == pytest.approx(second.pop("nats measured"), rel=1e-4)
    assert first == second
    assert read(two)["provenance"]["processes"] == 2


@pytest.mark.parametrize("name", SIZES)
def test_two_processes_continue_prompts_as_one(name, causal, write, tmp_path):
    text = PROMPTS_YAML.replace("CAUSAL", str(causal[name])).replace(" 8}", " 20, do_sample: true}")
    file = write(text + "samples_per_prompt: 3\ngreedy: true\n", "finetune/pairs.yaml")  # 16 rows, and 13 of them
    for words in ([], ["samples_per_prompt=2", "prompts=[Once, A cat, '', It, So]"]):
        found = []
        for number, command in enumerate((NUTSHELL, [*LAUNCH, "--num_processes", "2", "-m", "nutshell"])):
            output = tmp_path / f"{len(words)}{number}"
            batch = f"training.per_device_eval_batch_size={(8, 3)[number]}"
            finish(command, "run", file, *words, batch, "--output", output)
            rows = read(output, "samples.jsonl")
            pieces = [piece for row in rows for piece in row.pop("pieces")]
            nats = [row.pop("mean_nats") or 0 for row in rows] + [nats for _, nats in pieces]
            found.append((rows, [text for text, _ in pieces], nats))
        assert found[0][:2] == found[1][:2] and len(found[0][0]) == (15 if words else 16)
        assert found[0][2] == pytest.approx(found[1][2], abs=1e-3)


def test_sixteen_prompts_together_are_three_times_as_fast_as_one_by_one(tmp_path):
    """In one process, in turn, the median of three; a small GPT-2 with random weights; one thread, since on a busy
    machine two wait for each other."""
    timing = """
import statistics, sys, time, torch
from transformers import GPT2Config, logging
from nutshell.models.language.architectures import model_class
from nutshell.runs.generation import prompts, texts as generation
logging.set_verbosity_error()
torch.manual_seed(0)
model = model_class("gpt2")(GPT2Config(n_layer=6, n_embd=256, n_head=4, vocab_size=4096, eos_token_id=0)).eval()
requests = [prompts.Request(str(n), list(range(100, 108 + n)), 0) for n in range(16)]
keys = {"max_new_tokens": 24, "min_new_tokens": 24, "do_sample": True}
rates = {1: [], 16: []}
for turn in range(4):
    for size in rates:
        began = time.perf_counter()
        for first in range(0, 16, size):
            with torch.no_grad():
                generation.extend(model, None, requests[first : first + size], keys, 13)
        if turn:
            rates[size].append(16 * 24 / (time.perf_counter() - began))
print(statistics.median(rates[16]) / statistics.median(rates[1]), rates)
"""
    process = subprocess.run(
        [sys.executable, "-c", timing], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert process.returncode == 0, process.stderr
    assert float(process.stdout.split()[0]) >= 3, process.stdout


def test_two_processes_leave_the_reason_of_a_failure(write, tmp_path):
    """And not that one of them has lost the other."""
    file, output = write(SMALL_YAML), tmp_path / "failed"
    process = start(
        LAUNCH, "--num_processes", 2, "-m", "nutshell", "run", file, "--output", output, "training.learning_rate=1e30"
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode and "training diverged" in err
    assert "training diverged" in read(output, "failure.json")["error"]


def test_two_processes_are_one_tracked_run(write, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    file, output = write(SMALL_YAML), tmp_path / "tracked"
    printed = finish(LAUNCH, "--num_processes", 2, "-m", "nutshell", "run", file, "--output", output)
    assert printed.count("wandb sync") == 1
    assert len(list(output.rglob("*.wandb"))) == 1
