"""Rows as JSON objects: one on each line, or all in an array."""

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from nutshell.data.readers.sources import BLOCK_BYTES, Source
from nutshell.data.readers.table import Table, kind, shown
from nutshell.machine.errors import UserError

SPACE = re.compile(r"[ \t\r\n]*")
LONGEST_WORD = 16  # characters of a number's or a word's beginning that more text may make whole, such as -Infinity

Rows = Iterator[tuple[str, dict[str, Any]]]


class _Twice(Exception):
    """A key that an object has twice."""


def json_lines_table(source: Source) -> Table:
    """A JSON object on each line; blank lines are no rows."""
    return _table(source.name, _of_lines(source.name, enumerate(source.lines("\n"), 1)))


def json_table(source: Source) -> Table:
    """An array of JSON objects, or JSON lines, as the first sign says."""
    text, row = source.lines("\n"), 1
    while (sign := text.read(1)) and SPACE.fullmatch(sign):
        row += sign == "\n"
    if sign == "[":
        return _table(source.name, _of_array(source.name, text))
    instead = "; a .json file holds an array of objects, or an object on each line"
    lines = enumerate(itertools.chain([sign + text.readline()], text), row)
    return _table(source.name, _of_lines(source.name, lines, instead))


def _table(name: str, rows: Rows) -> Table:
    place, first = next(rows, (f"{name}:", {}))
    return Table(place, [*first], itertools.chain([(place, first)] if first else [], rows))


def _of_lines(name: str, lines: Iterable[tuple[int, str]], instead: str = "") -> Rows:
    decoder = _decoder()
    for number, line in lines:
        if line.strip():
            place = f"{name}: row {number}:"
            yield place, _object(place, decoder.decode, line, instead=instead)


def _of_array(name: str, stream: TextIO) -> Rows:
    """The objects of an array whose bracket was read, in memory for a block or the longest of them."""
    decoder, text, at = _decoder(), "", 0

    def more() -> bool:
        nonlocal text, at
        block = stream.read(max(BLOCK_BYTES, len(text) - at))
        text, at = text[at:] + block, 0
        return bool(block)

    def sign() -> str:
        nonlocal at
        while (at := SPACE.match(text, at).end()) == len(text) and more():
            pass
        return text[at : at + 1]

    def element() -> Any:
        nonlocal at
        while True:
            try:
                value, at = decoder.raw_decode(text, at)
                return value
            except json.JSONDecodeError as error:
                fault = json.JSONDecodeError(error.msg, text[at:], max(0, error.pos - at))
                cut_off = "Unterminated" in error.msg or len(text) - error.pos < LONGEST_WORD
                if not cut_off or not more():
                    raise fault from None

    for number in itertools.count(1):
        place, found = f"{name}: row {number}:", sign()
        if number > 1 and found == ",":
            at += 1
            sign()
        elif found == "]":
            break
        elif number > 1:
            end = "a comma or a closing bracket" if found else "the array's closing bracket, but the file ends here"
            raise UserError(f"{name}: row {number - 1}: not valid JSON: expected {end} after it")
        yield place, _object(place, element)
    at += 1
    if sign():
        raise UserError(f"{name}: has text after the array's closing bracket")


def _decoder() -> json.JSONDecoder:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            raise _Twice(next(key for key in keys if keys.count(key) > 1))
        return row

    return json.JSONDecoder(object_pairs_hook=unique)


def _object(place: str, parse: Callable[..., Any], *text: str, instead: str = "") -> dict[str, Any]:
    """The object that was parsed, whose keys are all different."""
    try:
        row = parse(*text)
    except _Twice as error:
        raise UserError(f"{place} has the key {shown(error.args[0])} twice in one object") from None
    except RecursionError:
        raise UserError(f"{place} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{place} not valid JSON: {error.msg} (character {error.pos + 1}){instead}") from None
    except ValueError:  # Python's own limit
        raise UserError(f"{place} has a number of more than {sys.get_int_max_str_digits():,} digits") from None
    if not isinstance(row, dict):
        raise UserError(f"{place} is {kind(row)}, expected an object with columns")
    if not row:
        raise UserError(f"{place} is an object without columns")
    return row
