"""What an experiment will take, without training anything: the lines that `show` prints."""

import math
from typing import Any

from nutshell.experiment import training_keys
from nutshell.experiment.blocks import Experiment
from nutshell.machine import launch
from nutshell.machine.errors import plural


def settings(experiment: Experiment) -> dict[str, Any]:
    """The `training:` block for this launch, with the defaults of TrainingArguments."""
    return training_keys.defaults() | experiment.arguments


def trains(training: dict[str, Any]) -> bool:
    """Whether the experiment trains at all."""
    return training["max_steps"] > 0 or training["num_train_epochs"] > 0


def evaluates(training: dict[str, Any]) -> bool:
    """Whether training evaluates meanwhile, and so needs a validation part."""
    return training["eval_strategy"] != "no" or training["eval_on_start"]


def parts(parts, units: str) -> str:
    """The line about a data set's parts."""
    counts = ", ".join(f"{len(part):,} {name}" for name, part in parts.by_name().items())
    return f"{units + ':':<9} {counts} ({parts.source}); the figure is of the {parts.reported_as} part"


def steps(examples: int, training: dict[str, Any], unit: str) -> tuple[float, str]:
    """Epochs, and the line about steps."""
    total = total_steps(examples, training)
    epochs = total / total_steps(examples, training | {"max_steps": -1, "num_train_epochs": 1.0})
    return epochs, f"steps:    {total:,}, {shares(training, unit)}"


def shares(training: dict[str, Any], unit: str) -> str:
    """What a step is of, in words."""
    at_once, accumulated = training["per_device_train_batch_size"], training["gradient_accumulation_steps"]
    processes = launch.processes()
    divided = f"{at_once} at once x {accumulated} accumulated x {plural(processes, 'process')}"
    return f"each of {at_once * accumulated * processes} {unit}: {divided}"


def early_stopping(experiment: Experiment) -> list[str]:
    """The line that fewer steps may be run, if so."""
    limits = getattr(experiment, "early_stopping", None)
    if limits is None:
        return []
    metric = settings(experiment)["metric_for_best_model"] or "loss"
    threshold = f" by more than {limits.threshold:g}" if limits.threshold else ""
    return [
        f"stopping: earlier, once {plural(limits.patience, 'evaluation')} in a row did not improve {metric}{threshold}"
    ]


def total_steps(examples: int, training: dict[str, Any]) -> int:
    """Optimizer steps as Trainer counts them: an epoch's last, smaller batch and its last, smaller group of
    accumulated batches are steps too."""
    if training["max_steps"] > 0:
        return training["max_steps"]
    batch = training["per_device_train_batch_size"] * launch.processes()
    per_epoch = math.ceil(math.ceil(examples / batch) / training["gradient_accumulation_steps"])
    return math.ceil(training["num_train_epochs"] * per_epoch)
