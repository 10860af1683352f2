"""The YAML's schema: strict loading, dotted overrides, where a run's results live."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nutshell import training_keys
from nutshell.data.datasets import DATASETS


class UserError(Exception):
    """A mistake that the user can mend: the command prints the message alone and exits with 2."""


class Strict(BaseModel):
    """Unknown keys and wrong types are errors; nothing is converted but a whole number to a float."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Model(Strict):
    """`model:` which checkpoint, which of its parameters are trained, and with how much dropout."""

    name: Annotated[str, Field(min_length=1)]  # minilm, a folder, or with a revision a name on the Hub
    revision: Commit | None = None
    trainable: Annotated[str, Field(pattern=r"^(all|head|last_[1-9][0-9]*)$")] = "all"
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # of states and attention; None: the checkpoint's own


class Data(Strict):
    """`data:` which examples, and how their text becomes tokens."""

    name: Literal[tuple(DATASETS)]
    path: Annotated[str, Field(min_length=1)] | None = None
    revision: Commit | None = None
    max_tokens: Annotated[int, Field(ge=8)] = 128
    truncate: Literal["head", "tail", "head_tail"] = "head"
    train_examples: Annotated[int, Field(ge=1)] | None = None
    validation_examples: Annotated[int, Field(ge=1)] | None = None


Band = Annotated[list[float], Field(min_length=2, max_length=2)]


class Reference(Strict):
    """`reference:` the published band that a metric must land in, [lowest, highest], and where it is published."""

    source: Annotated[str, Field(min_length=1)]
    accuracy: Band | None = None
    f1: Band | None = None
    label_bits: Band | None = None

    def bands(self) -> dict[str, list[float]]:
        """The bands that are stated, by metric."""
        return self.model_dump(exclude={"source"}, exclude_none=True)


class Experiment(Strict):
    """One experiment file: one question."""

    task: Literal["classify"]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
    model: Model
    data: Data
    training: dict[str, Any] = {}
    reference: Reference | None = None

    _file: Path

    @field_validator("training", mode="before")
    @classmethod
    def _checked_by_training_arguments(cls, value: Any) -> dict[str, Any]:
        return training_keys.schema().model_validate(value).model_dump(exclude_unset=True)

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a seed stands in it twice")
        return value

    @property
    def place(self) -> Path:
        """Where the results live below the outputs root: `<chapter>/<name>`, from the file's own path."""
        return Path(self._file.resolve().parent.name) / self._file.stem

    def resolved(self, seed: int | None = None) -> dict[str, Any]:
        """The experiment as plain data, own defaults filled in; with a seed, that seed's run alone."""
        plain = self.model_dump()
        if seed is None:
            return plain
        del plain["seeds"]
        return {"task": plain.pop("task"), "seed": seed, **plain}


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
    problems = [f"{_place(path, places, file)}: {problem}" for path, problem in _disagreements(plain)]
    try:
        experiment = Experiment.model_validate(plain)
        experiment._file = file
    except ValidationError as error:
        problems = [_explain(detail, places, file) for detail in error.errors()] + problems
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return experiment


def dump(data: dict[str, Any], file: Path) -> None:
    """Writes plain data as YAML."""
    yaml = YAML()
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(data, stream)


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
        raise UserError(f"{file}: an experiment is a mapping with the keys {_known(())}, but the file is {kind}")
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
    tree[path[-1]] = value
    places[path] = f"command line, {override}"


def _known(path: tuple) -> list[str]:
    """The keys that the block at `path` may have."""
    if path == ("training",):
        return list(training_keys.defaults())
    model: type[BaseModel] = Experiment
    for step in path:
        kind = model.model_fields[step].annotation if step in model.model_fields else None
        blocks = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)]
        if not blocks:
            return []
        model = blocks[0]
    return list(model.model_fields)


def _unknown(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"{word!r} is not known" + (f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")


def _disagreements(plain: dict) -> Iterator[tuple[tuple, str]]:
    """Problems between keys that are each well-formed: the path of the one to mend, and what is wrong."""
    data, training, reference = (
        block if isinstance(block := plain.get(key), dict) else {} for key in ("data", "training", "reference")
    )
    dataset = DATASETS.get(str(data.get("name")))
    if dataset is None:
        return
    if data.get("revision") and data.get("path"):
        yield (
            ("data", "revision"),
            "data.revision is a commit on the Hub and data.path a folder: state one of them",
        )
    elif data.get("revision") and not dataset.repository:
        yield ("data", "revision"), f"data.revision: {data['name']} is embedded and has no revision"
    directions = dataset.directions
    for name, band in reference.items():
        if name in Reference.model_fields and name not in {*directions, "source"}:
            yield (
                ("reference", name),
                f"reference.{name}: {data['name']} is measured by {', '.join(directions)}",
            )
        if isinstance(band, list) and all(isinstance(n, int | float) for n in band) and band != sorted(band):
            yield ("reference", name), f"reference.{name}: a band is [lowest, highest], not {band}"
    best = training.get("metric_for_best_model")
    if isinstance(best, str):
        best = best.removeprefix("eval_")
        if best not in {*directions, "loss"}:
            path = ("training", "metric_for_best_model")
            yield path, f"training.metric_for_best_model: {_unknown(best, [*directions, 'loss'])}"
        elif training.get("greater_is_better", best != "loss") is not directions.get(best, False):
            must = str(directions.get(best, False)).lower()
            path = ("training", "greater_is_better")
            yield path, f"training.greater_is_better: must be {must} where the metric is {best}"


def _place(path: tuple, places: dict, file: Path) -> str:
    """The line or override that the nearest stated part of a path stands in."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), str(file))


def _explain(detail: dict, places: dict, file: Path) -> str:
    """One of pydantic's errors as one line: where, what was wrong, what was expected."""
    path = tuple(str(step) for step in detail["loc"])
    place = _place(path, places, file)
    key, given = ".".join(path), detail["input"]
    if detail["type"] == "extra_forbidden":
        reason = training_keys.REFUSED.get(path[-1])
        if reason and (path[0] == "training" or reason == training_keys.HARDWARE):
            return f"{place}: {key} does not belong in an experiment: {reason}"
        block = f" in {'.'.join(path[:-1])}" if path[1:] else ""
        return f"{place}: unknown key{block}: {_unknown(path[-1], _known(path[:-1]))}"
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
        near = difflib.get_close_matches(given, options, 1, 0.5)
        return f"{place}: {key}: expected {detail['ctx']['expected']}, not {given!r}" + (
            f"; did you mean {near[0]!r}?" if near else ""
        )
    return f"{place}: {key}: {detail['msg'].replace('Input should', 'should')}, not {given!r}"
