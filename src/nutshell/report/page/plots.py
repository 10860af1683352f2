"""Curves, histograms and intervals as SVG that takes its colours from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from nutshell.report.page.texts import short

WIDTH, HEIGHT = 320, 200  # of a plot, in CSS pixels
TOP, BOTTOM, RIGHT = 10, 42, 14  # around what is drawn; at the left as much as the numbers need
DIGIT_WIDTH = 8  # of a tick's number at 13 pixels, at most
STRIP_WIDTH, STRIP_HEIGHT = 140, 16
MOST_POINTS, LEAST_POINTS, ALL_POINTS = 300, 40, 450  # of a line, and of all lines of a plot
DASHES = ("", "7 3", "2 3", "8 3 2 3", "12 4", "4 2 1 2 1 2")  # a seed is told by its dashes as well as by its shade
SHADES = 4  # for seeds: --c0 to --c3 of training, --c4 to --c7 of validation


@dataclass(frozen=True)
class Line:
    """One seed's line.

    Attributes:
        points: (step, value), in order of the steps.
        seed: Which one, from 0: the same dashes in every plot of an experiment.
        validation: Whether it is of the validation part: in other colours, and each point has a dot.
    """

    points: Sequence[tuple[float, float]]
    seed: int
    validation: bool = False

    @property
    def style(self) -> str:
        """How it is drawn."""
        dashes = DASHES[self.seed % len(DASHES)]
        return f"fill:none;stroke:{self._colour};stroke-width:1.6" + f";stroke-dasharray:{dashes}" * bool(dashes)

    @property
    def mark_style(self) -> str:
        """How its points are drawn, as lines of no length."""
        ends = "round" if self.validation else "square"
        return f"fill:none;stroke:{self._colour};stroke-width:6;stroke-linecap:{ends}"

    @property
    def _colour(self) -> str:
        return f"var(--c{self.seed % SHADES + SHADES * self.validation})"


def curves(lines: Sequence[Line], label: str) -> Markup:
    """Values over steps, a line for each seed; `label` is what a screen reader says."""
    most = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // len(lines)))
    points = [point for line in lines for point in line.points]
    frame = _Frame([step for step, _ in points], _apart([value for _, value in points], 0.04), "step")
    for line in lines:
        places = [frame.place(*point) for point in thinned(line.points, most)]
        frame.draw(f'<polyline points="{" ".join(places)}" style="{line.style}"/>')
        if line.validation or len(places) == 1:
            marks = "".join(f"M{place}h0" for place in places)
            frame.draw(f'<path d="{marks}" style="{line.mark_style}"/>')
    return frame.svg(label)


def histogram(
    edges: Sequence[float], counts: Sequence[int], limit: float | None, limit_name: str, label: str
) -> Markup:
    """Counts between edges, and a line at the limit with its name."""
    top = max(*counts, 1)
    frame = _Frame([*edges, *([] if limit is None else [limit])], (0, 1.12 * top), "", whole_values=True)
    corners = [(edges[0], 0)]
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        corners += [(left, count), (right, count)]
    places = " ".join(frame.place(*corner) for corner in [*corners, (edges[-1], 0)])
    frame.draw(f'<polygon points="{places}" style="fill:var(--c0);opacity:.5"/>')
    if limit is not None:
        (x, y), low = frame.pixels(limit, 1.12 * top), frame.pixels(limit, 0)[1]
        frame.draw(f'<path d="M{x:.1f} {low:.1f}V{y:.1f}" style="{stroke("mark", 1.6)};stroke-dasharray:5 3"/>')
        end, away = ("end", -4) if x > WIDTH / 2 else ("start", 4)
        frame.text(x + away, y + 10, f"{limit_name} {limit:g}", end, "fill:var(--mark)")
    return frame.svg(label)


def strip(
    value: float,
    interval: Sequence[float] | None,
    label: str,
    band: Sequence[float] | None = None,
    baseline: float | None = None,
) -> Markup | None:
    """A value as a dot with its interval as a line, on the published band and next to a baseline, each where there is
    one; None where all that is the same number. `label` is what a screen reader says."""
    numbers = [value, *(interval or ()), *(band or ()), *([] if baseline is None else [baseline])]
    low, high = min(numbers), max(numbers)
    if not 0 < high - low < math.inf:
        return None

    def at(number: float) -> float:
        return round(6 + (STRIP_WIDTH - 12) * (number - low) / (high - low), 1)

    parts, middle = [], STRIP_HEIGHT / 2
    if band:
        box = f'x="{at(band[0])}" y="1" width="{at(band[1]) - at(band[0]):.1f}" height="{STRIP_HEIGHT - 2}"'
        parts.append(f'<rect {box} style="fill:var(--band);stroke:var(--muted);stroke-width:.8"/>')
    if baseline is not None:
        style = f"{stroke('mark', 2.5)};stroke-dasharray:3 2"
        parts.append(f'<path d="M{at(baseline)} 0V{STRIP_HEIGHT}" style="{style}"/>')
    if interval:
        left, right = map(at, interval)
        ends = "".join(f"M{end} {middle - 4}v8" for end in (left, right))
        parts.append(f'<path d="M{left} {middle}H{right}{ends}" style="{stroke("ink", 1.8)}"/>')
    parts.append(f'<path d="M{at(value)} {middle}h0" style="{stroke("ink", 7)};stroke-linecap:round"/>')
    return svg_of(STRIP_WIDTH, STRIP_HEIGHT, label, parts)


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many points, the lowest and the highest of each stretch among them, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, (most - 2) // 2)
    kept = {0, len(points) - 1}
    for number in range(stretches):
        stretch = range(len(points) * number // stretches, len(points) * (number + 1) // stretches)
        kept |= {min(stretch, key=lambda at: points[at][1]), max(stretch, key=lambda at: points[at][1])}
    return [points[at] for at in sorted(kept)]


class _Frame:
    """A plot's axes with their numbers, and what is drawn into it.

    Args:
        xs: All of them; whole numbers, with whole ticks.
        ys: The lowest and the highest.
        under: What the x axis is.
        whole_values: Whether y has whole ticks only.
    """

    def __init__(self, xs: Sequence[float], ys: tuple[float, float], under: str, whole_values: bool = False):
        (self.left, right), (self.low, high) = _apart(xs, 0), ys
        rows = _ticks(self.low, high, 5, whole_values)
        self.x = 12 + DIGIT_WIDTH * max((len(label) for _, label in rows), default=0)
        self.x_scale = (WIDTH - RIGHT - self.x) / (right - self.left)
        self.y_scale = (HEIGHT - TOP - BOTTOM) / (high - self.low)
        self.parts = []
        for value, label in rows:
            y = self.pixels(self.left, value)[1]
            self.draw(f'<path d="M{self.x} {y:.1f}H{WIDTH - RIGHT}" style="{stroke("line", 0.8)}"/>')
            self.text(self.x - 5, y + 4, label, "end")
        columns = _ticks(self.left, right, 4, True)
        if DIGIT_WIDTH * sum(len(label) + 1 for _, label in columns) > WIDTH - self.x:
            columns = columns[::2]
        for value, label in columns:
            half = DIGIT_WIDTH * len(label) / 2
            self.text(min(self.pixels(value, self.low)[0], WIDTH - half), HEIGHT - 26, label, "middle")
        base = HEIGHT - BOTTOM
        self.draw(f'<path d="M{self.x} {base}H{WIDTH - RIGHT}" style="{stroke("muted", 0.8)}"/>')
        self.text((self.x + WIDTH - RIGHT) / 2, HEIGHT - 7, under, "middle")

    def pixels(self, x: float, y: float) -> tuple[float, float]:
        """Where that is."""
        return self.x + (x - self.left) * self.x_scale, HEIGHT - BOTTOM - (y - self.low) * self.y_scale

    def place(self, x: float, y: float) -> str:
        """Where that is, in words of SVG."""
        return ",".join(f"{number:.1f}".removesuffix(".0") for number in self.pixels(x, y))

    def draw(self, element: str) -> None:
        """Adds an element, over those before it."""
        self.parts.append(element)

    def text(self, x: float, y: float, words: str, anchor: str, style: str = "") -> None:
        """Adds text whose start, middle or end is at x."""
        self.draw(text(x, y, words, anchor, style))

    def svg(self, label: str) -> Markup:
        """The plot."""
        return svg_of(WIDTH, HEIGHT, label, self.parts)


def _ticks(low: float, high: float, most: int, whole: bool) -> list[tuple[float, str]]:
    """Round numbers from low to high, at most so many steps apart, and how each is written."""
    size = (high - low) / most * (1 - 1e-9)
    power = 10.0 ** math.floor(math.log10(size))
    factors = (1, 2, 5, 10) if whole and power < 10 else (1, 2, 2.5, 5, 10)
    step = next(power * factor for factor in factors if power * factor >= size)
    step = max(1, step) if whole else step
    digits = max(6, math.ceil(math.log10(max(abs(low), abs(high)) / step)) + 2)
    values = [step * number + 0.0 for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, f"{value:,.0f}" if whole and abs(value) < 1e7 else f"{value:.{digits}g}") for value in values]


def _apart(values: Sequence[float], margin: float) -> tuple[float, float]:
    """The lowest and the highest, a little further apart, and never the same."""
    low, high = min(values), max(values)
    more = margin * (high - low) or (abs(high) or 1) * 0.1 * (low == high)
    return low - more, high + more


def text(x: float, y: float, words: str, anchor: str, style: str = "") -> str:
    """Text whose start, middle or end is at x."""
    how = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"' + f' style="{style}"' * bool(style)
    return f"<text {how}>{escape(short(words, 40))}</text>" * bool(words)


def stroke(colour: str, width: float) -> str:
    """How a line is drawn in one of the page's colours."""
    return f"fill:none;stroke:var(--{colour});stroke-width:{width:g}"


def svg_of(width: int, height: int, label: str, parts: Sequence[str]) -> Markup:
    """A drawing of these elements; `label` is what a screen reader says."""
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(short(label))}">'
    return Markup(head + "".join(parts) + "</svg>")
