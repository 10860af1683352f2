"""The report's drawings: small, told apart without colour, nothing clipped, ticks that say what they are."""

import re

import pytest

from nutshell.report.page import plots
from tests.report.test_report_page import Elements


def test_no_spike_is_lost():
    points = [(step, 100.0 if step == 777 else step / 1000) for step in range(2000)]
    kept = plots.thinned(points, 300)
    assert len(kept) <= 300 and (777, 100.0) in kept and kept[0] == points[0] and kept[-1] == points[-1]
    assert kept == sorted(kept)


def test_a_plot_is_small_and_has_the_page_s_colours():
    lines = [plots.Line([(step, (step * 37 % 101) / 7) for step in range(1000)], seed) for seed in range(3)]
    lines += [plots.Line([(step, 3) for step in range(0, 1000, 100)], seed, validation=True) for seed in range(3)]
    text = plots.curves(lines, 'a "b" <c>')
    assert len(text) < 10_000
    assert 'aria-label="a &#34;b&#34; &lt;c&gt;"' in text
    assert not re.search(r"#[0-9a-f]{6}| id=|href|clip-path|font-family|<style|<!", text)
    assert len(set(re.findall(r"stroke-dasharray:[\d., ]+", text))) == 2  # and a solid one: told apart without colour
    assert {f"var(--c{number})" for number in (0, 1, 2, 4, 5, 6)} <= set(re.findall(r"var\(--\w+\)", text))
    Elements(text)


def test_training_and_validation_differ_in_colour_and_mark():
    for seed in range(10):
        training, validation = (plots.curves([plots.Line([(0, 1), (9, 2)], seed, part)], "") for part in (False, True))
        colours = [re.search(r"<polyline.*?stroke:var\(--(c\d)\)", text)[1] for text in (training, validation)]
        assert colours[0] in ("c0", "c1", "c2", "c3") and colours[1] in ("c4", "c5", "c6", "c7")
        assert "stroke-linecap:round" in validation and "stroke-linecap" not in training
    single = [plots.curves([plots.Line([(5, 1)], 0, part)], "") for part in (False, True)]
    assert "stroke-linecap:square" in single[0] and "stroke-linecap:round" in single[1]


def numbers(text: str) -> list[str]:
    return re.findall(r">([^<]+)</text", text)


def test_ticks_are_what_they_say():
    text = plots.curves([plots.Line([(0, 0.001), (100, 0.0047)], 0)], "")
    assert numbers(text) == "0.001 0.002 0.003 0.004 0 25 50 75 100 step".split()


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 2), (7, 7), (0, 10), (0, 123_456)])
def test_counts_have_whole_ticks(first, last):
    ticks = numbers(plots.curves([plots.Line([(first, 0.5), (last, 0.6)], 0)], ""))
    steps = [tick for tick in ticks[:-1] if "0." not in tick]
    assert steps and all(re.fullmatch(r"\d{1,3}(,\d{3})*", step) for step in steps)
    counts = numbers(plots.histogram([0, 1, 2], [1, 2], None, "", ""))
    assert counts == ["0", "1", "2", "0", "1", "2"]


@pytest.mark.parametrize("values", ([4.9e-5, 5.08e-5], [-1234567.0, 7654321.0], [0.693147, 0.693148], [1e-9, 2e-9]))
def test_no_number_is_clipped_and_no_two_are_alike(values):
    text = plots.curves([plots.Line([(0, values[0]), (1_000_000, values[1])], 0)], "")
    labels = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)">([^<]+)</text', text)
    for x, anchor, label in labels:
        width = plots.DIGIT_WIDTH * len(label)
        left = float(x) - {"end": width, "middle": width / 2}[anchor]
        assert left >= 0 and left + width <= plots.WIDTH, label
    ticks = [label for _, anchor, label in labels if anchor == "end"]
    assert len(set(ticks)) == len(ticks) >= 2


@pytest.mark.parametrize("values", ([1.0], [0.0, 0.0], [-5, -5], [1e-300, 2e-300], [-9e99, 9e99]))
def test_a_plot_of_little_or_much(values):
    text = plots.curves([plots.Line(list(enumerate(values)), 0)], "")
    assert "nan" not in text and "inf" not in text


def test_an_interval_with_what_it_is_compared_to():
    text = plots.strip(0.8, (0.7, 0.9), "words", band=(0.84, 0.88), baseline=0.5)
    assert text.startswith('<svg viewBox="0 0 140 16"')
    assert re.search(
        r'<path d="M6.0 0V16" style="fill:none;stroke:var\(--mark\)', text
    )  # the baseline is at the left end
    assert plots.strip(0.8, None, "words", band=(0.84, 0.88)) and plots.strip(0.8, None, "words", baseline=0.7)
    assert plots.strip(0.8, (0.8, 0.8), "words") is None and plots.strip(0.8, None, "words") is None
