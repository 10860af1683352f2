"""The report page: it shows what there is, drops nothing, and no text from data becomes anything but text."""

import html
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nutshell.report import results
from nutshell.report.page import examples, page, plots, texts
from tests.runs import classified, modelled, sample, write

VOID = {"meta", "link", "br", "wbr"}
HOSTILE = [
    "<script>alert('a')</script>",
    "</svg></style></pre></title><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1) `-->]]><!--",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt; &#60;",
    "\u202eright to left\u2066 \u200f عربي",
    "a\u2028b\u2029c\r\nd\re",
    "\x00\x01\x1b[31m\x7f\x85\ufeff",
    "\ud83d lone \udc00",
    "👩\u200d👩\u200d👧 猫",
    "long" + "x" * 100_000,
]


class Elements(HTMLParser):
    """Every element opened is closed, in order; ids and links within the page."""

    def __init__(self, text: str):
        super().__init__()
        self.stack, self.ids, self.links, self.tags, self.attributes = [], [], set(), set(), set()
        self.feed(text)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        self.attributes |= set(found)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "a":
            self.links.add(found["href"])
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, self.getpos()


def rendered(root: Path) -> str:
    return page.render(results.experiments(results.find([root])), "2026-11-22 15:00 UTC")


def seen(text: str) -> str:
    """What a reader sees: no tags, entities resolved."""
    return html.unescape(re.sub(r"<[^>]*>", "", text.partition("<body>")[2]))


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classifiers, one of three seeds, a language model, prompts."""
    root = tmp_path / "outputs"
    for seed in (13, 21, 42):
        write(root / "finetune" / "pairs", classified(seed, 28 + seed % 4))
    write(root / "finetune" / "weak", classified(13, 12, weight_decay=0.1))
    write(root / "language_model" / "small", modelled())
    return root


def test_everything_is_there(root):
    text = rendered(root)
    found, said = Elements(text), seen(text)
    assert not {"script", "img", "iframe", "object", "form", "base"} & found.tags
    assert len(found.ids) == len(set(found.ids))
    assert found.links <= {f"#{anchor}" for anchor in found.ids}  # no link leads away
    assert not re.search(r"url\(|@import|(?:src|href)=\"(?!#|data:,\")", text)
    assert "default-src 'none'" in text and 'lang="en"' in text and "width=device-width" in text
    for word in (
        "finetune/pairs", "language_model/small", "2026-11-22 15:00 UTC", "0.84 to 0.88: below", "↑ higher is better", "↓ lower is better",
        "3 (13, 21, 42)", "182 s for 3 seeds", "37.9 examples/s", "AMD EPYC (2 threads)", "fp32", "loss, nats per example", "learning rate",
        "the same for every seed", "7 of 190 training examples are cut (3.7%)", "divided into blocks: nothing is cut", "Surest and wrong, seed 13",
        "predicted not_equivalent with probability 0.959", "nutshell run experiments/finetune/pairs.yaml --seed 42", "6666666666",
        "README of google-research/bert", "gzip -9", "Samples, seed 13, after 10 steps", '"learning_rate": 5e-05',
    ):  # fmt: skip
        assert word in said, word
    assert "Not complete" not in said
    assert text.count('role="img"') == 3 * 4 + 2 + 1  # plots, published bands, a difference that is not 0
    assert 'aria-label="loss, nats per example, seeds 13, 21, 42"' in text
    assert text == rendered(root)


def test_no_experiment(tmp_path):
    assert "0 experiments" in page.render([])


def test_side_by_side(root):
    said = re.sub(r"\s+", " ", seen(rendered(root)).partition("Side by side")[2].partition("Best:")[2])
    assert "finetune/pairs. A difference" in said
    assert "finetune/pairs is better" in said
    assert "McNemar, seed 13: only the best right on 17, only the other on 0; p = 1.5e-05" in said


def test_ten_are_compared_and_the_rest_is_named(tmp_path):
    for number in range(13):
        write(tmp_path / "a" / f"n{number:02}", classified(13, 30 - number, warmup_steps=number))
    said = seen(rendered(tmp_path))
    assert "13 experiments on the same 40 examples" in said
    assert "Not compared, because there are more than 10: a/n11, a/n12." in said


def test_what_cannot_be_compared_says_so(root):
    (root / "finetune/weak/seed-13/predictions.jsonl").unlink()
    assert "predictions.jsonl: is missing or damaged" in seen(rendered(root))


def test_every_state_is_listed(root):
    home = root / "finetune" / "states"
    folders = [write(home, classified(seed)) for seed in (1, 2, 3, 4, 5)]
    for folder in folders[1:4]:
        (folder / "metrics.json").unlink()
    (folders[2] / "failure.json").write_text(json.dumps({"error": "training diverged <here>", "when": "2026-11-22"}))
    (folders[3] / "experiment.yaml").write_text("a: [")
    (folders[4] / "errors.jsonl").unlink()
    before, _, after = rendered(root).partition('<h2 id="overview">')
    said, overview = seen(before), seen("<body>" + after)
    for seed, word in ((2, "unfinished"), (3, "failed"), (4, "unreadable"), (5, "complete, lacking")):
        assert f"states/seed-{seed}{word}" in said.replace("\n", ""), seed
    assert "states/seed-1" not in said
    assert "step 100 of 100" in said and "training diverged <here> (2026-11-22)" in said and "errors.jsonl" in said
    assert "1 unfinished, 1 failed" in overview
    assert "no figures yet" in overview  # the one whose question cannot be read


def test_an_experiment_without_figures_shows_how_far_it_came(tmp_path):
    folder = write(tmp_path / "a" / "b", classified())
    (folder / "metrics.json").unlink()
    text = rendered(tmp_path)
    assert "loss, nats per example" in text and "unfinished" in text


@pytest.mark.parametrize("made", (classified, modelled))
def test_what_is_missing_breaks_nothing(tmp_path, monkeypatch, made):
    """Each key of metrics.json and of its blocks, and each file, taken away or made nonsense."""
    monkeypatch.setattr(plots, "curves", lambda lines, said: "drawn")
    content = made()["metrics.json"]
    paths = [(key,) for key in content]
    paths += [(key, part) for key, block in content.items() if isinstance(block, dict) for part in block]
    for number, path in enumerate(paths):
        for nonsense in (None, "nonsense"):
            files = made()
            block = files["metrics.json"] if len(path) == 1 else files["metrics.json"][path[0]]
            del block[path[-1]]
            if nonsense:
                block[path[-1]] = nonsense
            write(tmp_path / "a" / f"n{number}{nonsense}", files)
    for name in made():
        files = {key: content for key, content in made().items() if key == "experiment.yaml" or key != name}
        write(tmp_path / "b" / name.replace(".", "_"), files)
    for run in (found := results.find([tmp_path])):
        try:
            experiments = results.experiments([run])
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # what cannot be summed up comes to no page
        text = page.render(experiments)
        Elements(text)
        assert run.place in seen(text)
    assert len(found) > 2 * len(paths)


@pytest.mark.parametrize("value", (None, "x", [], {}, float("nan"), float("inf"), 1e308, 10**400, True))
def test_history_of_any_kind(tmp_path, value):
    files = classified()
    files["trainer_state.json"]["log_history"][4]["loss"] = value
    files["trainer_state.json"]["log_history"].append({"step": 5, "eval_loss": value})
    files["metrics.json"]["lengths"]["limit"] = value
    write(tmp_path / "a" / "b", files)
    Elements(rendered(tmp_path))


def hostile(text: str) -> dict[str, dict]:
    """A classifier's run with a text wherever data can put one."""
    files = classified()
    metrics = files["metrics.json"]
    metrics["labels"] = [text, text + "2"]
    metrics["evaluated_on"]["text"] = text
    metrics["data"]["source"] = text
    metrics["metrics"][text[:50]] = metrics["metrics"]["label_bits"] | {"unit": text}
    metrics["provenance"] |= {"device": text, "commit": text, "packages": {text: text}}
    files["errors.jsonl"][0] |= {"texts": [text, text], "label": text, "index": text}
    files["samples.jsonl"] = [sample(text, [[text, 1.0], [text, text]], ended=text), {"continuation": text}]
    shown = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # YAML files hold no half characters
    files["experiment.yaml"] |= {"command": shown, "prompts": [shown]}
    files["experiment.yaml"]["reference"] = {
        "accuracy": [0.8, 0.9],
        text[:20].replace("\ud83d", ""): [1],
        "source": shown,
    }
    return files


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_text(tmp_path, text):
    harmless = Elements(rendered(write(tmp_path / "harmless" / "run", hostile("word"))))
    shown = rendered(write(tmp_path / "outputs" / "run", hostile(text)))
    found = Elements(shown)
    assert found.tags == harmless.tags and found.attributes == harmless.attributes
    assert "\n" not in texts.visible(text) or "\r\n" in text
    assert texts.visible(text)[:300] in seen(shown)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    shown.encode("utf-8")
    assert len(shown) < 200_000


