"""Tracking off line, read back from what wandb wrote; where a server is needed, a fake one is asked."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import requests
import wandb
from wandb.errors import CommError

from nutshell.machine.errors import UserError
from nutshell.report.tracking import mode as modes
from nutshell.report.tracking import tracker as trackers
from nutshell.runs.trainer.classifier import ClassifierTrainer
from tests.conftest import PROMPTS_YAML, SMALL_YAML
from tests.machine.test_launch import NUTSHELL, finish, start, wait_for
from tests.report import runs
from tests.report.tracked import KEY, records, summary, tracked_off_line
from tests.runs.test_runner import TRAINED, Stopped, figures, stop_at

RESOLVED = {
    "task": "classify",
    "seed": 3,
    "model": {"name": "some/model"},
    "data": {"name": "mrpc"},
    "launch": {"processes": 1, "mixed_precision": "bf16"},
}
HISTORY = [
    {"loss": 0.7, "learning_rate": 1e-3, "epoch": 0.5, "step": 1},
    {"loss": 0.6, "learning_rate": 5e-4, "epoch": 1.0, "step": 2},
    {"eval_accuracy": 0.5, "eval_loss": 0.65, "epoch": 1.0, "step": 2},
]
OUTCOME = runs.outcome(runs.classified(right=36))


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    with tracked_off_line(tmp_path):
        yield
        monkeypatch.undo()


@pytest.fixture
def folder(tmp_path):
    """A seed's folder, as it is when tracking begins."""
    folder = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text("task: classify\n")
    return folder


@pytest.fixture
def tracker(folder):
    """Makes one for each launch."""
    return lambda mode="offline": trackers.Tracker(modes.Mode(mode), "finetune/pairs", 13, folder)


@pytest.fixture
def log(monkeypatch, caplog):
    """The log, as caplog has it."""
    monkeypatch.setattr(modes.logger, "handlers", [])
    monkeypatch.setattr(modes.logger, "propagate", True)
    caplog.set_level("INFO", "nutshell")
    return caplog


@pytest.fixture
def seed(tmp_path):
    return tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"


def history(folder: Path) -> list[dict]:
    """The rows, except that of a table."""
    rows = [record["item"] for record in records(folder, "history")]
    rows = [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]
    return [row for row in rows if not any(key.endswith("._type") for key in row)]


def table(folder: Path, name: str) -> dict:
    (file,) = folder.glob(f"wandb/*/files/media/table/{name}_*.json")
    assert [key for record in records(folder, "history") for key in record["item"] if key == f"{name}._type"]
    return json.loads(file.read_text())


def exit_codes(folder: Path) -> list[int]:
    return [record["exit_code"] for record in records(folder, "exit")]


def logged(folder: Path) -> list[dict]:
    """Trainer's own log history under the names that wandb shows."""
    rows = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return named([{key: value for key, value in row.items() if key not in trackers.SINGLE} for row in rows])


def named(rows: list[dict]) -> list[dict]:
    def name(key: str) -> str:
        return f"eval/{key.removeprefix('eval_')}" if key.startswith("eval_") else f"train/{key}"

    return [{"train/global_step" if key == "step" else name(key): value for key, value in row.items()} for row in rows]


