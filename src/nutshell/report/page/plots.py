"""Curves, histograms and intervals, drawn by matplotlib -> SVG that takes its colours from the page's style sheet."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, BboxTransform, IdentityTransform

WIDTH, HEIGHT = 320, 200  # of a plot, in CSS pixels, which are matplotlib's points here
STRIP_WIDTH, STRIP_HEIGHT = 140, 16
DOT, LETTERS = 5, 13  # how wide, how high
MOST_POINTS, LEAST_POINTS, ALL_POINTS = 300, 40, 450  # of a line, and of all lines of a plot
DASHES = ("", "7 3", "2 3", "8 3 2 3", "12 4", "4 2 1 2 1 2")  # a seed is told by its line as well as by its colour
COLOURS = 8
# matplotlib is given these, and the style sheet's names are put in their place.
INK, MUTED, GRID, BAND, MARK = (f"#0{number}0{number}0{number}" for number in range(1, 6))
LINES = [f"#0a0a0{number}" for number in range(COLOURS)]
NAMES = dict(zip((INK, MUTED, GRID, BAND, MARK), ("ink", "muted", "line", "band", "mark"), strict=True)) | {
    colour: f"c{number}" for number, colour in enumerate(LINES)
}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "nutshell", "text.parse_math": False, "lines.scale_dashes": False}
NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class Line:
    """One seed's line.

    Attributes:
        points: (step, value), in order of the steps.
        number: Which seed, from 0: the same colour and dashes in every plot of an experiment.
        marked: Whether each point carries a dot.
    """

    points: Sequence[tuple[float, float]]
    number: int
    marked: bool = False


def colour(number: int) -> str:
    """The style sheet's name of a seed's colour."""
    return f"c{number % COLOURS}"


def dashes(number: int) -> str:
    """A seed's line as SVG's stroke-dasharray; empty if it is solid."""
    return DASHES[number % len(DASHES)]


@matplotlib.rc_context(STYLE)
def curves(lines: Sequence[Line], said: str) -> Markup:
    """Values over steps, a line for each seed; `said` is what a screen reader says of it."""
    most = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // max(1, len(lines))))
    every = [point for line in lines for point in line.points]
    frame = _Frame([step for step, _ in every], [value for _, value in every], "step")
    for line in lines:
        points = thinned(line.points, most)
        pattern = [float(length) for length in dashes(line.number).split()]
        frame.line(
            *zip(*points, strict=True),
            color=LINES[line.number % COLOURS],
            linestyle=(0, pattern) if pattern else "-",
            linewidth=1.6,
            marker="o" if line.marked or len(points) == 1 else None,
        )
    return _svg(frame.figure, said)


@matplotlib.rc_context(STYLE)
def histogram(edges: Sequence[float], counts: Sequence[float], limit: float | None, cut: str, said: str) -> Markup:
    """Counts between edges, and a line at the limit, named `cut`."""
    top = max(*counts, 1) * 1.12
    frame = _Frame([*edges, *([] if limit is None else [limit])], [0, top], "tokens", margin=0)
    bars = StepPatch(counts, edges, facecolor=LINES[0], alpha=0.5, linewidth=0, transform=frame.transform)
    frame.figure.add_artist(bars)
    if limit is not None:
        frame.line([limit, limit], [0, top], color=MARK, linewidth=1.6, linestyle=(0, (5, 3)))
        x, y = frame.transform.transform((limit, top))
        side, away = ("right", -4) if x > WIDTH / 2 else ("left", 4)
        frame.text(x + away, y, f"{cut} {limit:g}", MARK, ha=side, va="top")
    return _svg(frame.figure, said)


@matplotlib.rc_context(STYLE)
def strip(
    value: float, interval: Sequence[float] | None, said: str, band: Sequence[float] | None = None, reach: float = 0
) -> Markup | None:
    """A value with its interval on the published band, or beside zero; None where something is not finite.

    Args:
        value: The dot.
        interval: The line through it, if there is one.
        said: What a screen reader says of it.
        band: Lowest and highest published.
        reach: Without a band: how far the scale reaches on both sides of zero.
    """
    shown = [value, *(interval or ()), *(band or (-reach, reach))]
    if not all(map(math.isfinite, shown)) or max(shown) - min(shown) > 1e100 or max(shown) == min(shown):
        return None
    low, high = min(shown), max(shown)
    figure = Figure(figsize=(STRIP_WIDTH / 72, STRIP_HEIGHT / 72), dpi=72)
    figure.patch.set_visible(False)
    middle, pixels = STRIP_HEIGHT / 2, IdentityTransform()

    def at(number: float) -> float:
        return 6 + (STRIP_WIDTH - 12) * (number - low) / (high - low)

    def line(xs: list[float], ys: list[float], colour: str, width: float, **how) -> None:
        figure.add_artist(Line2D(xs, ys, color=colour, linewidth=width, transform=pixels, **how))

    if band:
        size = {"width": at(band[1]) - at(band[0]), "height": STRIP_HEIGHT - 2}
        box = Rectangle((at(band[0]), 1), **size, facecolor=BAND, edgecolor=MUTED, linewidth=0.8, transform=pixels)
        figure.add_artist(box)
    else:
        line([at(0), at(0)], [0, STRIP_HEIGHT], MUTED, 1)
    if interval:
        left, right = map(at, interval)
        line([left, right], [middle, middle], INK, 2)
        for end in (left, right):
            line([end, end], [middle - 4, middle + 4], INK, 1.5)
    line([at(value)] * 2, [middle] * 2, INK, 7, solid_capstyle="round")
    return _svg(figure, said)


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
    """A figure with ticks, made of lines and texts: matplotlib's Axes take three times as long."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], under: str, margin: float = 0.04):
        self.figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        self.figure.patch.set_visible(False)
        (left, right), (low, high) = _ends(xs, 0), _ends(ys, margin)
        inside = Bbox.from_extents(56, 42, WIDTH - 14, HEIGHT - 10)
        self.transform = BboxTransform(Bbox.from_extents(left, low, right, high), inside)
        ticks = MaxNLocator(4).tick_values
        for value in (value for value in ticks(low, high) if low <= value <= high):
            self.line([left, right], [value, value], color=GRID, linewidth=0.8)
            self.text(51, self.transform.transform((left, value))[1], f"{value + 0.0:g}", ha="right", va="center")
        for value in (value for value in ticks(left, right) if left <= value <= right):
            self.text(self.transform.transform((value, low))[0], 27, f"{value + 0.0:g}", ha="center")
        self.line([left, right], [low, low], color=MUTED, linewidth=0.8)
        self.text(inside.x0 + inside.width / 2, 8, under, ha="center")

    def line(self, xs: Sequence[float], ys: Sequence[float], **how) -> None:
        """Through places of the data."""
        self.figure.add_artist(Line2D(xs, ys, transform=self.transform, **how))

    def text(self, x: float, y: float, words: str, colour: str = MUTED, **how) -> None:
        """At a place in pixels."""
        self.figure.text(x, y, words, color=colour, fontsize=LETTERS, transform=IdentityTransform(), **how)