def test_hostile_names_of_folders(tmp_path):
    write(tmp_path / "<script>x" / '"><b onclick=\u202e', classified())
    shown = rendered(tmp_path)
    assert "<script" not in shown and "<b onclick" not in shown
    assert '<script>x/"><b onclick=⟨U+202E⟩' in seen(shown)


def test_what_nobody_sees_is_named():
    assert texts.visible("a\x00\x1b\u202e\ud800\r\n\tb👩\u200d👧") == "a␀␛⟨U+202E⟩⟨U+D800⟩\n\tb👩\u200d👧"


def test_shades_say_how_surprising():
    pieces = [["a", 0.49], ["b", 0.5], ["c", 2], ["d", 4.0], ["e", 7], ["f", None]]
    found = examples._pieces({"pieces": pieces}, 400)["pieces"]
    assert [level for _, level, _ in found] == [0, 1, 2, 3, 4, None]
    assert found[0] == ("a", 0, "0.49") and found[-1] == ("f", None, "")


def test_empty_lines_take_no_room():
    found = examples._pieces({"pieces": [["a\n\n", 1], ["\n", 1], ["b\nc", 1], ["\n", 1]]}, 400)["pieces"]
    assert [text for text, _, _ in found] == ["a↵↵", "↵\n", "b↵\nc", "↵\n"]


