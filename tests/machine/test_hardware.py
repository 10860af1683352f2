"""The files in experiments/hardware: accelerate takes the settings, and the Slurm script says the right command."""

import os
import re
import shlex
import signal
import subprocess
import time

import pytest

from tests.conftest import ROOT

HARDWARE = ROOT / "experiments" / "hardware"
FAKES = {
    # Starts one task for each node, as Slurm does; notes its process, and ends with the highest exit code.
    "srun": """
        echo "$@" > $LOG/srun
        while [ $1 != bash ]; do shift; done
        for node in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do SLURM_NODEID=$node "$@" & echo $! > $LOG/task.$node; done
        highest=0
        for task in $(cat $LOG/task.*); do wait $task || { code=$?; [ $code -lt $highest ] || highest=$code; }; done
        exit $highest""",
    "scontrol": """
        if [ "$1 $2 $3" = "show hostnames nodes[1-4]" ]; then exec printf "node%s\\n" 1 2 3 4; fi
        echo "$@" >> $LOG/asked""",
    # Saves for a moment after a SIGTERM, and then ends as accelerate does.
    "accelerate": """
        printf "%s\\n" "$@" > $LOG/partial.$SLURM_NODEID
        echo $TORCH_ELASTIC_SHUTDOWN_TIMEOUT > $LOG/seconds
        trap 'sleep 0.5; echo saved > $LOG/saved.$SLURM_NODEID; exit 1' TERM
        mv $LOG/partial.$SLURM_NODEID $LOG/accelerate.$SLURM_NODEID
        if [ $WORK = forever ]; then while true; do sleep 0.1; done; fi
        exit $WORK""",
}


@pytest.fixture
def slurm(tmp_path):
    """Starts the script as a job on so many nodes, among fakes that note what they are told in tmp_path."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in FAKES.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (commands / name).chmod(0o755)

    def _slurm(nodes: int, *words: str, work: str = "0", **variables: str) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        environment |= {"PATH": f"{commands}:{os.environ['PATH']}", "LOG": str(tmp_path), "WORK": work}
        environment |= {"SLURM_JOB_ID": "70007", "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_JOB_NODELIST": "nodes[1-4]"}
        command = ["bash", str(HARDWARE / "slurm.sh"), *words]
        return subprocess.Popen(command, cwd=ROOT, env=environment | variables, stderr=subprocess.PIPE, text=True)

    return _slurm


@pytest.mark.parametrize(("nodes", "gpus"), [(1, None), (1, 8), (4, None), (4, 8)])
def test_slurm_starts_one_launcher_on_each_machine(nodes, gpus, slurm, tmp_path):
    words = ["experiments/finetune/mrpc.yaml", "training.num_train_epochs=1", "prompts=[Once, The cat]"]
    variables = {"SLURM_GPUS_ON_NODE": str(gpus), "SLURM_CPUS_PER_TASK": "16"} if gpus else {}
    job = slurm(nodes, *words, **variables)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 0 and err == ""
    launched = sorted(path.name for path in tmp_path.glob("accelerate.*"))
    assert launched == [f"accelerate.{node}" for node in range(nodes)]
    for node in range(nodes):
        assert (tmp_path / f"accelerate.{node}").read_text().splitlines() == [
            *f"launch --machine_rank {node} --config_file experiments/hardware/multi_node.yaml".split(),
            *f"--num_machines {nodes} --num_processes {nodes * (gpus or 1)}".split(),
            *"--main_process_ip node1 --main_process_port 20007 --mixed_precision no -m nutshell run".split(),
            *words,
        ]
    options = (tmp_path / "srun").read_text().split(" bash ")[0]
    assert options == "--kill-on-bad-exit=1" + " --cpus-per-task=16" * bool(gpus)
    assert int((tmp_path / "seconds").read_text()) == 90
    assert not (tmp_path / "asked").exists()


def test_slurm_queues_a_job_again_that_was_signalled(slurm, tmp_path):
    """SIGTERM to the tasks, as by --signal or preemption: each process saves, and Slurm is asked for another turn."""
    job = slurm(2, "experiments/finetune/mrpc.yaml", work="forever", MIXED_PRECISION="bf16")
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("accelerate.*"))) < 2:
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    for node in range(2):
        os.kill(int((tmp_path / f"task.{node}").read_text()), signal.SIGTERM)
    job.communicate(timeout=30)
    assert job.returncode == 143
    assert len(list(tmp_path.glob("saved.*"))) == 2
    assert (tmp_path / "asked").read_text() == "requeue 70007\n"
    assert "\n--mixed_precision\nbf16\n" in (tmp_path / "accelerate.1").read_text()


def test_slurm_lets_a_job_fail_that_fails(slurm, tmp_path):
    job = slurm(2, "experiments/finetune/mrpc.yaml", work="1")
    job.communicate(timeout=30)
    assert job.returncode == 1 and not (tmp_path / "asked").exists()


def test_slurm_says_how_to_name_an_experiment(slurm):
    job = slurm(1)
    _, err = job.communicate(timeout=30)
    assert job.returncode != 0 and "name an experiment file" in err


def test_slurm_does_not_begin_anew_on_a_second_turn(slurm, tmp_path):
    job = slurm(1, "experiments/finetune/mrpc.yaml", "--force", "a=b", SLURM_RESTART_COUNT="1")
    job.communicate(timeout=30)
    assert job.returncode == 0
    assert (tmp_path / "accelerate.0").read_text().splitlines()[-3:] == ["run", "experiments/finetune/mrpc.yaml", "a=b"]


@pytest.mark.parametrize("name", ["multi_node.yaml", "fsdp.yaml"])
def test_accelerate_takes_the_documented_commands(name):
    """Each command of a file's comment, numbers in place of its letters; every key of the file reaches the launch."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from ruamel.yaml import YAML

    text = (HARDWARE / name).read_text(encoding="utf-8")
    comment = "\n".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
    commands = re.findall(r"^ +(?:\w+=\S+ )*accelerate launch ((?:.*\\\n)*.*)$", comment, re.M)
    assert commands
    settings = YAML(typ="safe", pure=True).load(text)
    for command in commands:
        numbers = {"N": "2", "P": "4", "R": "1", "ADDRESS": "10.0.0.1"}
        words = [numbers.get(word, word) for word in shlex.split(command.replace("\\\n", " "))]
        arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
        assert arguments.training_script == "nutshell" and arguments.module
        assert (arguments.multi_gpu, arguments.use_fsdp) == (name != "fsdp.yaml", name == "fsdp.yaml")
        for key, value in settings.get("fsdp_config", {}).items():
            assert getattr(arguments, key) == value
        if name == "multi_node.yaml":
            assert (arguments.num_machines, arguments.num_processes, arguments.machine_rank) == (2, 4, 1)
            assert (arguments.rdzv_backend, arguments.main_process_ip) == ("static", "10.0.0.1")
