"""The report page: it shows what there is, drops nothing, and no text from data becomes anything but text."""

import copy
import html
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nutshell.bits.figures.units import NAME
from nutshell.report.page import page, plots, texts
from nutshell.report.results import runs as results
from nutshell.report.results.summary import series
from tests.report.runs import classified, modelled, sample, write

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
    return page.render(series(results.find([root])), "2026-11-22 15:00 UTC")


def words(text: str) -> str:
    """What a reader sees, with one space between words and cells."""
    return re.sub(r"\s+", " ", seen(re.sub(r"</(?:td|th|dt|dd)>|<br>", " ", text)))


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
    elements, shown = Elements(text), words(text)
    assert not {"script", "img", "iframe", "object", "form", "base"} & elements.tags
    assert len(elements.ids) == len(set(elements.ids))
    assert elements.links <= {f"#{anchor}" for anchor in elements.ids}  # no link leads away
    assert not re.search(r"url\(|@import|(?:src|href)=\"(?!#|data:,\")", text)
    assert "default-src 'none'" in text and 'lang="en"' in text and "width=device-width" in text
    for word in (
        "finetune/pairs", "language_model/small", "2026-11-22 15:00 UTC", "0.84 to 0.88: below", "↑ higher is better", "↓ lower is better",
        "3 (13, 21, 42)", "182 s for 3 seeds", "37.9 examples/s", "AMD EPYC (2 threads)", "fp32", "learning rate",
        "the same for every seed", "7 of 190 training examples are cut (3.7%)", "divided into blocks: nothing is cut", "Most confident errors, seed 13",
        "predicted not_equivalent with probability 0.959", "6666666666", "README of google-research/bert", "xz -9e", "gzip -9",
        "Samples, seed 13, after 10 steps", '"learning_rate": 5e-05', "Confusion matrix", "lengths, tokens",
    ):  # fmt: skip
        assert word in shown, word
    assert "Not complete" not in shown
    assert "loss, seed 13, 21, 42" in text and "accuracy, share of examples, seed 13, 21, 42" in text
    assert text == rendered(root)


def test_no_experiment(tmp_path):
    assert "0 experiments" in page.render([])


def test_an_experiment_begins_with_its_question_and_its_answer(root):
    shown = words(rendered(root))
    assert "How well does a small model compress text? bits_per_byte 2.0" in shown
    assert "over stretches of text), better than xz -9e (2.4" in shown
    assert re.search(
        r"Can it tell paraphrases apart\? accuracy 0\.7\d+ \(0\.\d+ to 0\.\d+ over seeds and examples\), better than "
        r"always answering not_equivalent \(0\.5\d*\), below the published band \(0\.84 to 0\.88\)\.",
        shown,
    )
    assert "one seed: variation between seeds is not included" in shown


@pytest.mark.parametrize(("right", "word"), [(40, "better than"), (22, "no better than"), (4, "worse than")])
def test_the_answer_says_whether_a_figure_beats_its_baseline(tmp_path, right, word):
    write(tmp_path / "a" / "b", classified(right=right, band_part="validation"))
    shown = words(rendered(tmp_path))
    assert f"over examples), {word} always answering not_equivalent (0.5" in shown
    assert "It is of the validation part: figures of the test part are not compared with it" in shown
    assert "published band (0.84" not in shown and "below" not in shown.partition("Experiments")[2]


def test_notes_are_next_to_the_answer(tmp_path):
    files = classified()
    files["metrics.json"]["notes"] = ["the model gave one answer only, equivalent"]
    write(tmp_path / "a" / "b", files)
    assert "The model gave one answer only, equivalent." in words(rendered(tmp_path))


def test_every_interval_is_drawn_with_baseline_and_band(root):
    overview = rendered(root).partition('<h2 id="overview">')[2].partition("</section>")[0]
    drawings = re.findall(r'<td class="strip".*?</td>', overview, re.S)
    assert len(drawings) == 8 and all(drawing.count("<svg") == 1 for drawing in drawings)
    accuracy, label_bits = drawings[:2]
    assert "var(--band)" in accuracy and "var(--mark)" in accuracy and "var(--ink)" in accuracy
    assert "var(--band)" not in label_bits and "var(--mark)" in label_bits


