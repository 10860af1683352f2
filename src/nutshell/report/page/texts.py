"""Text from data as a page can show it: cut to a length, with what nobody sees made visible."""

import math
import re
from pathlib import Path
from typing import Any

# What a browser would hide, reorder by or choke on: control characters, marks and overrides of direction, line and
# paragraph separators, halves of a surrogate pair (JSON can hold them), noncharacters. Joiners stay: emoji and some
# scripts are written with them.
UNSEEN = re.compile(
    "\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The same text with each unseen character named: ␀ for NUL, ⟨U+202E⟩ for what has no picture."""
    return UNSEEN.sub(_named, text)


def _named(found: re.Match) -> str:
    if found[0] == "\r\n":
        return "\n"
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def short(text: Any, most: int) -> str:
    """The text, or its beginning and how much more there is."""
    text = text if isinstance(text, str) else str(text)
    if len(text) <= most:
        return text
    return f"{text[:most]} … ({len(text) - most:,} more characters)"


def number(value: Any) -> float | None:
    """A finite number, or None: files are written by hand, too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e100 else None


def pair(value: Any) -> tuple[float, float] | None:
    """Two finite numbers, the lower first, or None."""
    if not isinstance(value, list | tuple) or len(value) != 2 or None in (found := [*map(number, value)]):
        return None
    return min(found), max(found)


def rate(value: Any, unit: str = "") -> str:
    """A count or a speed in three figures at least: 1,253, 12.4, 0.52; empty if it is none."""
    found = number(value)
    if found is None:
        return ""
    shown = f"{found:,.0f}" if abs(found) >= 100 or found == int(found) else f"{found:.3g}"
    return f"{shown} {unit}".strip()


def named(value: Any) -> dict[str, Any]:
    """A mapping, empty where there is none."""
    return value if isinstance(value, dict) else {}


def place(path: Path) -> str:
    """A path, from the current folder if it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
