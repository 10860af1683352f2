"""Several machines: network namespaces joined by a cable, each given the command that multi_node.yaml documents."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.machine.test_launch import PLACE, TRAINED, same_answers

pytestmark = pytest.mark.slow

COMMENT = "\n".join(
    line.removeprefix("#")
    for line in (ROOT / "experiments/hardware/multi_node.yaml").read_text(encoding="utf-8").splitlines()
    if line.startswith("#")
)
COMMAND = re.search(r"^ +(accelerate launch (?:.*\\\n)*.*)$", COMMENT, re.M)[1].replace("\\\n", " ")
VARIABLE, INTERFACE = re.search(r"(GLOO_SOCKET_IFNAME)=(\S+)", COMMENT).groups()
ADDRESSES = ["10.213.7.1", "10.213.7.2"]
SECOND = 54321  # the group of all that the second machine writes: tells who wrote a file


def ip(*words) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)


def stop(machines) -> None:
    """Ends whatever still runs there."""
    for machine in machines:
        for pid in ip("netns", "pids", machine).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@pytest.fixture(scope="module")
def machines():
    """The names of two network namespaces that reach each other and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if not shutil.which("ip"):
        pytest.skip("network namespaces need ip (iproute2)")
    prefix = f"nutshell-{uuid.uuid4().hex[:8]}"
    names = [f"{prefix}-{number}" for number in range(2)]
    try:
        cable = ["link", "add", INTERFACE, "netns", names[0], "type", "veth", "peer", INTERFACE, "netns", names[1]]
        for words in (*(["netns", "add", name] for name in names), cable):
            if (done := ip(*words)).returncode:
                pytest.skip(f"this machine permits no network namespaces: {done.stderr.strip()}")
        for name, address in zip(names, ADDRESSES, strict=True):
            for words in (
                ["link", "set", "lo", "up"],
                ["addr", "add", f"{address}/24", "dev", INTERFACE],
                ["link", "set", INTERFACE, "up"],
            ):
                done = ip("-n", name, *words)
                assert done.returncode == 0, done.stderr
        yield names
    finally:
        stop(names)
        for name in names:
            ip("netns", "del", name)


@pytest.fixture(autouse=True)
def nothing_runs_on(machines):
    yield
    stop(machines)


@pytest.fixture(scope="module")
def file(tiny, small, tmp_path_factory):
    file = tmp_path_factory.mktemp("nodes") / "experiments" / "finetune" / "pairs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(TRAINED.replace("TINY", str(tiny)).replace("SMALL", str(small)), encoding="utf-8")
    return file


class Launch:
    """The documented command, on both machines; what each says is kept in the folder."""

    def __init__(self, machines, folder: Path, *words):
        folder.mkdir()
        self.files = [[folder / f"{rank}.{name}" for name in ("out", "err")] for rank in range(2)]
        self.processes = []
        for rank, machine in enumerate(machines):
            command = COMMAND.replace("experiments/finetune/mrpc.yaml", shlex.join(map(str, words)))
            for word, value in {"N": 2, "P": 2, "R": rank, "ADDRESS": ADDRESSES[0]}.items():
                command, count = re.subn(rf"(?<= ){word}\b", str(value), command)
                assert count == 1, f"{word} in {COMMAND}"
            paths = {"PATH": Path(sys.executable).parent, "PYTHONPATH": ROOT / "src"}
            environment = os.environ | {name: f"{path}:{os.environ.get(name, '')}" for name, path in paths.items()}
            environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", VARIABLE: INTERFACE}
            with self.files[rank][0].open("w") as out, self.files[rank][1].open("w") as err:
                command = ["ip", "netns", "exec", machine, *shlex.split(command)]
                group = {"group": SECOND} if rank else {}
                self.processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err, **group)
                )

    def output(self) -> list[tuple[str, str]]:
        """Each machine's standard output and error."""
        return [tuple(file.read_text(encoding="utf-8") for file in files) for files in self.files]

    def ends(self, seconds: float) -> list[int]:
        """Both exit codes, which must be there in time."""
        deadline = time.monotonic() + seconds
        try:
            return [process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a machine's launcher has not ended: {self.output()}") from None

    def worker(self, rank: int) -> int:
        """The process that trains on this machine: the launcher's child."""
        launcher = self.processes[rank].pid
        (pid,) = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        assert b"\0nutshell\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return int(pid)


def run(machines, folder, *words) -> list[tuple[str, str]]:
    launch = Launch(machines, folder, *words)
    assert launch.ends(150) == [0, 0], launch.output()
    return launch.output()


@pytest.fixture(scope="module")
def weights(machines, file, tmp_path_factory) -> bytes:
    """Of a run on two machines that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run(machines, folder / "output", file, "--output", folder / "outputs")
    return (folder / "outputs" / PLACE / "model/model.safetensors").read_bytes()


def test_two_machines_train_as_one_process(machines, file, tmp_path):
    """The same global batch: the same losses, gradients and predictions; the main machine alone writes and prints."""
    words = ["model.dropout=0", "training.max_steps=30"]
    one, two = tmp_path / "one", tmp_path / "two"
    alone = [sys.executable, "-m", "nutshell", "run", file, *words, "--output", one]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(list(map(str, alone)), env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    words += ["training.per_device_train_batch_size=2", "keep_checkpoints=true", "--output", two]
    (out, err), (other_out, other_err) = run(machines, tmp_path / "output", file, *words)

    histories = [json.loads((home / PLACE / "trainer_state.json").read_text())["log_history"] for home in (one, two)]
    losses, others = ([(e["loss"], e["grad_norm"]) for e in history if "loss" in e] for history in histories)
    assert len(losses) == 30
    for expected, found in zip(losses, others, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert same_answers(one / PLACE, two / PLACE) > 0
    assert json.loads((two / PLACE / "metrics.json").read_text())["provenance"]["processes"] == 2

    assert out.count("95 % interval") == 1 and "step 30/30" in err
    assert other_out == "" and "step " not in other_err and "nutshell" not in other_err
    written = {path.name for path in two.rglob("*") if path.is_file() and path.stat().st_gid == SECOND}
    assert written == {"rng_state_1.pth"}  # each process keeps its own random state in a checkpoint


@pytest.mark.parametrize("rank", [0, 1], ids=["main", "other"])
def test_a_machine_whose_process_is_killed(rank, machines, file, weights, tmp_path):
    """Both launchers end and name the rank; the same commands resume it and end with the same weights."""
    output = tmp_path / "outputs"
    launch = Launch(machines, tmp_path / "killed", file, "--output", output)
    deadline = time.monotonic() + 120
    while not (output / PLACE / "checkpoint-20" / "trainer_state.json").exists():
        assert time.monotonic() < deadline and launch.processes[0].poll() is None, launch.output()
        time.sleep(0.01)
    os.kill(launch.worker(rank), signal.SIGKILL)
    assert 0 not in launch.ends(60)
    assert not (output / PLACE / "metrics.json").exists()
    errors = [re.sub(r" +", " ", err) for _, err in launch.output()]
    assert f"rank : {rank} (local_rank: 0)" in errors[rank] and "(SIGKILL)" in errors[rank]
    assert f"rank : {1 - rank} (local_rank: 0)" in errors[1 - rank]  # lost its connection and failed in its turn

    (_, err), _ = run(machines, tmp_path / "again", file, "--output", output)
    assert "resumes from checkpoint-" in err
    assert (output / PLACE / "model/model.safetensors").read_bytes() == weights