def test_columns_that_are_empty_are_left_out(tmp_path):
    files = classified()
    metrics = files["metrics.json"]
    for figure in metrics["metrics"].values():
        figure["interval_95"] = None
    metrics["baseline"], metrics["experiment"]["reference"] = {}, None
    write(tmp_path / "a" / "bare", files)
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", rendered(tmp_path))
    assert heads[:5] == ["experiment", "metric", "value", "seeds", "cost"]
    assert heads[5:7] == [
        "metric",
        "value",
    ]  # no mean of one seed, no interval, no band, no baseline, no validation part
    files["metrics.json"]["validation"] = {"accuracy": 0.7, "label_bits": 0.8}
    write(tmp_path / "b" / "more", files)
    write(tmp_path / "b" / "more", classified(21))
    assert "seed 13</th><th>seed 21</th><th>mean</th><th>95 % interval" in rendered(tmp_path / "b")
    assert "validation part" in rendered(tmp_path / "b" / "more" / "seed-13")


def test_figures_are_rounded_to_their_interval(tmp_path):
    files = classified()
    files["metrics.json"]["metrics"]["accuracy"] |= {"value": 0.7512345, "interval_95": [0.61234, 0.88234]}
    write(tmp_path / "a" / "b", files)
    shown = seen(rendered(tmp_path))
    assert "0.75" in shown and "0.61 to 0.88 over examples" in shown and "0.751" not in shown


def test_a_benchmark_s_tasks_and_mean_are_on_the_page(tmp_path):
    tasks = ["Words", "Pairs", "Films"]
    for task, right in (("Films", 20), ("Pairs", 30)):
        files = classified(right=right)
        files["metrics.json"]["benchmark"] = {"name": "TRIO", "task": task, "metrics": ["accuracy"], "tasks": tasks}
        write(tmp_path / "trio" / task, files)
    text = rendered(tmp_path)
    shown = words("<body>" + text.partition('<h2 id="benchmarks">')[2].partition("</section>")[0])
    assert "TRIO: minilm" in shown
    assert (
        "Mean over 2 of the 3 tasks of TRIO, test part: 0.625. It is no TRIO score, because Words is missing." in shown
    )
    assert re.search(
        r"Pairs accuracy 0\.75 0\.750 accuracy 0\.84 to 0\.88: below 40 examples test part, 1 seed trio/Pairs", shown
    )
    assert shown.index("Pairs accuracy") < shown.index("Films accuracy")
    Elements(text)
    assert "benchmarks" not in rendered(tmp_path / "trio" / "Films")


def test_comparisons(root):
    shown = words("<body>" + rendered(root).partition('<h2 id="comparisons">')[2].partition("</section>")[0])
    assert "classify: 2 experiments on the same 40 examples" in shown
    assert "finetune/pairs is better" in shown and "One of the two has one seed: variation between" in shown
    assert "McNemar, seed 13: only the best right on 17, only the other on 0; p = 1.5e-05" in shown
    assert (
        "Best by the very figure that is reported: finetune/pairs. 2 settings were measured on this one test part"
        in shown
    )


def test_the_best_is_chosen_on_the_validation_part(tmp_path):
    for name, right, validation in (("a", 30, 0.6), ("b", 28, 0.9)):
        files = classified(right=right, learning_rate=1e-5 if name == "a" else 1e-4)
        files["metrics.json"]["validation"] = {"accuracy": validation, "label_bits": 0.8}
        write(tmp_path / "chapter" / name, files)
    shown = words(rendered(tmp_path))
    assert "Best on the validation part: chapter/b. 2 settings were measured on this one test part" in shown
    assert "too good by some luck" not in shown


def test_what_differs_within_a_group_has_a_column(tmp_path):
    for name, rate in (("a", 1e-5), ("b", 3e-4)):
        write(tmp_path / "chapter" / name, classified(learning_rate=rate))
    text = rendered(tmp_path)
    assert text.count(">settings that differ</th>") == 2  # in the overview and in the comparison
    shown = words(text)
    assert "training.learning_rate: 1e-05" in shown and "training.learning_rate: 0.0003" in shown
    assert "data.max_tokens:" not in shown
    assert "settings that differ" not in words(rendered(tmp_path / "chapter" / "a"))


def test_too_few_to_tell(tmp_path):
    for name, right in (("a", 40), ("b", 0)):
        files = classified(right=right)
        units = files[NAME]
        files[NAME] = type(units)(units.kind, units.metrics, {key: column[:8] for key, column in units.columns.items()})
        write(tmp_path / "chapter" / name, files)
    shown = words(rendered(tmp_path))
    assert "too few to tell" in shown and "is better" not in shown.partition("Comparisons")[2].replace(
        "higher is better", ""
    ).replace("lower is better", "")


