"""What is wrong with an experiment, in words: pydantic's errors as one line each, and the key that was meant."""

import difflib
from collections.abc import Sequence
from typing import Any

from nutshell.experiment import training_keys
from nutshell.experiment.blocks import Experiment
from nutshell.experiment.yaml_text import shown

MANY = 20  # words: more are not listed in a message
NEAR = 0.75  # similarity of a hint; at 0.5 early_stopping_patience was taken for learning_rate
SAME = 0.85  # similarity of a hint to another block's key
# What other trainers, or transformers 4, call a key.
ALIASES = {
    "batch_size": "training.per_device_train_batch_size",
    "eval_batch_size": "training.per_device_eval_batch_size",
    "per_device_batch_size": "training.per_device_train_batch_size",
    "per_gpu_train_batch_size": "training.per_device_train_batch_size",
    "per_gpu_eval_batch_size": "training.per_device_eval_batch_size",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.lr_scheduler_type",
    "scheduler": "training.lr_scheduler_type",
    "optimizer": "training.optim",
    "epochs": "training.num_train_epochs",
    "steps": "training.max_steps",
    "grad_clip": "training.max_grad_norm",
    "early_stopping_patience": "early_stopping.patience",
    "early_stopping_threshold": "early_stopping.threshold",
    "evaluation_strategy": "training.eval_strategy",
    "warmup_ratio": "training.warmup_steps",
    "group_by_length": "training.train_sampling_strategy",
    "max_length": "data.max_tokens",
    "max_seq_length": "data.max_tokens",
    "block_size": "data.block_tokens",
    "seed": "seeds",
}
REMARKS = {
    "batch_size": " (on each device; global_batch_size at the top of the file is that of a step)",
    "warmup_ratio": " (below 1 it is a share of all steps)",
    "group_by_length": " with the value group_by_length",
}
EXPECTED = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_too_short": "text that is not empty",
    "none_required": "null",
}
LIBRARY = {"training": "transformers.TrainingArguments", "generation": "transformers.GenerationConfig"}


def explain(detail: dict[str, Any], kind: type[Experiment], plain: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """The path of the key to correct, and what was wrong and what was expected.

    Args:
        detail: One of pydantic's errors.
        kind: The class that refused the experiment.
        plain: The experiment as it was read.
    """
    path, problem = _path(detail["loc"], plain, detail["type"]), detail["type"]
    key, given, context = ".".join(path), detail["input"], detail.get("ctx", {})
    if problem == "extra_forbidden":
        if reason := _refusal(path, kind, plain):
            return path, f"{key} does not belong in an experiment: {reason}"
        block = f" in {'.'.join(path[:-1])}" if path[1:] else ""
        return path, f"unknown key{block}: {_unknown_key(path, kind, plain)}"
    if problem == "missing":
        return path, f"{key} is missing"
    if problem == "value_error":
        text = str(context["error"])
        return path, f"{key}{': ' * bool(key)}{text}" + f", not {shown(given)}" * text.startswith("expected ")
    if problem == "string_pattern_mismatch" and path[-1] == "revision":
        expected = "a commit of 40 hexadecimal digits (a branch or tag can move)"
    elif problem == "string_pattern_mismatch" and path[-1] == "trainable":
        expected = "all, head or last_<n> (the n highest layers and the head)"
    elif problem == "literal_error":
        options = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        expected = context["expected"] if len(options) <= MANY else f"one of {len(options)} words"
        return path, f"{key}: expected {expected}, {not_one_of(given, options)}"
    elif problem in ("too_short", "too_long"):
        bound, count = ("at least", "min_length") if problem == "too_short" else ("at most", "max_length")
        entries = "entry" if context[count] == 1 else "entries"
        expected = f"a list with {bound} {context[count]} {entries}"
    elif problem in EXPECTED:
        expected = EXPECTED[problem]
    else:
        return path, f"{key}: {detail['msg'].replace('Input should', 'should')}, not {shown(given)}"
    quotes = " (text goes in quotes)" * (problem == "string_type" and isinstance(given, bool | int | float))
    return path, f"{key}: expected {expected}, not {shown(given)}{quotes}"


def not_one_of(given: Any, options: Sequence[str]) -> str:
    """That a value is none of the options, with the nearest."""
    near = _nearest(given, options) if isinstance(given, str) else None
    return f"not {shown(given)}" + (f"; did you mean {shown(near)}?" if near else "")


def unknown(word: str, known: Sequence[str]) -> str:
    """That a word is not known, with the nearest that is, or all of them if they are few."""
    if near := _nearest(word, known):
        return f"{shown(word)} is not known; did you mean {shown(near)}?"
    return f"{shown(word)} is not known" + (f"; known are {', '.join(known)}" if 0 < len(known) <= MANY else "")


def _nearest(word: str, known: Sequence[str], similarity: float = NEAR) -> str | None:
    """The one known word that is spelt almost alike, or else the only one that has all of its parts."""
    if near := difflib.get_close_matches(word[:100], known, 1, similarity):
        return near[0]
    parts = set(word.lower().split("_"))
    whole = [name for name in known if parts <= set(name.split("_"))]
    return whole[0] if len(whole) == 1 else None


def _unknown_key(path: tuple[str, ...], kind: type[Experiment], plain: dict[str, Any]) -> str:
    *block, word = path
    keys = {place: list(block.model_fields) for place, block in kind.blocks(plain).items()}
    known = keys.get(tuple(block), [])
    alias = ALIASES.get(word)
    *home, name = (alias or "").split(".")
    if alias and name in keys.get(tuple(home), []):
        target = shown(name) if home == block else alias
        return f"{shown(word)} is not known; did you mean {target}{REMARKS.get(word, '')}?"
    text = unknown(word, known)
    if "did you mean" in text:
        return text
    for similarity in (1, SAME):
        for other, names in keys.items():
            if near := difflib.get_close_matches(word[:100], names, 1, similarity):
                return f"{shown(word)} is not known here; did you mean {'.'.join((*other, near[0]))}?"
    library = LIBRARY.get(".".join(block))
    return text + (f"; the keys are those of {library}" if library and "known are" not in text else "")


def _path(steps: Sequence[str | int], plain: Any, problem: str) -> tuple[str, ...]:
    """The steps of a pydantic place that are keys and list entries; others name a member of a union."""
    path = []
    for step in steps:
        inside = step in plain if isinstance(plain, dict) else isinstance(plain, list) and isinstance(step, int)
        if inside:
            plain = plain[step]
        if inside or problem == "missing":
            path.append(str(step))
    return tuple(path)


def _refusal(path: tuple[str, ...], kind: type[Experiment], plain: dict[str, Any]) -> str | None:
    """Why a key that a library knows has no place in the block."""
    reason = training_keys.REFUSED.get(path[-1])
    if not path[1:] or reason == training_keys.HARDWARE:
        return reason
    return getattr(kind.blocks(plain).get(path[:-1]), "refused", {}).get(path[-1])
