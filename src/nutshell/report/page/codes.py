"""The whole price of a text: its code and the model that decodes it, for every model and compressor."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from scipy import stats

from nutshell.bits.figures.codes import Code, break_even_bytes, by_text
from nutshell.report.page import plots
from nutshell.report.results.runs import settings
from nutshell.report.results.summary import Series

MOST_ORDERED = 6  # models whose orders are all looked at
LONG_BYTES = 10**9  # the length that no code was made of
WIDTH, HEIGHT = 420, 310  # of a plane, in CSS pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 44  # around what is drawn
WITHOUT = 98  # the strip of codes that need no weights, with their names
LINE = 14  # between two names
MOST_TICKS = 5  # of the x axis; every second one where there would be more
FACTORS, DENSE = (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)  # of the powers of ten that have a line; where few are in sight
KINDS = {
    "compressor": ("circle", "--muted"),
    "model": ("square", "--c0"),
    "prequential": ("diamond", "--c4"),
}


def content(every: Sequence[Series]) -> list[dict[str, Any]]:
    """What the page shows of each text that experiments have codes of: a plane for each length, with the codes' bytes
    and the models' bytes as its axes, and which total is the shortest."""
    texts = []
    for name, lengths in by_text(code for series in every if series.summary for code in series.summary.codes).items():
        planes = [[code for code in alike if code.code_bytes is not None] for alike in lengths]
        planes = [(alike, False) for alike in planes if alike]
        if not planes:
            continue
        longest = {code.name: code for alike, _ in planes for code in alike}
        planes.append((by_text(code.scaled(LONG_BYTES) for code in longest.values())[name][0], True))
        texts.append(
            {
                "name": name,
                "planes": [_plane(codes, arithmetic) for codes, arithmetic in planes],
                "rows": [_row(codes, arithmetic) for codes, arithmetic in planes],
                "turns": _turns(planes[-1][0]),
                "failed": sorted({code.name for alike in lengths for code in alike if code.code_bytes is None}),
            }
        )
    return texts


def against_accuracy(every: Sequence[Series]) -> list[dict[str, Any]]:
    """Whether models that code a text more briefly make better classifiers of its kind: for each way of making them the
    models of which both is known, at the length of text that most of them have coded."""
    coded: dict[tuple[str, int], dict[str, Code]] = {}
    ways: dict[tuple, dict[str, float]] = {}
    for summary in (series.summary for series in every if series.summary):
        blocks = [summary.resolved.get(name) for name in ("model", "data")]
        model, data = (block.get("name") if isinstance(block, dict) else None for block in blocks)
        for code in (code for code in summary.codes if code.weights and code.code_bytes):
            coded.setdefault((code.text, code.text_bytes), {})[model] = code
        if (accuracy := summary.metrics.get("accuracy")) and accuracy.mean is not None:
            others = tuple((key, str(value)) for key, value in settings(summary.resolved) if key != "model.name")
            ways.setdefault((data, others), {})[model] = accuracy.mean
    figures = []
    for (data, _), accuracies in ways.items():
        lengths = [key for key in coded if key[0].split(",")[0] == data]
        both = {key: coded[key].keys() & accuracies.keys() for key in lengths}
        text, size = max(both, key=lambda key: (len(both[key]), key[1]), default=("", 0))
        if len(both.get((text, size), ())) > 1:
            codes = {model: coded[text, size][model] for model in both[text, size]}
            points = sorted((code.bits_per_byte, accuracies[model], _label(code)) for model, code in codes.items())
            label = f"accuracy over bits per byte of {size_of(size)} of {text}"
            svg = plots.scatter(points, "bits per byte", label)
            figures.append({"caption": label, "note": _agreement(points), "svg": svg})
    return figures


def _agreement(points: Sequence[tuple[float, float, str]]) -> str:
    """How well two orders agree: Spearman's correlation, and how often one drawn by lot is as far from 0."""
    bits, accuracies = [point[0] for point in points], [point[1] for point in points]
    if len(points) < 3 or len({*bits}) < 2 or len({*accuracies}) < 2:
        return f"{len(points)} models, too few to speak of a correlation"
    value, chance = stats.spearmanr(bits, accuracies)
    if len(points) <= MOST_ORDERED:
        orders = [stats.spearmanr(bits, order)[0] for order in itertools.permutations(accuracies)]
        chance = sum(abs(order) > abs(value) - 1e-9 for order in orders) / len(orders)
    few = "; too few models to tell it from chance" * bool(chance > 0.05)
    return f"rank correlation {value:.2f} over {len(points)} models, p = {chance:.2g}{few}"


def _label(code: Code) -> str:
    return code.name.split(",")[0]


