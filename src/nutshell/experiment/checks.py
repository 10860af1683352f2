"""Problems between an experiment's keys that are each well-formed."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from nutshell.data.datasets import DATASETS, TEXTS
from nutshell.experiment import generation_keys
from nutshell.experiment.blocks import EXPERIMENTS

CAUSAL_DIRECTIONS = {"perplexity": False, "bits_per_byte": False}
Problem = tuple[tuple[str, ...], str]


def disagreements(plain: dict[str, Any]) -> Iterator[Problem]:
    """The path of each key to mend, and what is wrong with it.

    Args:
        plain: The experiment as it was read; what is not well-formed is passed over, since the schema says so.
    """
    blocks = ("model", "data", "training", "evaluation", "generation", "reference")
    given = {
        key: {name: value for name, value in block.items() if value is not None}
        if isinstance(block := plain.get(key), dict)
        else {}
        for key in blocks
    }
    task = plain["task"]
    directions = CAUSAL_DIRECTIONS if task == "language_model" else None
    if task == "classify":
        dataset = DATASETS.get(str(given["data"].get("name")))
        directions = dataset.directions if dataset else None
    if task != "generate":
        yield from _data(given["data"], DATASETS if task == "classify" else TEXTS)
    if plain.get("global_batch_size") is not None:
        yield from _batch(given["training"])
    if task == "language_model":
        yield from _language_model(plain, **given)
    if task == "generate":
        yield from _generate(plain, given["generation"])
    if given["generation"] and _well_formed(given["generation"]):
        if problem := generation_keys.problem(given["generation"]):
            yield ("generation",), f"generation: {problem}"
        if given["generation"].get("do_sample") and given["generation"].get("num_beams", 1) > 1:
            yield (
                ("generation", "num_beams"),
                "generation.num_beams: beams and do_sample together draw for the whole batch at once, so that a text "
                "would depend on what else is in it: state one of them",
            )
    yield from _pushed(plain, given["training"])
    if directions:
        yield from _reference(given["reference"], plain, directions)
        yield from _best(given["training"], directions)


def _well_formed(generation: dict) -> bool:
    try:
        generation_keys.schema().model_validate(generation)
    except ValidationError:
        return False
    return True


def _data(data: dict, known: dict) -> Iterator[Problem]:
    dataset = known.get(str(data.get("name")))
    if dataset is None:
        return
    if data.get("revision") and data.get("path"):
        yield (
            ("data", "revision"),
            "data.revision is a commit on the Hub and data.path a folder: state one of them",
        )
    elif data.get("revision") and not dataset.repository:
        where = "is read from data.path" if data["name"] == "text" else "is embedded"
        yield ("data", "revision"), f"data.revision: {data['name']} {where} and has no revision"


def _batch(training: dict) -> Iterator[Problem]:
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if key in training:
            yield (
                ("training", key),
                f"training.{key}: follows from global_batch_size and the launch; state one of them, the other null",
            )


def _language_model(plain: dict, model: dict, data: dict, training: dict, evaluation: dict, **_) -> Iterator[Problem]:
    if ("name" in model) == ("config" in model):
        yield ("model",), "model: state either name, a checkpoint, or config, a model to be trained from the start"
    elif "name" in model:
        for key in ("tokenizer", "vocab_size"):
            if key in model:
                yield ("model", key), f"model.{key}: a checkpoint comes with its own tokenizer; leave it out"
    else:
        if "revision" in model:
            yield ("model", "revision"), "model.revision is a checkpoint's commit; a model of model.config has none"
        if "tokenizer" not in model:
            yield ("model",), "model.tokenizer is missing: bytes, or bpe with model.vocab_size"
        if (model.get("tokenizer") == "bpe") != ("vocab_size" in model):
            yield ("model",), "model.vocab_size is the size of a bpe to be trained: state both or neither"
        steps = training.get("max_steps")
        if training.get("num_train_epochs") == 0 and not (isinstance(steps, int) and steps > 0):
            path = ("training", "num_train_epochs")
            yield path, "training.num_train_epochs: 0 leaves a model of model.config untrained"
    if data.get("name") == "text" and not data.get("path"):
        yield ("data",), "data.path is missing: a text file, or a folder of them"
    if data.get("name") == "sample_text" and data.get("path"):
        yield ("data", "path"), "data.path: sample_text is embedded; a text of your own is data.name: text"
    stride, block = evaluation.get("stride"), data.get("block_tokens", 128)
    if isinstance(stride, int) and isinstance(block, int) and stride > block:
        yield (
            ("evaluation", "stride"),
            f"evaluation.stride: {stride} would skip tokens between windows of data.block_tokens {block}",
        )
    if training.get("train_sampling_strategy") == "group_by_length":
        yield (
            ("training", "train_sampling_strategy"),
            "training.train_sampling_strategy: blocks are of one length; random or sequential",
        )
    if training.get("label_smoothing_factor"):
        yield (
            ("training", "label_smoothing_factor"),
            "training.label_smoothing_factor: Trainer would smooth a language model's labels without shifting them",
        )
    if plain.get("generation") and not plain.get("samples"):
        yield ("generation",), "generation: continues the prompts of samples, but there are none"
    if plain.get("samples") and training.get("eval_strategy", "no") == "no":
        yield ("samples",), "samples: are continued at each evaluation, but training.eval_strategy is no"
    if plain.get("samples") and training.get("num_train_epochs") == 0:
        yield (
            ("samples",),
            "samples: are continued during training, but there is none; prompts of task: generate are not",
        )
    if plain.get("samples") and "max_new_tokens" not in (plain.get("generation") or {}):
        yield ("samples",), "generation.max_new_tokens is missing: how far samples are continued"


def _generate(plain: dict, generation: dict) -> Iterator[Problem]:
    if plain.get("prompts") == []:
        yield ("prompts",), "prompts: the list is empty; state at least one"
    if "max_new_tokens" not in generation:
        yield ("generation",), "generation.max_new_tokens is missing: how far prompts are continued"
    samples = plain.get("samples_per_prompt", 1)
    if not generation.get("do_sample"):
        if isinstance(samples, int) and samples > 1:
            yield (
                ("samples_per_prompt",),
                f"samples_per_prompt: without generation.do_sample the {samples} texts of a prompt would be the same",
            )
        if plain.get("greedy") is True:
            yield ("greedy",), "greedy: without generation.do_sample the continuations are greedy already"


def _reference(reference: dict, plain: dict, directions: dict) -> Iterator[Problem]:
    known = EXPERIMENTS[plain["task"]].model_fields["reference"].annotation.__args__[0].model_fields
    for name, band in reference.items():
        if name in known and name not in {*directions, "source"}:
            yield (
                ("reference", name),
                f"reference.{name}: {plain['data']['name']} is measured by {', '.join(directions)}",
            )
        if isinstance(band, list) and all(isinstance(n, int | float) for n in band) and band != sorted(band):
            yield ("reference", name), f"reference.{name}: a band is [lowest, highest], not {band}"


def _pushed(plain: dict, training: dict) -> Iterator[Problem]:
    if training.get("push_to_hub") is True:
        path = ("training", "push_to_hub")
        if "hub_model_id" not in training:
            yield path, "training.hub_model_id is missing: which repository to push to, owner/name"
        elif not re.fullmatch(r"([\w.-]+/)?[\w.-]+", str(training["hub_model_id"]), re.ASCII):
            path = ("training", "hub_model_id")
            yield path, f"training.hub_model_id: expected owner/name, not {training['hub_model_id']!r}"
        if isinstance(plain.get("seeds"), list) and len(plain["seeds"]) > 1:
            yield (
                path,
                "training.push_to_hub: several seeds would overwrite one another there; state one, as --seed does",
            )
    else:
        for key in ("hub_model_id", "hub_strategy", "hub_private_repo", "hub_revision"):
            if key in training:
                yield ("training", key), f"training.{key}: nothing is pushed without training.push_to_hub: true"


def _best(training: dict, directions: dict) -> Iterator[Problem]:
    best = training.get("metric_for_best_model")
    if not isinstance(best, str):
        return
    best = best.removeprefix("eval_")
    path = ("training", "metric_for_best_model")
    if best not in {*directions, "loss"}:
        yield path, f"training.metric_for_best_model: {unknown(best, [*directions, 'loss'])}"
    elif training.get("greater_is_better", best != "loss") is not directions.get(best, False):
        must = str(directions.get(best, False)).lower()
        path = ("training", "greater_is_better")
        yield path, f"training.greater_is_better: must be {must} where the metric is {best}"


def unknown(word: str, known: Sequence[str]) -> str:
    """That a word is not known, with the nearest that is, or all of them."""
    near = difflib.get_close_matches(word, known, 1, 0.5)
    told = f"; known are {', '.join(known)}" if known else ""
    return f"{word!r} is not known" + (f"; did you mean {near[0]!r}?" if near else told)
