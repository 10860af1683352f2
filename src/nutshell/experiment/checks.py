"""Contradictions between keys that are each well-formed, in any experiment. A task has more of its own."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from nutshell.experiment import generation_keys
from nutshell.experiment.problems import unknown
from nutshell.experiment.yaml_text import shown

Problem = tuple[tuple[str, ...], str]  # the path of the key to correct, and what is wrong with it
Blocks = Mapping[str, Mapping[str, Any]]


def blocks_of(plain: Mapping[str, Any]) -> Blocks:
    """Each block of an experiment as it was read, without keys that are null; {} for one that is missing or no
    mapping."""
    blocks = {name: block for name, block in plain.items() if isinstance(block, dict)}
    return defaultdict(
        dict,
        {name: {key: value for key, value in block.items() if value is not None} for name, block in blocks.items()},
    )


def checks(plain: Mapping[str, Any], blocks: Blocks, directions: Mapping[str, bool | None]) -> Iterator[Problem]:
    """What is wrong with an experiment of any task; what is not well-formed is passed over, since the schema says so.

    Args:
        plain: The experiment as it was read.
        blocks: Its blocks.
        directions: The metrics that are reported, each with whether more of it is better; none if that is unknown.
    """
    if plain.get("global_batch_size") is not None:
        yield from _batch(blocks["training"])
    if plain.get("early_stopping") is not None:
        yield from _early_stopping(blocks["training"])
    yield from _generation(blocks["generation"])
    yield from _push(plain, blocks["training"])
    if directions:
        yield from _reference(blocks["reference"], blocks["data"], directions)
        yield from _best(blocks["training"], directions)


def _batch(training: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if key in training:
            yield (
                ("training", key),
                f"training.{key}: follows from global_batch_size and the launch; state one of them, the other null",
            )


def _early_stopping(training: Mapping[str, Any]) -> Iterator[Problem]:
    path = ("early_stopping",)
    if training.get("eval_strategy", "no") == "no":
        yield path, "early_stopping: counts evaluations, but training.eval_strategy is no"
    if training.get("num_train_epochs") == 0 and "max_steps" not in training:
        yield path, "early_stopping: nothing is trained where training.num_train_epochs is 0"
    if training.get("load_best_model_at_end") is not True:
        yield (
            path,
            "early_stopping: needs training.load_best_model_at_end: true, or the weights after the evaluations that "
            "were no better would be measured",
        )


def _generation(generation: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        generation_keys.schema().model_validate(dict(generation))
    except ValidationError:
        return
    if not generation:
        return
    if problem := generation_keys.problem(generation):
        yield ("generation",), f"generation: {problem}"
    if generation.get("do_sample") and generation.get("num_beams", 1) > 1:
        yield (
            ("generation", "num_beams"),
            "generation.num_beams: beams and do_sample together draw for the whole batch at once, so that a text would "
            "depend on what else is in it: state one of them",
        )


def _reference(
    reference: Mapping[str, Any], data: Mapping[str, Any], directions: Mapping[str, bool | None]
) -> Iterator[Problem]:
    for name, band in reference.items():
        if name in ("source", "part"):
            continue
        if name not in directions:
            on = f"{data['name']} is measured by" if "name" in data else "the metrics are"
            yield ("reference", name), f"reference.{name}: {on} {', '.join(directions)}"
        if isinstance(band, list) and all(isinstance(end, int | float) for end in band) and band != sorted(band):
            yield ("reference", name), f"reference.{name}: a band is [lowest, highest], not {shown(band)}"


def _push(plain: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[Problem]:
    if training.get("push_to_hub") is not True:
        for key in ("hub_model_id", "hub_private_repo", "hub_revision"):
            if key in training:
                yield ("training", key), f"training.{key}: nothing is pushed without training.push_to_hub: true"
        return
    path = ("training", "push_to_hub")
    if "hub_model_id" not in training:
        yield path, "training.hub_model_id is missing: which repository to push to, owner/name"
    elif not re.fullmatch(r"([\w.-]+/)?[\w.-]+", str(training["hub_model_id"]), re.ASCII):
        path = ("training", "hub_model_id")
        yield path, f"training.hub_model_id: expected owner/name, not {shown(training['hub_model_id'])}"
    if isinstance(plain.get("seeds"), list) and len(plain["seeds"]) > 1:
        yield path, "training.push_to_hub: several seeds would overwrite one another there; state one, as --seeds does"


def _best(training: Mapping[str, Any], directions: Mapping[str, bool | None]) -> Iterator[Problem]:
    best = training.get("metric_for_best_model")
    if not isinstance(best, str):
        return
    best = best.removeprefix("eval_")
    path = ("training", "metric_for_best_model")
    if best not in {*directions, "loss"}:
        yield path, f"training.metric_for_best_model: {unknown(best, [*directions, 'loss'])}"
    elif training.get("greater_is_better", best != "loss") is not bool(directions.get(best, False)):
        must = str(bool(directions.get(best, False))).lower()
        path = ("training", "greater_is_better")
        yield path, f"training.greater_is_better: must be {must} where the metric is {best}"