def size_of(count: float) -> str:
    """Bytes in three figures, 1 kB being 1,000 of them."""
    power = min(3, max(0, math.floor(math.log10(max(count, 1) * 1.0005) / 3)))
    return f"{count / 1000**power:.{3 if count / 1000**power < 999.5 else 4}g} {('bytes', 'kB', 'MB', 'GB')[power]}"


def _row(codes: Sequence[Code], arithmetic: bool) -> dict[str, Any]:
    """The winners of one length."""
    alone = min(codes, key=lambda code: code.code_bytes)
    without = next((code for code in codes if not code.model_bytes), None)
    shown = [None if code is None else (code.name, size_of(code.total_bytes)) for code in (codes[0], without)]
    length = size_of(codes[0].text_bytes) + ", by arithmetic" * arithmetic
    return {"length": length, "alone": (alone.name, size_of(alone.code_bytes)), "total": shown[0], "without": shown[1]}


def _turns(codes: Sequence[Code]) -> list[str]:
    """From which length on each model pays for its weights, against the shortest code that needs none."""
    without = [code for code in codes if not code.model_bytes]
    if not without:
        return []
    sentences = []
    for model in (code for code in codes if code.model_bytes):
        length = break_even_bytes(model, without[0])
        when = f"from {size_of(length)} of text on" if length is not None else "never: its code alone is not shorter"
        sentences.append(f"{model.name} against {without[0].name}: {when}")
    return sentences


def _plane(codes: Sequence[Code], arithmetic: bool) -> dict[str, Any]:
    best, length = codes[0], size_of(codes[0].text_bytes)
    note = f"shortest total: {best.name}, {size_of(best.total_bytes)}" + "; by arithmetic, not coded" * arithmetic
    label = f"{length} of text: bytes of the code over bytes of the model; {note}"
    return {"caption": f"{length} of text", "note": note, "svg": _Plane(codes).svg(label)}


