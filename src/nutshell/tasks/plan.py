"""What an experiment will take, without training anything."""

import math
from typing import Any

from nutshell.data import documents, prepared, tokens
from nutshell.data import labelled as sources
from nutshell.data import windows as blocks
from nutshell.experiment import generation_keys, training_keys
from nutshell.experiment.blocks import Classify, Experiment, Generate, LanguageModel
from nutshell.machine import launch
from nutshell.models import find as models


def plan(experiment: Experiment) -> list[str]:
    """Lines about one seed, for the number of processes of this launch: what is read, how many steps and tokens.

    Raises:
        UserError: Whatever of model and data is found wrong without loading the weights.
    """
    return {"classify": _classify, "language_model": _language_model, "generate": _generate}[experiment.task](
        experiment
    )


def _classify(experiment: Classify) -> list[str]:
    training = training_keys.defaults() | launch.training(experiment)
    checkpoint = models.find_classifier(experiment, weights=False)
    evaluates = training["eval_strategy"] != "no" or training["eval_on_start"]
    parts = sources.load(experiment.data, needs_validation=evaluates)
    epochs, said = _steps(len(parts.train), training, "examples")
    train, exact = tokens.count(parts.train, experiment.data, checkpoint)
    reported, also_exact = tokens.count(getattr(parts, parts.reported), experiment.data, checkpoint)
    about = "" if exact and also_exact else "about "  # from 300 examples of each part, if they are not in the cache
    return [
        _read(parts, "examples"),
        said,
        f"tokens:   {about}{round(train * epochs):,} in training, {about}{reported:,} in the final pass",
    ]


def _language_model(experiment: LanguageModel) -> list[str]:
    found = prepared.prepare(experiment, weights=False)
    wanted, streams = experiment.data.block_tokens, found.streams
    lines = [_read(found.parts, "documents")]
    train = 0
    if prepared.trains(experiment):
        training = training_keys.defaults() | launch.training(experiment)
        epochs, said = _steps(
            len(blocks.windows(streams["train"], wanted, wanted)), training, f"blocks of {wanted} tokens"
        )
        train = round(epochs * len(streams["train"]))
        lines.append(said)
    reported = streams[found.parts.reported]
    measured = blocks.windows(reported, wanted, experiment.evaluation.stride or wanted)
    return [
        *lines,
        f"tokens:   {train:,} in training, {len(reported) - 1:,} measured in {len(measured):,} windows; "
        f"vocabulary of {len(found.vocabulary):,}",
    ]


def _generate(experiment: Generate) -> list[str]:
    models.find(experiment.model, models.ARCHITECTURES, weights=False)
    prompts = documents.read_prompts(experiment.prompts)
    each = len(generation_keys.kinds(experiment.generation, experiment.samples_per_prompt, experiment.greedy))
    most = experiment.generation["max_new_tokens"]
    return [f"prompts:  {len(prompts):,}, {len(prompts) * each:,} continuations of at most {most:,} tokens"]


def _read(parts, unit: str) -> str:
    counts = ", ".join(f"{len(part):,} {name}" for name, part in parts.by_name().items())
    return f"{unit + ':':<9} {counts} ({parts.source}); the figure is of the {parts.reported_as} part"


def _steps(examples: int, training: dict[str, Any], unit: str) -> tuple[float, str]:
    """Epochs, and the line about steps."""
    at_once, accumulated = training["per_device_train_batch_size"], training["gradient_accumulation_steps"]
    batch = at_once * launch.processes()
    steps = total_steps(examples, batch, training)
    epochs = steps / total_steps(examples, batch, training | {"max_steps": -1, "num_train_epochs": 1.0})
    processes = launch.processes()
    made = f"{at_once} at once x {accumulated} accumulated x {processes} process{'es' * (processes > 1)}"
    return epochs, f"steps:    {steps:,}, each of {batch * accumulated} {unit}: {made}"


def total_steps(examples: int, batch: int, training: dict[str, Any]) -> int:
    """Optimizer steps as Trainer counts them: an epoch's last, smaller batch and its last, smaller group of
    accumulated batches are steps too."""
    if training["max_steps"] > 0:
        return training["max_steps"]
    per_epoch = math.ceil(math.ceil(examples / batch) / training["gradient_accumulation_steps"])
    return math.ceil(training["num_train_epochs"] * per_epoch)
