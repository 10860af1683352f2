"""An experiment file: strict loading, dotted overrides, every problem with its place."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from nutshell.experiment import training_keys
from nutshell.experiment.blocks import Experiment
from nutshell.experiment.checks import blocks_of, checks
from nutshell.experiment.problems import explain, not_one_of
from nutshell.experiment.yaml_text import MAX_DEPTH, Unreadable, parse, read, shorten
from nutshell.machine.errors import UserError


def load(file: str | Path, overrides: Sequence[str], tasks: Mapping[str, Any]) -> Experiment:
    """Reads and checks an experiment file.

    Args:
        file: The YAML file (YAML 1.2: `2e-5` is a number, `no` is a word).
        overrides: `dotted.key=value` each; the value is read as YAML and checked like the file's own.
        tasks: The tasks.task.Task of each word that `task:` may say.

    Raises:
        UserError: With every problem of the file, each with its line or override, what was expected and the
            nearest known key.
    """
    file = Path(file)
    plain, places = _read(file)
    for override in overrides:
        _override(plain, override, places)
    stated = {override.partition("=")[0] for override in overrides}
    if "model.name" in stated and "model.revision" not in stated and isinstance(plain.get("model"), dict):
        plain["model"].pop("revision", None)  # the file's is that of the name which it states
    task = tasks.get(str(plain.get("task")))
    if task is None:
        expected = f"expected one of {', '.join(sorted(tasks))}, {not_one_of(plain.get('task'), list(tasks))}"
        place = _place(("task",), places, file)
        raise UserError(f"{place}: task: {expected if 'task' in plain else 'is missing'}")
    blocks, kind = blocks_of(plain), task.asks
    directions = {metric.name: metric.higher_is_better for metric in task.metrics(blocks)}
    contradictions = [*task.checks(plain, blocks), *checks(plain, blocks, directions)]
    problems = [f"{_place(path, places, file)}: {problem}" for path, problem in contradictions]
    try:
        experiment = kind.model_validate(plain)
        experiment._file, experiment._overrides = file, [word for word in overrides if not word.startswith("seeds=")]
    except ValidationError as error:
        explained: dict[tuple[str, ...], str] = {}
        for path, problem in (explain(detail, kind, plain) for detail in error.errors()):
            explained.setdefault(path, problem)  # each member of a union has an error of its own
        problems = [f"{_place(path, places, file)}: {problem}" for path, problem in explained.items()] + problems
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    experiment.divide()
    return experiment


def dump(data: dict[str, Any], file: Path) -> None:
    """Writes plain data as YAML that reads back the same."""
    yaml = YAML()
    yaml.width = 2**30  # ruamel loses one of two spaces where it breaks a line
    yaml.representer.add_representer(str, _represent)
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(data, stream)


def _represent(representer, text: str):
    """Strings plain, except for the line separators that YAML would read back as spaces."""
    style = '"' if any(sign in text for sign in "\x85\u2028\u2029") else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _read(file: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """The file's data, and the place of each of its keys by their path."""
    try:
        if file.is_dir():
            raise UserError(f"{file}: is a folder; name an experiment file in it")
        tree, lines = parse(read(file))
    except FileNotFoundError:
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.yaml")], 1)
        raise UserError(
            f"{file}: no such file" + (f"; did you mean {file.parent / near[0]}?" if near else "")
        ) from None
    except Unreadable as error:
        raise UserError(f"{file}{f':{error.line}' if error.line else ''}: {error}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(tree, dict):
        kind = {list: "a list", type(None): "empty"}.get(type(tree), "a single value")
        raise UserError(f"{file}: an experiment is a mapping with the key task and others, but the file is {kind}")
    return tree, {path: f"{file}:{line}" for path, line in lines.items()}


def _override(tree: dict, override: str, places: dict) -> None:
    key, _, text = override.partition("=")
    path, place = tuple(key.split(".")), f"command line, {shorten(override)}"
    try:
        if len(path) > MAX_DEPTH:
            raise Unreadable(f"too much for an experiment: a key nested more than {MAX_DEPTH} levels deep")
        value, _ = parse(text)
    except Unreadable as error:
        raise UserError(f"{place}: {error}") from None
    for number, step in enumerate(path[:-1], 1):
        if step not in tree:
            tree[step], places[path[:number]] = {}, place
        tree = tree[step]
        if not isinstance(tree, dict):
            raise UserError(f"{place}: {shorten(step)} is a value, not a block with keys of its own")
    if value is None and path[0] == "training" and path[-1] in training_keys.defaults():
        tree.pop(path[-1], None)  # as if it were not stated
    else:
        tree[path[-1]] = value
    for old in [old for old in places if old[: len(path)] == path]:  # lines of what it replaces
        del places[old]
    places[path] = place


def _place(path: tuple, places: dict, file: Path) -> str:
    """The line or override that the nearest stated part of a path is in."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), str(file))