def _ends(values: Sequence[float], margin: float) -> tuple[float, float]:
    """The lowest and the highest, a little further apart, and never the same."""
    low, high = min(values), max(values)
    more = margin * (high - low) or (abs(high) or 1) * 0.1 * (low == high)
    return low - more, high + more


def _svg(figure: Figure, said: str) -> Markup:
    """The figure as an SVG element to stand in HTML, with nothing in it that the page does not need."""
    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata=NOTHING)
    width, height = (72 * inches for inches in figure.get_size_inches())
    unneeded = r"\A.*?<svg[^>]*>|</svg>\s*\Z|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>"
    text = re.sub(unneeded, "", stream.getvalue(), flags=re.S)
    text = _without_references(text)
    text = re.sub(r"font-size: (\S+?)px; font-family: [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font: (\S+?)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d+", _rounded, tag[0]), text)
    text = re.sub(r' d="([^"]*)"', lambda found: f' d="{_path(found[1])}"', text)
    text = re.sub(r"#[0-9a-f]{6}", lambda found: f"var(--{NAMES[found[0]]})" if found[0] in NAMES else found[0], text)
    text = re.sub(r"(?<=[;:]) ", "", text)
    while (shorter := re.sub(r"<g>\s*</g>|<g/>|<defs>\s*</defs>|<defs/>|\n\s*(?=<)", "", text)) != text:
        text = shorter
    while (shorter := re.sub(r"<g>((?:(?!</?g\b).)*)</g>", r"\1", text, flags=re.S)) != text:
        text = shorter
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, said, Markup(text)
    )


def _rounded(number: re.Match) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _without_references(text: str) -> str:
    """Dots in the place of references to them, and no ids: a page holds many drawings, and an id only once."""
    text = re.sub(r"<defs>.*?</defs>", "", text, flags=re.S)
    text = re.sub(r"(?:<use [^>]*/>\s*)+", lambda found: _dots(found[0]), text)
    return re.sub(r' (?:id|clip-path)="[^"]*"', "", text)


def _dots(uses: str) -> str:
    """One path for all dots of a line: a line of no length with round ends is a dot."""
    places = re.findall(r' x="([^"]*)" y="([^"]*)"', uses)
    colour = re.search(r"stroke: (#\w+)", uses)[1]
    data = " ".join(f"M {x} {y} h 0" for x, y in places)
    return f'<path d="{data}" style="fill:none; stroke: {colour}; stroke-width: {DOT}; stroke-linecap: round"/>'


def _path(data: str) -> str:
    """The same path with fewer letters: a line's letter L holds until another one comes."""
    words: list[str] = []
    letter = ""
    for word in data.split():
        if word.isalpha() and word == letter == "L":
            continue
        letter = word if word.isalpha() else letter
        words.append(word)
    return re.sub(r" ?([A-Za-z]) ?", r"\1", " ".join(words)).replace(" -", "-")
