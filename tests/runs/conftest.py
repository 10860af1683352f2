"""What tests of whole training runs share: experiments of 18 steps, and what their folders hold."""

import json

import pytest

from tests.conftest import SMALL_YAML

SLOW = pytest.mark.slow  # the same paths, other moments
STEPS = SMALL_YAML.replace(
    "max_steps: 2", "max_steps: 18, learning_rate: 1e-3, logging_steps: 1, train_sampling_strategy: group_by_length"
)  # 48 examples, 12 steps an epoch
STEPS += "keep_checkpoints: true\n"
EPOCHS = STEPS.replace("eval_strategy: epoch", "eval_strategy: epoch, save_strategy: epoch, save_total_limit: 2")
BEST = EPOCHS.replace(
    "save_total_limit: 2",
    "save_total_limit: 1, load_best_model_at_end: true, metric_for_best_model: label_bits, greater_is_better: false",
).replace("per_device_eval_batch_size: 64", "per_device_eval_batch_size: 4")
NEVER = STEPS.replace("eval_strategy: epoch", "eval_strategy: epoch, save_strategy: 'no'")


ABOUT_THE_LAUNCH = ("training", "evaluation", "command", "provenance")


def figures(result: dict) -> dict:
    """What of metrics.json does not depend on when, how fast and in how many launches it was run."""
    return {key: value for key, value in result.items() if key not in ABOUT_THE_LAUNCH}


def weights(seed) -> bytes:
    return (seed / "model" / "model.safetensors").read_bytes()


def history(seed) -> list:
    """The log, without times and without the entry that ends a launch."""
    entries = json.loads((seed / "trainer_state.json").read_text())["log_history"]
    return [
        {key: value for key, value in entry.items() if not key.endswith(("_runtime", "_per_second", "_time"))}
        for entry in entries
        if "train_runtime" not in entry
    ]


@pytest.fixture
def run(write, nutshell, tmp_path):
    """Runs an experiment to its end in a folder of its own; the seed's folder."""

    def _run(text: str, name: str, *words):
        assert nutshell("run", write(text), *words)[0] == 0
        (tmp_path / "outputs").rename(tmp_path / name)
        return tmp_path / name / "finetune" / "pairs" / "seed-13"

    return _run
