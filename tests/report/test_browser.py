"""The report page in chromium: nothing goes wrong, nothing leaves the page, nothing is wider than a phone."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nutshell.report.page import page
from nutshell.report.results import runs as results
from nutshell.report.results.summary import series
from tests.report.runs import classified, compressed, modelled, write
from tests.report.test_report_page import HOSTILE, hostile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PICTURES = os.environ.get("NUTSHELL_PICTURES")  # a folder for what the browser shows, to be looked at
OVERFLOWING = """\
[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width && box.right > %d + 1 && !element.closest('pre, .scroll');
}).map(element => element.outerHTML.slice(0, 120))"""
OPENED = "document.querySelectorAll('details').forEach(element => element.open = true)"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed: apt-get install chromium"),
]


class Browser:
    """Chromium's own protocol over a pipe: one page, and everything it says about it."""

    def __init__(self, profile: str):
        (ours_in, theirs_out), (theirs_in, ours_out) = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]

        def as_3_and_4() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        # Without a sandbox, because containers often have none to give; the page is our own.
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        words += [
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--no-first-run",
            "about:blank",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([CHROMIUM, *words], preexec_fn=as_3_and_4, close_fds=False, **quiet)
        for end in (*theirs, theirs_in, theirs_out):
            os.close(end)
        self.input, self.output = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self.events, self.number, self.session = [], 0, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def _read(self) -> dict:
        letters = bytearray()
        while (letter := self.input.read(1)) != b"\0":
            assert letter, "chromium has ended"
            letters += letter
        return json.loads(letters)

    def ask(self, method: str, **words) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": words}
        self.output.write(json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        self.output.flush()
        while (answer := self._read()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, file: Path, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        """Shows a page as a screen of this width does; what happened before is forgotten."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        preference = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media="screen", features=[preference])
        self.events.clear()
        self.ask("Page.navigate", url=file.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        time.sleep(0.3)  # for what a page might begin afterwards
        self.value("document.readyState")

    def value(self, expression: str):
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def messages(self) -> list[dict]:
        """Errors and warnings, from the console or the browser."""
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [event["params"] for event in self.events if event.get("method") in kinds]

    def requests(self) -> set[str]:
        events = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return {event["params"]["request"]["url"] for event in events}

    def picture(self, name: str) -> None:
        if PICTURES:
            width, height = self.value("[innerWidth, Math.min(15000, document.documentElement.scrollHeight)]")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
            (Path(PICTURES) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.session = None
            self.ask("Browser.close")
        self.process.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        opened = Browser(profile)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A page with everything on it, hostile text, too."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (13, 21, 42):
        write(root / "finetune" / "pairs", classified(seed, 28 + seed % 4))
    write(root / "finetune" / "weak", classified(13, 12, weight_decay=0.1))
    write(root / "language_model" / "small", modelled())
    write(root / "bits" / "gpt2", compressed())
    for number, text in enumerate(HOSTILE):
        write(root / "hostile" / f"text_{number}", hostile(text))
    (write(root / "finetune" / "lost", classified(13, 12, weight_decay=0.2)) / "metrics.json").unlink()
    file = root / "report.html"
    text = page.render(series(results.find([root])), "2026-11-22 15:00 UTC")
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(("width", "dark"), ((1400, False), (1400, True), (390, False), (390, True)))
def test_a_browser_shows_it(browser, report, width, dark):
    browser.open(report, width, dark=dark)
    browser.picture(f"{width}{'-dark' * dark}")
    browser.value(OPENED)
    assert browser.value(OVERFLOWING % width) == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.messages() == []
    assert browser.requests() <= {report.as_uri(), "data:,"}
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 22, 26)" if dark else "rgb(253, 253, 251)")
    assert browser.value("document.querySelectorAll('svg path').length") > 50
    assert browser.value("document.querySelectorAll('script, img').length") == 0


def test_smallest_letters_on_a_phone(browser, report):
    browser.open(report, 390)
    sizes = """Math.min(...[...document.querySelectorAll('figure svg')].map(svg =>
        13 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))"""
    assert browser.value(sizes) >= 11


def test_a_page_that_misbehaves_is_noticed(browser, tmp_path):
    """What the other tests rely on."""
    file = tmp_path / "bad.html"
    file.write_text(
        '<meta name="viewport" content="width=device-width"><div style="width: 900px">wide</div><img src="https://example.org/a.png"><script>nothing()</script>'
    )
    browser.open(file, 390)
    assert browser.messages() and browser.value(OVERFLOWING % 390) and len(browser.requests()) == 2


def test_it_prints_with_everything_open(browser, report):
    browser.open(report, 700, dark=True)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.value("getComputedStyle(document.body).color") == "rgb(27, 27, 27)"
    hidden = "[...document.querySelectorAll('main details > :not(summary)')].filter(element => !element.checkVisibility({contentVisibilityAuto: true})).length"
    assert browser.value(hidden) == 0
    assert browser.value("getComputedStyle(document.querySelector('.cards')).display") == "table"
    printed = browser.ask("Page.printToPDF", printBackground=False)["data"]
    assert len(printed) > 10_000
    if PICTURES:
        (Path(PICTURES) / "printed.pdf").write_bytes(base64.b64decode(printed))
