"""What an experiment will take, without training anything."""

import math
import os
from typing import Any

from nutshell import models, training_keys
from nutshell.data import sources, tokens
from nutshell.schema import Classify


def plan(experiment: Classify) -> dict[str, Any]:
    """Examples, steps and tokens of one seed, for the number of processes of this launch.

    Returns:
        examples: by part; reported_as: the part the figure will be of; steps and global_batch (examples a step);
        train_tokens: over all epochs; eval_tokens: one pass over the reported part; exact: False if the tokens
        are estimated from 300 examples of each part, because they are not in the cache yet.
    """
    training = training_keys.defaults() | experiment.training
    checkpoint = models.find_classifier(experiment, weights=False)
    evaluates = training["eval_strategy"] != "no" or training["eval_on_start"]
    parts = sources.load(experiment.data, needs_validation=evaluates)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    batch = training["per_device_train_batch_size"] * processes
    steps = total_steps(len(parts.train), batch, training)
    epochs = steps / total_steps(len(parts.train), batch, training | {"max_steps": -1, "num_train_epochs": 1.0})
    train, exact = tokens.count(parts.train, experiment.data, checkpoint)
    reported, also_exact = tokens.count(getattr(parts, parts.reported), experiment.data, checkpoint)
    return {
        "examples": {name: len(part) for name, part in parts.by_name().items()},
        "source": parts.source,
        "reported_as": parts.reported_as,
        "processes": processes,
        "global_batch": batch * training["gradient_accumulation_steps"],
        "steps": steps,
        "train_tokens": round(train * epochs),
        "eval_tokens": reported,
        "exact": exact and also_exact,
    }


def total_steps(examples: int, batch: int, training: dict[str, Any]) -> int:
    """Optimizer steps as Trainer counts them: an epoch's last, smaller batch and its last, smaller group of
    accumulated batches are steps too."""
    if training["max_steps"] > 0:
        return training["max_steps"]
    batches = examples // batch if training["dataloader_drop_last"] else math.ceil(examples / batch)
    per_epoch = max(1, math.ceil(batches / training["gradient_accumulation_steps"]))
    return math.ceil(training["num_train_epochs"] * per_epoch)
