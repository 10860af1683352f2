"""Bounded reading of YAML into plain data, and a value as YAML writes it, for messages.

YAML lets a few lines stand for more data than a memory holds, and for data that contains itself. The bounds stop the
reading before that.
"""

import codecs
import json
import math
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

MAX_BYTES = 250_000  # ruamel reads about 100,000 bytes of brackets and commas in a second
MAX_DEPTH = 20  # levels of lists and mappings
MAX_VALUES = 100_000  # with each value counted as often as an alias repeats it
MAX_DIGITS = 18  # of a whole number: those of 64 bits
MAX_FLOAT = 40  # characters of another number
SHOWN = 60  # characters of a value in a message
_TAG = "tag:yaml.org,2002:"
_TOO_MUCH = "too much for an experiment"
_TOO_DEEP = f"{_TOO_MUCH}: nested more than {MAX_DEPTH} levels deep, or an alias refers to itself"


class Unreadable(ValueError):
    """A text that cannot be an experiment's: the message says why, `line` counts from 1 where it is known."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason)
        self.line = line


def read(file: Path) -> str:
    """The UTF-8 text of a regular file of at most MAX_BYTES.

    Raises:
        Unreadable: If the file is too large or another encoding's.
        OSError, ValueError: If there is none, or the system refuses it.
    """
    if str(file.absolute()).startswith(("/dev/std", "/dev/fd/", "/proc/")) or (file.exists() and not file.is_file()):
        raise Unreadable("is not a regular file (a pipe, a socket or a device); name a file that holds the experiment")
    with file.open("rb") as stream:
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise Unreadable(f"{_TOO_MUCH}: more than {MAX_BYTES:,} bytes in the file")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("is not UTF-8 text but UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 text ({error.reason} at byte {error.start})") from None


def parse(text: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The data of one YAML 1.2 document, and the line of each key and list entry by its path.

    Keys and dates are text as it is written. Aliases and `<<` are resolved, tags other than YAML's own are refused.

    Raises:
        Unreadable: If it is not valid YAML, or more than a bound allows.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth, yaml.composer.warn_double_anchors = MAX_DEPTH, False  # the last one counts
    try:
        node = yaml.compose(text)
    except MaxDepthExceededError as error:
        raise Unreadable(_TOO_DEEP, error.problem_mark.line + 1) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(f"not valid YAML: the character U+{error.character:04X} is not allowed", line) from None
    except MarkedYAMLError as error:
        problem = error.problem or error.context
        if problem.startswith("but "):  # it finishes the sentence that the context begins
            problem = f"{error.context}, {problem}"
        raise Unreadable(f"not valid YAML: {problem}", error.problem_mark and error.problem_mark.line + 1) from None
    except Exception:  # ruamel has no error of its own for, among others, an escape beyond Unicode
        raise Unreadable("not valid YAML") from None
    tree = _Tree(yaml.constructor)
    return (None if node is None else tree.build(node, ())), tree.lines


class _Tree:
    """Plain data from ruamel's nodes. An alias is the same node in several places, so all bounds are checked here."""

    def __init__(self, constructor: Any):
        self.constructor, self.lines, self.values = constructor, {}, 0

    def build(self, node: Node, path: tuple[str, ...], depth: int = 0) -> Any:
        line = node.start_mark.line + 1
        self.values += 1
        if self.values > MAX_VALUES:
            raise Unreadable(f"{_TOO_MUCH}: more than {MAX_VALUES:,} values, those that aliases repeat included", line)
        if depth > MAX_DEPTH:
            raise Unreadable(_TOO_DEEP, line)
        kind = str(node.tag).removeprefix(_TAG)
        if isinstance(node, MappingNode) and kind == "map":
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode) and kind == "seq":
            return [self._entry(value, (*path, str(number)), depth) for number, value in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node, kind, line)
        raise Unreadable(f"the tag {_tag(node)} is not known here", line)

    def _mapping(self, node: MappingNode, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        merged, own = {}, {}
        for key, value in sorted(node.value, key=lambda pair: str(pair[0].tag) != f"{_TAG}merge"):  # `<<` first
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise Unreadable("not valid YAML for an experiment: a key is a list or a mapping", line)
            if str(key.tag) == f"{_TAG}merge":
                blocks = value.value if isinstance(value, SequenceNode) else [value]
                if not all(isinstance(block, MappingNode) for block in blocks):
                    raise Unreadable("not valid YAML: << takes a mapping, or a list of them", line)
                for block in reversed(blocks):  # the first one wins
                    merged |= self.build(block, path, depth + 1)
                continue
            name = self._text(key.value, line)
            if name in own:
                raise Unreadable(f"not valid YAML: duplicate key {shorten(name)}", line)
            self.lines[(*path, name)] = line
            own[name] = self.build(value, (*path, name), depth + 1)
        return merged | own

    def _entry(self, node: Node, path: tuple[str, ...], depth: int) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.build(node, path, depth + 1)

    def _scalar(self, node: ScalarNode, kind: str, line: int) -> Any:
        if kind in ("str", "timestamp", "value", "merge"):
            return self._text(node.value, line)
        if kind not in ("null", "bool", "int", "float"):
            raise Unreadable(f"the tag {_tag(node)} is not known here", line)
        limit = {"int": MAX_DIGITS, "float": MAX_FLOAT}.get(kind)
        if limit and len(node.value.lstrip("+-")) > limit:
            raise Unreadable(f"{_TOO_MUCH}: a number of more than {limit} digits (text goes in quotes)", line)
        try:
            return self.constructor.construct_object(node)
        except (ValueError, KeyError, IndexError):  # `!!int x`
            raise Unreadable(f"not valid YAML: {shown(node.value)} is not what !!{kind} stands for", line) from None

    def _text(self, text: str, line: int) -> str:
        if any("\ud800" <= character <= "\udfff" for character in text):  # from an escape; no file can hold it
            raise Unreadable("not valid YAML: an escape is half of a character", line)
        return text


def _tag(node: Node) -> str:
    tag = str(node.tag)
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def shown(value: Any) -> str:
    """A value as YAML writes it in one line, shortened."""
    return shorten(_flow(value))


def shorten(text: str) -> str:
    """The text in one line of at most SHOWN characters."""
    line = "".join(character if character.isprintable() else "?" for character in text[: SHOWN + 1])
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."


def _flow(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return f"'{value}'" if value.isprintable() and "'" not in value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return str(value)