class _Plane:
    """Both axes are logarithmic; what needs no weights is in a strip of its own at the left."""

    def __init__(self, codes: Sequence[Code]):
        self.parts: list[str] = []
        weights = [size for code in codes for size in code.model_bytes.values()] or [10**6]
        self.x_ends = 10 ** math.floor(math.log10(min(weights))), 10 ** math.ceil(math.log10(1.2 * max(weights)))
        heights = [code.code_bytes for code in codes]
        self.y_ends = 0.87 * min(heights), 1.15 * max(heights)
        self._axes()
        self._totals(codes[0])
        self._without([code for code in codes if not code.model_bytes])
        models: dict[str, list[Code]] = {}
        for code in codes:
            if code.model_bytes:
                models.setdefault(_label(code), []).append(code)
        for alike in models.values():
            self._model(alike)

    def svg(self, label: str) -> Markup:
        """The drawing."""
        return plots.svg_of(WIDTH, HEIGHT, label, self.parts)

    def _x(self, size: float) -> float:
        low, high = map(math.log, self.x_ends)
        start = LEFT + WITHOUT
        return start + (WIDTH - RIGHT - start) * (math.log(size) - low) / (high - low)

    def _y(self, size: float) -> float:
        low, high = map(math.log, self.y_ends)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (math.log(size) - low) / (high - low)

    def _axes(self) -> None:
        base, start = HEIGHT - BOTTOM, LEFT + WITHOUT
        self.parts.append(
            f'<rect x="{LEFT}" y="{TOP}" width="{WITHOUT}" height="{base - TOP}" style="fill:var(--soft)"/>'
        )
        lines = f"M{LEFT} {TOP}V{base}H{WIDTH - RIGHT}M{start} {TOP}V{base}"
        self.parts.append(f'<path d="{lines}" style="{plots.stroke("muted", 0.8)}"/>')
        for size in _round(*self.y_ends, factors=DENSE if self.y_ends[1] < 12 * self.y_ends[0] else FACTORS):
            self._text(LEFT - 5, self._y(size) + 4, size_of(size), "end")
        powers = _round(*self.x_ends, factors=(1,))
        for size in powers[:: 1 + (len(powers) > MOST_TICKS)]:
            anchor = {self.x_ends[0]: "start", self.x_ends[1]: "end"}.get(size, "middle")
            self._text(self._x(size) + RIGHT * (anchor == "end"), base + 16, size_of(size), anchor)
        self._text(LEFT, base + 16, "no model", "start")
        self._text((start + WIDTH - RIGHT) / 2, HEIGHT - 8, "model", "middle")
        self._text(LEFT + 2, HEIGHT - 8, "↑ code", "start")

    def _totals(self, best: Code) -> None:
        """Lines of equal totals, and that of the shortest one."""
        highest = self.x_ends[1] + self.y_ends[1]
        for total in _round(self.y_ends[0], highest, factors=(1,) if highest > 1e3 * self.y_ends[0] else FACTORS):
            self._line(total, f"{plots.stroke('line', 1)};stroke-dasharray:4 3")
        self._line(best.total_bytes, plots.stroke("mark", 1.6))

    def _line(self, total: float, style: str) -> None:
        """weights + code = total, as far as that is in the plane; without weights the code is the total."""
        if self.y_ends[0] <= total <= self.y_ends[1]:
            self.parts.append(f'<path d="M{LEFT} {self._y(total):.1f}h{WITHOUT}" style="{style}"/>')
        least = max(self.x_ends[0], total - self.y_ends[1])
        most = min(self.x_ends[1], total - self.y_ends[0])
        if least >= most:
            return
        ratio, left = most / least, (total - most) / (total - least)
        sizes = [least * ratio ** (step / 60) for step in range(61)]  # dense where it is flat, and where it is steep
        sizes += [total - (total - least) * left ** (step / 60) for step in range(1, 60)]
        places = " ".join(f"{self._x(size):.1f},{self._y(total - size):.1f}" for size in sorted(sizes))
        self.parts.append(f'<polyline points="{places}" style="{style}"/>')

    def _without(self, codes: Sequence[Code]) -> None:
        """Their points at the left edge, their names next to them and never over each other."""
        codes = sorted(codes, key=lambda code: self._y(code.code_bytes))
        names = [code.name.split()[0].strip(",") for code in codes]
        names = [name if names.count(name) == 1 else code.name for name, code in zip(names, codes, strict=True)]
        ys = [self._y(code.code_bytes) for code in codes]
        for code, name, y, place in zip(codes, names, ys, _spread(ys, TOP + 6, HEIGHT - BOTTOM - 6), strict=True):
            self.parts.append(
                f'<path d="M{LEFT + 6} {y:.1f}L{LEFT + 17} {place:.1f}" style="{plots.stroke("muted", 0.6)}"/>'
            )
            self._mark(LEFT, y, code)
            self._text(LEFT + 19, place + 4, name[:12], "start", code)

    def _model(self, codes: Sequence[Code]) -> None:
        """A model's code, marked and named, with ticks at its weights in other forms; where it has coded in several of
        them, their curve."""
        code, name = min(codes, key=lambda one: one.sent_bytes), _label(codes[0])
        x, y = self._x(code.sent_bytes), self._y(code.code_bytes)
        points = sorted((self._x(one.sent_bytes), self._y(one.code_bytes)) for one in codes)
        ends = ""
        if len(codes) == 1:
            points = [(one, y) for one in sorted(self._x(size) for size in code.model_bytes.values())]
            ends = "".join(f"M{one:.1f} {y - 3:.1f}v6" for one, _ in points)
        line = "L".join(f"{one:.1f} {height:.1f}" for one, height in points)
        self.parts.append(f'<path d="M{line}{ends}" style="{plots.stroke("c0", 1)}"/>')
        for one in codes:
            self._mark(self._x(one.sent_bytes), self._y(one.code_bytes), one)
        end = x + 7 * len(name) > WIDTH - RIGHT
        self._text(WIDTH - RIGHT if end else x - 4, y - 8, name, "end" if end else "start", code)

    def _mark(self, x: float, y: float, code: Code) -> None:
        shape, colour = KINDS[code.kind]
        shapes = {
            "circle": f"M{x:.1f} {y:.1f}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
            "square": f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
            "diamond": f"M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        }
        self.parts.append(f'<path d="{shapes[shape]}" style="fill:var({colour});stroke:var(--paper);stroke-width:1"/>')

    def _text(self, x: float, y: float, words: str, anchor: str, code: Code | None = None) -> None:
        # What is behind the letters must not strike them through.
        edge = f"paint-order:stroke;stroke:var(--{'paper' if code.weights else 'soft'});stroke-width:3" if code else ""
        style = f"fill:var({KINDS[code.kind][1]});{edge}" if code else ""
        self.parts.append(plots.text(x, y, words, anchor, style))


def _spread(ys: Sequence[float], low: float, high: float) -> list[float]:
    """Places in the same order, LINE apart at least: those that would be nearer share a block around their middle."""
    blocks: list[list[float]] = []
    for y in ys:
        blocks.append([y])
        while len(blocks) > 1 and _start(blocks[-1], low, high) < _start(blocks[-2], low, high) + LINE * len(
            blocks[-2]
        ):
            last = blocks.pop()
            blocks[-1] += last
    return [_start(block, low, high) + LINE * number for block in blocks for number in range(len(block))]


def _start(block: Sequence[float], low: float, high: float) -> float:
    """Where the first of a block is."""
    length = LINE * (len(block) - 1)
    return max(low, min(high - length, sum(block) / len(block) - length / 2))


def _round(low: float, high: float, factors: Sequence[int] = FACTORS) -> list[float]:
    """Round numbers from low to high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [size for power in powers for factor in factors if low <= (size := factor * 10.0**power) <= high * 1.0001]