def files_with(text: str, folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_a_run_is_tracked_and_the_same_as_without(write, nutshell, result, seed, tmp_path):
    words = ["question=Are they pairs?", "reference={source: a table, part: test, accuracy: [0.9, 1]}"]
    code, out, err = nutshell("run", write(TRAINED), *words)
    assert code == 0 and err.count("wandb sync") == 1 and str(seed / "wandb") in err and KEY not in err
    assert "wandb:" not in out + err
    (run,) = records(seed, "run")
    assert (run["project"], run["run_group"]) == ("nutshell", "finetune/pairs")
    assert run["display_name"] == "finetune/pairs seed 13" and run["job_type"] == "classify"
    assert {"finetune", "sample_pairs", "fp32"} <= set(run["tags"])
    assert run["notes"] == "Are they pairs?"
    content, config = result(), run["config"]["update"]
    assert config["training"] == content["experiment"]["training"] and config["seed"] == 13
    kept = {"commit", "dirty", "packages", "device", "mixed_precision", "processes"}
    assert {key: config["provenance"][key] for key in kept} == {key: content["provenance"][key] for key in kept}
    assert history(seed) == logged(seed) and len(history(seed)) == 13 and exit_codes(seed) == [0]
    last = summary(seed)
    for name, entry in content["metrics"].items():
        assert last[name] == entry["value"]
        assert [last[f"{name}/interval_95_low"], last[f"{name}/interval_95_high"]] == entry["interval_95"]
        for baseline, value in content["baseline"][name].items():
            assert last[f"{name}/{baseline}"] == value
    assert last["accuracy/reference"] == "below" and last["accuracy/reference_low"] == 0.9
    assert last["wall_seconds"] == content["provenance"]["wall_seconds"] and last["train_runtime"] > 0
    (artifact,) = (record for record in records(seed, "artifact") if record["type"] == "experiment")
    (entry,) = artifact["manifest"]["contents"]
    assert (artifact["name"], entry["local_path"]) == ("finetune-pairs-seed-13", str(seed / "experiment.yaml"))
    assert not files_with(KEY, tmp_path)
    assert not any("git" in record for record in records(seed, "environment"))
    assert nutshell("run", write(TRAINED), *words, "--force", "--no-track")[0] == 0
    assert figures(result()) == figures(content) and not (seed / "wandb").exists()


def test_killed_twice_and_resumed_is_one_run(write, nutshell, seed, monkeypatch):
    names = []
    for step in (6, 10, None):
        if step:
            stop_at(step, monkeypatch)
            with pytest.raises(Stopped):
                nutshell("run", write(TRAINED))
            monkeypatch.undo()
            assert exit_codes(seed) == [1] and len(history(seed)) == step
        else:
            assert nutshell("run", write(TRAINED))[0] == 0
        names += [record["run_id"] for record in records(seed, "run")]
    assert len(set(names)) == 1 and exit_codes(seed) == [0] and history(seed) == logged(seed)
    assert [row["train/global_step"] for row in history(seed)] == [*range(1, 13), 12]
    assert nutshell("run", write(TRAINED), "--force")[0] == 0
    assert records(seed, "run")[0]["run_id"] != names[0]


def test_killed_in_the_final_evaluation(write, nutshell, result, seed, monkeypatch):
    def predict(*_):
        raise Stopped

    monkeypatch.setattr(ClassifierTrainer, "predict", predict)
    with pytest.raises(Stopped):
        nutshell("run", write(TRAINED))
    monkeypatch.undo()
    assert nutshell("run", write(TRAINED))[0] == 0
    assert history(seed) == logged(seed) and exit_codes(seed) == [0]
    assert summary(seed)["accuracy"] == result()["metrics"]["accuracy"]["value"]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_marks_it_as_failed(signum, code, write, nutshell, seed, monkeypatch):
    stock = ClassifierTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == 1:
            os.kill(os.getpid(), signum)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(ClassifierTrainer, "training_step", training_step)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores of what it starts with &
    assert nutshell("run", write(SMALL_YAML))[0] == code
    for number, handler in before.items():
        signal.signal(number, handler)
    assert exit_codes(seed) == [code]


def test_what_was_generated_is_a_table(write, nutshell, tmp_path):
    assert nutshell("run", write(PROMPTS_YAML, "generate/prompts.yaml"))[0] == 0
    seed = tmp_path / "outputs" / "generate" / "prompts" / "seed-13"
    content = table(seed, "samples")
    rows = [json.loads(line) for line in (seed / "samples.jsonl").read_text().splitlines()]
    assert {"prompt", "sample", "continuation", "tokens", "mean_nats", "ended"} <= set(content["columns"])
    assert content["data"] == [[row[name] for name in content["columns"]] for row in rows]
    assert records(seed, "run")[0]["job_type"] == "generate" and exit_codes(seed) == [0]


def test_the_most_confident_errors_are_a_table(tracker, folder):
    rows = [
        {"index": n, "label": 0, "predicted": 1, "probability": n / 100, "texts": [f"one {n}", f"two {n}"]}
        for n in range(50)
    ]
    (folder / "errors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    launch = tracker()
    launch.begin(RESOLVED, {"commit": None}, [])
    for row in HISTORY:
        launch.log({key: value for key, value in row.items() if key != "step"}, row["step"])
    launch.finish(*OUTCOME)
    content = table(folder, "errors")
    assert content["columns"] == ["index", "label", "predicted", "probability", "text 1", "text 2"]
    assert [row[0] for row in content["data"]] == list(range(50)) and content["data"][0][4] == "one 0"
    assert history(folder) == named(HISTORY)
    for artifact in records(folder, "artifact"):
        for entry in artifact["manifest"]["contents"]:
            assert Path(entry["local_path"]).is_relative_to(folder) and Path(entry["local_path"]).exists()
    last = summary(folder)
    assert (last["accuracy"], last["accuracy/reference"]) == (0.9, "above")
    assert set(records(folder, "run")[0]["tags"]) == {"finetune", "mrpc", "model", "bf16"}


def test_a_band_of_another_part_is_not_tracked(tracker, folder):
    launch = tracker()
    launch.begin(RESOLVED, {}, [])
    launch.finish(*runs.outcome(runs.classified(band_part="validation")))
    assert [key for key in summary(folder) if "reference" in key] == []


def test_a_disabled_one_does_nothing(tracker, folder, write, nutshell, monkeypatch):
    monkeypatch.setattr(wandb, "init", None)
    launch = tracker("disabled")
    launch.begin(RESOLVED, {}, HISTORY)
    launch.log({"loss": 1.0}, 3)
    launch.fail(1)
    launch.finish(*OUTCOME)
    assert not (folder / "wandb").exists()


def test_nothing_is_tracked_of_what_never_began(write, nutshell, tmp_path):
    assert nutshell("run", write(SMALL_YAML), "data.path=/nowhere")[0] == 2
    assert not list((tmp_path / "outputs").rglob("wandb"))


class Run:
    """A run on a server that has some of it already."""

    url, starting_step = "https://server/run", 2

    def __init__(self, sync_dir):
        self.settings, self.summary, self.rows, self.code = wandb.Settings(root_dir=str(sync_dir)), {}, [], None

    def define_metric(self, *_, **__): ...

    def log_artifact(self, _): ...

    def log(self, row, step, commit):
        self.rows.append((step, row))

    def finish(self, code):
        self.code = code


def test_on_line_only_what_is_new_is_logged(tracker, folder, monkeypatch):
    (folder / "wandb" / "offline-run-20200101_000000-name").mkdir(parents=True)
    (folder / "wandb" / "run_id.json").write_text('"name"')
    opened, run = {}, Run(folder)
    monkeypatch.setattr(wandb, "init", lambda **words: opened.update(words) or run)
    launch = tracker("online")
    launch.begin(RESOLVED, {}, HISTORY[:1])
    for row in HISTORY[1:]:
        launch.log({key: value for key, value in row.items() if key != "step"}, row["step"])
    launch.finish(*OUTCOME)
    assert run.rows == [(2, named(HISTORY)[2])] and run.code == 0 and run.summary["accuracy"] == 0.9
    assert (opened["id"], opened["resume"], opened["mode"]) == ("name", "allow", "online")
    assert [path.name for path in (folder / "wandb").iterdir()] == ["run_id.json"]


def test_a_server_that_fails_at_the_start(tracker, folder, monkeypatch, log):
    stock = wandb.init

    def init(mode, **words):
        if mode == "online":
            raise CommError("no")
        return stock(mode=mode, **words)

    monkeypatch.setattr(wandb, "init", init)
    launch = tracker("online")
    launch.begin(RESOLVED, {}, HISTORY)
    launch.finish(*OUTCOME)
    assert history(folder) == named(HISTORY) and "CommError: no; tracking off line" in log.text


def test_an_upload_that_does_not_end(tracker, monkeypatch, log):
    run = Run(".")

    def finish(_):
        raise TimeoutError

    monkeypatch.setattr(run, "finish", finish)
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    launch = tracker("online")
    launch.begin(RESOLVED, {}, [])
    launch.finish(*OUTCOME)
    assert "wandb sync --include-online" in log.text


def fails(*_, **__):
    raise RuntimeError("wandb is broken")


def test_a_run_without_wandb_at_all(write, nutshell, result, monkeypatch):
    monkeypatch.setattr(wandb, "init", fails)
    code, out, err = nutshell("run", write(SMALL_YAML))
    assert code == 0 and "accuracy" in out and err.count("wandb is broken") == 1 and result()["metrics"]


@pytest.mark.parametrize(("place", "times"), [("log", 2), ("finish", 1)])
def test_what_goes_wrong_in_wandb_is_a_warning(place, times, tracker, monkeypatch, log):
    monkeypatch.setattr(wandb.Run, place, fails)
    launch = tracker()
    launch.begin(RESOLVED, {}, [])
    for row in HISTORY:
        launch.log({key: value for key, value in row.items() if key != "step"}, row["step"])
    launch.finish(*OUTCOME)
    assert log.text.count("wandb is broken") == times


def test_files_that_are_damaged_are_a_warning(tracker, folder, log):
    launch = tracker()
    launch.begin(RESOLVED, {}, [])
    (folder / "errors.jsonl").write_text("{")
    launch.finish(*OUTCOME)
    assert "not tracked to its end: JSONDecodeError" in log.text


def test_a_server_that_hangs_after_the_start(tracker, folder, monkeypatch, log):
    """It costs the limit once; from then on the launch is off line."""
    stock, opened = wandb.init, []

    def init(mode, **words):
        opened.append(mode)
        return Run(folder) if mode == "online" else stock(mode=mode, **words)

    monkeypatch.setattr(trackers, "ARTIFACT_SECONDS", 0.2)
    monkeypatch.setattr(Run, "log_artifact", lambda *_: time.sleep(9))
    monkeypatch.setattr(wandb, "init", init)
    launch = tracker("online")
    began = time.monotonic()
    launch.begin(RESOLVED, {}, HISTORY)
    assert time.monotonic() - began < 5 and "no answer within 0.2 s; tracking off line" in log.text
    launch.finish(*OUTCOME)
    assert launch.mode.now == "offline" and opened == ["online", "offline"] and history(folder) == named(HISTORY)


def test_the_process_that_writes_for_wandb_is_killed(tracker, folder):
    launch = tracker()
    launch.begin(RESOLVED, {}, HISTORY[:1])
    service = wandb.sdk.wandb_setup.singleton()._connection._proc._process
    service.kill()
    service.wait()
    for row in HISTORY[1:]:
        launch.log({key: value for key, value in row.items() if key != "step"}, row["step"])
    launch.fail(143)
    assert history(folder) == named(HISTORY) and exit_codes(folder) == [143]


def test_modes(monkeypatch, tmp_path, capfd):
    assert modes.mode(True).now == "offline" and modes.mode(False).now == "disabled"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert modes.mode(True).now == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offlien")
    with pytest.raises(UserError, match="WANDB_MODE: expected online, offline or disabled, not 'offlien'"):
        modes.mode(True)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("RANK", "1")
    assert modes.mode(True).now == "disabled"
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    assert modes.mode(True).now == "offline"
    assert capfd.readouterr() == ("", "")


def test_an_unknown_mode_is_refused_before_anything_starts(write, nutshell, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offlien")
    code, _, err = nutshell("run", write(SMALL_YAML))
    assert code == 2 and "WANDB_MODE" in err and not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("netrc", [False, True])
def test_a_key_but_no_network(netrc, monkeypatch, log):
    monkeypatch.delenv("WANDB_MODE")
    if netrc:
        Path(os.environ["NETRC"]).write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
        monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai")
        monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr(modes, "ANSWER_SECONDS", 0.2)
    waits = {"head": lambda *_, **__: time.sleep(9)}
    monkeypatch.setattr(requests, "head", waits["head"])
    began = time.monotonic()
    assert modes.mode(True).now == "offline" and time.monotonic() - began < 2
    assert "does not answer; tracking off line" in log.text and KEY not in log.text

    def refused(*_, **__):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", refused)
    assert modes.mode(True).now == "offline"
    monkeypatch.setattr(requests, "head", lambda *_, **__: None)
    assert modes.mode(True).now == "online"


def test_a_malformed_key(monkeypatch, log):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert modes.mode(True).now == "offline" and "WANDB_API_KEY invalid" in log.text and "short" not in log.text


@pytest.mark.slow
def test_killed_the_hard_way(write, seed, tmp_path):
    """Twice by SIGKILL, then by a SIGTERM to the process that writes for wandb as well, as Slurm does."""
    text = SMALL_YAML.replace("max_steps: 2", "max_steps: 60, save_strategy: steps, save_steps: 5, logging_steps: 1")
    command = [*NUTSHELL, "run", write(text), "--output", tmp_path / "outputs"]
    names = set()
    for step, signum in ((10, signal.SIGKILL), (25, signal.SIGKILL), (40, signal.SIGTERM)):
        process = start(command)
        wait_for(seed / f"checkpoint-{step}", process)
        writers = psutil.Process(process.pid).children() * (signum == signal.SIGTERM)
        for victim in (*writers, process):
            victim.send_signal(signum)
        out, err = process.communicate(timeout=60)
        assert process.returncode == (143 if signum == signal.SIGTERM else -signum)
        assert "wandb:" not in out + err and "Traceback" not in err
        names |= {record["run_id"] for record in records(seed, "run")}
    assert len(writers) == 1 and exit_codes(seed) == [143] and len(history(seed)) >= 40
    finish(command)
    assert exit_codes(seed) == [0] and history(seed) == logged(seed)
    assert names == {record["run_id"] for record in records(seed, "run")} and len(names) == 1