def test_no_spike_is_lost():
    points = [(step, 100.0 if step == 777 else step / 1000) for step in range(2000)]
    kept = plots.thinned(points, 300)
    assert len(kept) <= 300 and (777, 100.0) in kept and kept[0] == points[0] and kept[-1] == points[-1]
    assert kept == sorted(kept)


def test_a_plot_is_small_and_has_the_page_s_colours():
    lines = [plots.Line([(step, (step * 37 % 101) / 7) for step in range(1000)], seed) for seed in range(3)]
    lines += [plots.Line([(step, 3) for step in range(0, 1000, 100)], seed, marked=True) for seed in range(3)]
    text = plots.curves(lines, 'a "b" <c>')
    assert len(text) < 10_000
    assert 'aria-label="a &#34;b&#34; &lt;c&gt;"' in text
    assert not re.search(r"#[0-9a-f]{6}| id=|href|clip-path|font-family|<style|<!", text)
    assert len(set(re.findall(r"stroke-dasharray:[\d., ]+", text))) == 2  # and a solid one: told apart without colour
    assert {f"var(--c{seed})" for seed in range(3)} <= set(re.findall(r"var\(--\w+\)", text))
    Elements(text)


def test_ticks_are_what_they_say():
    text = plots.curves([plots.Line([(0, 0.001), (100, 0.0047)], 0)], "")
    assert re.findall(r">([^<]+)</text", text) == [
        "0.001",
        "0.002",
        "0.003",
        "0.004",
        "0",
        "25",
        "50",
        "75",
        "100",
        "step",
    ]


@pytest.mark.parametrize("values", ([1.0], [0.0, 0.0], [-5, -5], [1e-300, 2e-300], [-9e99, 9e99]))
def test_a_plot_of_little_or_much(values):
    text = plots.curves([plots.Line(list(enumerate(values)), 0)], "")
    assert "nan" not in text and "inf" not in text


def test_an_interval_on_its_band():
    assert plots.strip(0.8, (0.7, 0.9), "said", band=(0.84, 0.88)).startswith('<svg viewBox="0 0 140 16"')
    assert plots.strip(0.8, None, "said", band=(0.84, 0.88))
    assert plots.strip(float("nan"), None, "said", band=(0.84, 0.88)) is None
    assert plots.strip(0.0, None, "said", reach=0.0) is None


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("mode", (0, 1), ids=("light", "dark"))
def test_contrast(mode):
    """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for lines."""
    style = (Path(page.__file__).parent / "page.html").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style.split(":root {")[1 + mode]))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    for name in ("ink", "muted", "link", "mark", "good", "bad"):
        assert contrast(name, "paper") >= 4.5 and contrast(name, "soft") >= 4.5, name
    assert all(contrast("ink", f"s{level}") >= 4.5 for level in range(1, 5))
    assert all(contrast(f"c{seed}", "paper") >= 3 for seed in range(plots.COLOURS))


def test_the_page_is_read_without_torch():
    code = (
        "import sys, nutshell.report.page; assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_there_is_no_room_for_is_said(root, monkeypatch):
    whole = len(rendered(root))
    monkeypatch.setattr(page, "LIMIT_BYTES", whole - 1_000)
    said = seen(rendered(root))
    assert "Plots left out to keep the page under 3 MB: 1 of the 3 experiments" in said
    assert len(rendered(root)) <= whole
    monkeypatch.setattr(page, "LIMIT_BYTES", 10_000)
    said = seen(rendered(root))
    assert "3 stand in the overview alone" in said and "finetune/pairs" in said
    found = Elements(rendered(root))
    assert found.links <= {f"#{anchor}" for anchor in found.ids}


@pytest.mark.slow
@pytest.mark.parametrize("made", (classified, modelled))
def test_two_hundred_experiments(tmp_path, made):
    for number in range(200):
        write(tmp_path / "chapter" / f"experiment_{number:03}", made(13, warmup_steps=number))
    begun = time.perf_counter()
    text = rendered(tmp_path)
    assert time.perf_counter() - begun < 20
    assert len(text.encode()) < 3_000_000
    assert all(f"experiment_{number:03}" in text for number in range(200))
    Elements(text)