def test_ten_are_compared_and_the_rest_is_named(tmp_path):
    for number in range(13):
        write(tmp_path / "a" / f"n{number:02}", classified(13, 30 - number, warmup_steps=number))
    shown = words(rendered(tmp_path))
    assert "13 experiments on the same 40 examples" in shown
    assert "Not compared, because there are more than 10: a/n11, a/n12." in shown


def test_what_cannot_be_compared_says_so(root):
    (root / "finetune/weak/seed-13" / NAME).unlink()
    assert f"{NAME}: is missing or damaged" in seen(rendered(root))


@pytest.mark.parametrize("content", (None, b"PAR1 and nothing else"))
def test_units_that_cannot_be_read_stop_no_report(root, content):
    file = root / "finetune/pairs/seed-21" / NAME
    file.unlink() if content is None else file.write_bytes(content)
    shown = words(rendered(root))
    assert "over seeds)" in shown and "over seeds and examples" not in shown  # the interval is over seeds alone
    assert f"not compared: {file}: is missing or damaged" in shown


def test_labels_tell_runs_apart_and_are_never_absolute(tmp_path):
    for place in ("first/outputs/a/b", "second/outputs/a/b", "second/outputs/a/c"):
        write(tmp_path / place, classified(learning_rate=len(place)))
    assert [one.label for one in series(results.find([tmp_path]))] == ["first/outputs/a/b", "second/outputs/a/b", "a/c"]
    write(tmp_path / "second/outputs/a/c", classified(21, learning_rate=7))
    labels = [one.label for one in series(results.find([tmp_path / "second"]))]
    assert labels == ["a/b", "a/c, seed 13", "a/c, seed 21"]
    assert str(tmp_path) not in seen(rendered(tmp_path))


def test_every_state_is_listed(root):
    home = root / "finetune" / "states"
    folders = [write(home, classified(seed)) for seed in (1, 2, 3, 4, 5)]
    for folder in folders[1:4]:
        (folder / "metrics.json").unlink()
    (folders[2] / "failure.json").write_text(json.dumps({"error": "training diverged <here>", "when": "2026-11-22"}))
    (folders[3] / "experiment.yaml").write_text("a: [")
    (folders[4] / NAME).unlink()
    before, _, after = rendered(root).partition('<h2 id="overview">')
    shown, overview = words(before), words("<body>" + after)
    for seed, state in ((2, "unfinished"), (3, "failed"), (4, "unreadable"), (5, "complete, lacking")):
        assert re.search(rf"finetune/states(, seeds? [\d, ]+)? ?{seed} ?{state}", shown), seed
    assert "step 100 of 100" in shown and "training diverged <here> (2026-11-22)" in shown and NAME in shown
    assert "1 unfinished, 1 failed" in overview
    assert "no figures yet" in overview  # the one whose question cannot be read


@pytest.mark.parametrize("failure", (None, {"error": "training diverged", "when": "2026-11-22"}))
def test_the_curve_of_a_run_without_figures_is_shown(tmp_path, failure):
    folder = write(tmp_path / "a" / "b", classified())
    (folder / "metrics.json").unlink()
    if failure:
        (folder / "failure.json").write_text(json.dumps(failure))
    text = rendered(tmp_path)
    assert 'aria-label="loss, seed 13"' in text and 'aria-label="accuracy, seed 13"' in text
    assert "No figures: no seed is complete." in seen(text) and ("failed" if failure else "unfinished") in seen(text)


def test_a_seed_without_a_curve_is_in_no_legend(tmp_path):
    write(tmp_path / "a" / "b", classified(13))
    files = classified(21)
    files["trainer_state.json"]["log_history"] = []
    write(tmp_path / "a" / "b", files)
    legend = words("<body>" + rendered(tmp_path).partition('<ul class="legend">')[2].partition("</ul>")[0])
    assert legend.split() == "seed 13, training seed 13, validation".split()


