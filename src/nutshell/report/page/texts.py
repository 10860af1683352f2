"""Text from data as a page can show it: cut to a length, with what nobody sees made visible."""

import re

DIRECTIONS = {True: "↑ higher is better", False: "↓ lower is better", None: ""}
SURPRISES_NATS = (0.5, 2, 4, 7)  # where a piece's shade changes
MOST_LETTERS = 600  # of a text from data, unless it says otherwise
# What a browser would hide, reorder by or choke on: control characters, marks and overrides of direction, line and
# paragraph separators, halves of a surrogate pair (JSON can hold them), noncharacters. Joiners stay: emoji and some
# scripts are written with them.
UNSEEN = re.compile(
    "\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The same text with each unseen character named: ␀ for NUL, ⟨U+202E⟩ for what has no picture."""
    return UNSEEN.sub(_name, text)


def _name(match: re.Match) -> str:
    if match[0] == "\r\n":
        return "\n"
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def surprise(nats: float) -> int:
    """The shade of a piece, from 0 to 4: the more, the more it surprised the model."""
    return sum(nats >= threshold for threshold in SURPRISES_NATS)


def short(text: str, most: int = MOST_LETTERS) -> str:
    """The text, or its beginning and how much more there is."""
    if len(text) <= most:
        return text
    return f"{text[:most]} … ({len(text) - most:,} more characters)"


def count(value: float | None, unit: str = "") -> str:
    """A count or a speed in three figures at least: 1,253, 12.4, 0.52; empty if it is none."""
    if value is None:
        return ""
    shown = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{shown} {unit}".strip()
