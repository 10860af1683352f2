"""An experiment file: strict loading, dotted overrides, every problem with its place."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nutshell.experiment import generation_keys, training_keys
from nutshell.experiment.blocks import EXPERIMENTS, Experiment
from nutshell.experiment.checks import disagreements, unknown
from nutshell.machine.errors import UserError
from nutshell.models import config_keys

MANY = 12  # words: more are not listed in a message


def load(file: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads and checks an experiment file.

    Args:
        file: The YAML file (YAML 1.2: `2e-5` is a number, `no` is a word).
        overrides: `dotted.key=value` each; the value is read as YAML and checked like the file's own.

    Raises:
        UserError: With every problem of the file, each with its line or override, what was expected and the
            nearest known key.
    """
    file = Path(file)
    tree = _read(file)
    places = {}
    _note_lines(tree, (), places, file)
    plain = _plain(tree)
    for override in overrides:
        _override(plain, override, places)
    stated = {override.partition("=")[0] for override in overrides}
    if "model.name" in stated and "model.revision" not in stated and isinstance(plain.get("model"), dict):
        plain["model"].pop("revision", None)  # the file's is that of the name which it states
    kind = EXPERIMENTS.get(str(plain.get("task")))
    if kind is None:
        place, tasks = _place(("task",), places, file), list(EXPERIMENTS)
        said = f"expected one of {', '.join(tasks)}, {_not(plain['task'], tasks)}" if "task" in plain else "is missing"
        raise UserError(f"{place}: task: {said}")
    problems = [f"{_place(path, places, file)}: {problem}" for path, problem in disagreements(plain)]
    try:
        experiment = kind.model_validate(plain)
        experiment._file, experiment._overrides = file, [word for word in overrides if not word.startswith("seeds=")]
    except ValidationError as error:
        problems = [_explain(detail, kind, plain, places, file) for detail in error.errors()] + problems
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return experiment


def dump(data: dict[str, Any], file: Path) -> None:
    """Writes plain data as YAML that reads back the same."""
    yaml = YAML()
    yaml.representer.add_representer(str, _represent)
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(data, stream)


def _represent(representer, text: str):
    """Strings plain, but for the line separators that YAML would read back as spaces."""
    style = '"' if any(sign in text for sign in "\x85\u2028\u2029") else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _read(file: Path) -> dict:
    if file.is_dir():
        raise UserError(f"{file}: is a folder; name an experiment file in it")
    try:
        tree = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.yaml")], 1)
        raise UserError(
            f"{file}: no such file" + (f"; did you mean {file.parent / near[0]}?" if near else "")
        ) from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{file}:{line}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise UserError(f"{file}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        kind = {list: "a list", type(None): "empty"}.get(type(_plain(tree)), "a single value")
        raise UserError(f"{file}: an experiment is a mapping with the key task and others, but the file is {kind}")
    return tree


def _plain(node: Any) -> Any:
    """ruamel's annotated containers and numbers as Python's own."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _note_lines(node: Any, path: tuple, places: dict, file: Path) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in (node.lc.data or {}):  # not so for a key that `<<:` merges in
                places[(*path, str(key))] = f"{file}:{node.lc.key(key)[0] + 1}"
            _note_lines(value, (*path, str(key)), places, file)


def _override(tree: dict, override: str, places: dict) -> None:
    key, _, text = override.partition("=")
    path = tuple(key.split("."))
    try:
        value = _plain(YAML(typ="rt").load(text))
    except YAMLError:
        raise UserError(f"{override}: the value is not valid YAML") from None
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise UserError(f"{override}: {step} is a value, not a block with keys of its own")
    if value is None and path[0] == "training" and path[-1] in training_keys.defaults():
        tree.pop(path[-1], None)  # as if it were not stated
    else:
        tree[path[-1]] = value
    places[path] = f"command line, {override}"


def _known(path: tuple, experiment: type[Experiment], plain: dict) -> list[str]:
    """The keys that the block at `path` may have."""
    if path == ("training",):
        return list(experiment.training_schema().model_fields)
    if path == ("generation",):
        return list(generation_keys.KEYS)
    if path == ("model", "config"):
        return list(config_keys.schema(plain["model"]["config"]["model_type"]).model_fields)
    model: type[BaseModel] = experiment
    for step in path:
        kind = model.model_fields[step].annotation if step in model.model_fields else None
        blocks = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)]
        if not blocks:
            return []
        model = blocks[0]
    return list(model.model_fields)


def _not(given: Any, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(given), options, 1, 0.5)
    return f"not {given!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _place(path: tuple, places: dict, file: Path) -> str:
    """The line or override that the nearest stated part of a path stands in."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), str(file))


def _refusal(path: tuple) -> str | None:
    """Why a key that a library knows has no place in the block."""
    reason = training_keys.REFUSED.get(path[-1])
    if path[0] == "training" or reason == training_keys.HARDWARE:
        return reason
    if path[0] == "generation":
        return generation_keys.REFUSED.get(path[-1])
    return config_keys.REFUSED.get(path[-1]) if path[:2] == ("model", "config") else None


def _explain(detail: dict, kind: type[Experiment], plain: dict, places: dict, file: Path) -> str:
    """One of pydantic's errors as one line: where, what was wrong, what was expected."""
    path = tuple(str(step) for step in detail["loc"])
    place = _place(path, places, file)
    key, given = ".".join(path), detail["input"]
    if detail["type"] == "extra_forbidden":
        if reason := _refusal(path):
            return f"{place}: {key} does not belong in an experiment: {reason}"
        known = _known(path[:-1], kind, plain)
        block = f" in {'.'.join(path[:-1])}" if path[1:] else ""
        return f"{place}: unknown key{block}: {unknown(path[-1], known)}"
    if detail["type"] == "missing":
        return f"{place}: {key} is missing"
    if detail["type"] == "value_error":
        return f"{place}: {key}{': ' if key else ''}{detail['ctx']['error']}"
    if detail["type"] == "string_pattern_mismatch" and path[-1] == "revision":
        return f"{place}: {key}: expected a commit of 40 hexadecimal digits (a branch or tag can move), not {given!r}"
    if detail["type"] == "string_pattern_mismatch" and path[-1] == "trainable":
        return f"{place}: {key}: expected all, head or last_<n> (the n highest layers and the head), not {given!r}"
    if detail["type"] == "literal_error" and isinstance(given, str):
        options = [word.strip("'") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        said = detail["ctx"]["expected"] if len(options) < MANY else f"one of {len(options)}"
        return f"{place}: {key}: expected {said}, {_not(given, options)}"
    return f"{place}: {key}: {detail['msg'].replace('Input should', 'should')}, not {given!r}"