def test_one_command_makes_all_seeds_again(tmp_path):
    for seed in (13, 21, 42):
        files = classified(seed)
        launcher = "accelerate launch -m nutshell" if seed == 42 else "nutshell"
        files["experiment.yaml"]["command"] = f"{launcher} run a/b.yaml x={{}} --seeds {seed} --output 'my --seeds 1'"
        write(tmp_path / "a" / "b", files)
    commands = re.search(r'<pre class="command">(.*?)</pre>', rendered(tmp_path), re.S)[1]
    assert html.unescape(re.sub(r"<[^>]*>", "", commands)).splitlines() == [
        "nutshell run a/b.yaml x={} --seeds 13 21 --output 'my --seeds 1'",
        "accelerate launch -m nutshell run a/b.yaml x={} --seeds 42 --output 'my --seeds 1'",
    ]


@pytest.mark.parametrize("kind", (classified, modelled))
def test_what_is_missing_breaks_nothing(tmp_path, kind):
    """Each key of metrics.json and of its blocks, and each file, taken away or made nonsense."""
    whole = kind()
    content = whole["metrics.json"]
    paths = [(key,) for key in content]
    paths += [(key, part) for key, block in content.items() if isinstance(block, dict) for part in block]
    for number, path in enumerate(paths):
        for nonsense in (None, "nonsense"):
            files = copy.deepcopy(whole)
            block = files["metrics.json"] if len(path) == 1 else files["metrics.json"][path[0]]
            del block[path[-1]]
            if nonsense:
                block[path[-1]] = nonsense
            write(tmp_path / "a" / f"n{number}{nonsense}", files)
    for name in whole:
        files = {key: content for key, content in whole.items() if key == "experiment.yaml" or key != name}
        write(tmp_path / "b" / name.replace(".", "_"), files)
    runs = results.find([tmp_path])
    for run in runs:
        text = page.render(series([run]))
        Elements(text)
        assert run.place in seen(text)
    assert len(runs) > 2 * len(paths)


@pytest.mark.parametrize("value", (None, "x", [], {}, float("nan"), float("inf"), 1e308, 10**400, True))
def test_history_of_any_kind(tmp_path, value):
    files = classified()
    files["trainer_state.json"]["log_history"][4]["loss"] = value
    files["trainer_state.json"]["log_history"].append({"step": 5, "eval_loss": value})
    write(tmp_path / "a" / "b", files)
    Elements(rendered(tmp_path))
    files["metrics.json"]["histogram"]["limit"] = value
    write(tmp_path / "a" / "c", files)
    Elements(rendered(tmp_path))


@pytest.mark.parametrize(
    ("block", "key", "value"),
    [
        ("matrix", "counts", [[1, 2]]),
        ("matrix", "counts", [[1, -2], [3, 4]]),
        ("matrix", "labels", ["one"]),
        ("histogram", "edges", [3, 2, 1]),
        ("histogram", "edges", [0, 1e308]),
        ("histogram", "counts", []),
        ("experiment", "reference", {"accuracy": [0.8]}),
        ("experiment", "question", ["why"]),
    ],
)
def test_damage_is_noticed_where_results_are_read(tmp_path, block, key, value):
    files = classified()
    files["metrics.json"][block][key] = value
    run = results.read(write(tmp_path / "a" / "b", files))
    assert run.state == "unreadable" and f"metrics.json: is damaged at {block}" in run.reason


@pytest.mark.parametrize("name", ("errors.jsonl", "samples.jsonl"))
def test_a_damaged_file_of_examples_is_not_half_shown(tmp_path, name):
    files = classified() | modelled()
    files[name][0].pop("texts" if name == "errors.jsonl" else "pieces")
    write(tmp_path / "a" / "b", files)
    heading = "Most confident errors" if name == "errors.jsonl" else "Samples, seed"
    assert heading not in seen(rendered(tmp_path))


def test_a_task_that_the_page_does_not_know(tmp_path):
    """Facts, baseline, notes, matrix, histogram and units of any task are drawn alike."""
    files = classified()
    metrics = files["metrics.json"]
    for experiment in (files["experiment.yaml"], metrics["experiment"]):
        experiment["task"] = "weather"
    metrics["facts"] = {"clouds": 7, "sky": "grey"}
    metrics["matrix"] |= {"title": "Rain by day", "labels": ["dry", "wet"]}
    metrics["histogram"] |= {"title": "drops, litres", "limit_name": "flood"}
    metrics["evaluated_on"] |= {"units": "days"}
    write(tmp_path / "a" / "b", files)
    shown = words(rendered(tmp_path))
    for word in (
        "weather; reported on",
        "Further figures",
        "clouds 7",
        "sky grey",
        "Rain by day",
        "drops, litres",
        "flood 128",
        "over days",
    ):
        assert word in shown, word


def hostile(text: str) -> dict[str, dict]:
    """A classifier's run with a text wherever data can put one."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # these files hold no half characters
    files = classified()
    metrics = files["metrics.json"]
    metrics["matrix"] |= {"labels": [text, text + "2"], "title": text}
    metrics["histogram"] |= {"title": text, "note": text, "limit_name": text}
    metrics["evaluated_on"] |= {"text": text, "units": text}
    metrics["data"] |= {"source": text, "examples": {text: 1}}
    metrics["metrics"][text[:50]] = metrics["metrics"]["label_bits"] | {"unit": text}
    metrics["baseline"] = {"accuracy": {text: 0.5}}
    metrics["notes"], metrics["facts"] = [text], {text: text}
    metrics["provenance"] |= {"device": text, "commit": text, "packages": {text: text}}
    asked = {"question": text, "source": text, "cost": text, "prompts": [text]}
    asked["reference"] = {"accuracy": [0.8, 0.9], text[:20]: [1, 2], "source": text, "part": "test"}
    metrics["experiment"] |= asked
    files["errors.jsonl"][0] |= {"texts": [text, text], "label": text}
    files["samples.jsonl"] = [sample(text, [[text, 1.0], [text, 9.0]], ended=text), sample(text, [])]
    escaped = re.sub("[^\0-\uffff]", "�", json.dumps({"command": text, **asked}, ensure_ascii=False))
    files["experiment.yaml"] |= json.loads(escaped)  # JSON's escapes of the others are no YAML
    return files


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_text(tmp_path, text):
    harmless = Elements(rendered(write(tmp_path / "harmless" / "run", hostile("word"))))
    shown = rendered(write(tmp_path / "outputs" / "run", hostile(text)))
    elements = Elements(shown)
    assert elements.tags == harmless.tags and elements.attributes == harmless.attributes
    assert "\n" not in texts.visible(text) or "\r\n" in text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert texts.visible(whole)[:300] in seen(shown)
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


def test_shades_say_how_surprising(tmp_path):
    files = modelled()
    files["samples.jsonl"] = [sample("", [["a", 0.49], ["b", 0.5], ["c", 2], ["d", 4.0], ["e", 7]])]
    write(tmp_path / "a" / "b", files)
    pieces = re.findall(r'<i class="s(\d)" title="([\d.]+) nats">(\w)</i>', rendered(tmp_path))
    assert pieces == [
        (str(level), nats, text)
        for level, (nats, text) in enumerate(zip("0.49 0.50 2.00 4.00 7.00".split(), "abcde", strict=True))
    ]


def test_empty_lines_take_no_room(tmp_path):
    files = modelled()
    files["samples.jsonl"] = [sample("", [["a\n\n", 1], ["\n", 1], ["b\nc", 1], ["\n", 1]])]
    write(tmp_path / "a" / "b", files)
    assert re.findall(r'<i class="s1"[^>]*>([^<]*)</i>', rendered(tmp_path)) == ["a↵↵", "↵\n", "b↵\nc", "↵\n"]


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
    assert all(contrast(f"c{seed}", "paper") >= 3 for seed in range(2 * plots.SHADES))


def test_the_page_is_read_without_torch():
    code = (
        "import sys, nutshell.report.page.page; assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_there_is_no_room_for_is_said(root, monkeypatch):
    whole = len(rendered(root))
    monkeypatch.setattr(page, "LIMIT_BYTES", whole - 1_000)
    shown = words(rendered(root))
    assert "Plots are left out to keep the page under 3 MB: 1 of the 3 experiments" in shown
    assert len(rendered(root)) <= whole
    monkeypatch.setattr(page, "LIMIT_BYTES", 10_000)
    shown = words(rendered(root))
    assert "3 are in the overview alone" in shown and "finetune/pairs" in shown
    elements = Elements(rendered(root))
    assert elements.links <= {f"#{anchor}" for anchor in elements.ids}


@pytest.mark.slow
@pytest.mark.parametrize("kind", (classified, modelled))
def test_two_hundred_experiments(tmp_path, kind):
    for number in range(200):
        write(tmp_path / "chapter" / f"experiment_{number:03}", kind(13, warmup_steps=number))
    started = time.perf_counter()
    text = rendered(tmp_path)
    assert time.perf_counter() - started < 10
    assert len(text.encode()) < 3_000_000
    assert all(f"experiment_{number:03}" in text for number in range(200))
    Elements(text)
