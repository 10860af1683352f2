"""`nutshell compress`, `decompress` and `info`: files in, files out, and nothing half-written."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from nutshell.cli.main import main
from tests.bits.codec.conftest import GOLDEN, TEXT
from tests.conftest import ROOT
from tests.models.language import tiny

NUTSHELL = [sys.executable, "-m", "nutshell"]


@pytest.fixture
def text(tmp_path) -> Path:
    file = tmp_path / "text.txt"
    file.write_bytes(TEXT)
    return file


def start(*words, **more) -> subprocess.Popen:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": _hear_interrupts} | more
    return subprocess.Popen([*NUTSHELL, *map(str, words)], env=environment, **more)


def _hear_interrupts() -> None:
    """What a shell starts in the background ignores them, and so would what is started here."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("options", [(), ("--arithmetic", "native", "--lanes", "2"), ("--verify", "--window", "32")])
def test_there_and_back(options, text, nutshell, tmp_path):
    code, out, err = nutshell("compress", GOLDEN, text, *options)
    assert code == 0 and out == "" and "546 bytes to" in err and "bits per byte" in err, err
    text.unlink()
    code, _, err = nutshell("decompress", f"{text}.nut", "--model", GOLDEN)
    assert code == 0 and "546 bytes" in err and text.read_bytes() == TEXT
    code, out, _ = nutshell("info", f"{text}.nut")
    assert code == 0 and "546 bytes, sha256" in out and "bits per byte" in out and "windows of" in out
    assert ("native fp32" in out) == ("native" in options)
    assert names(tmp_path) == ["text.txt", "text.txt.nut"]


def test_a_model_in_outputs_is_found(text, nutshell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN, tmp_path / "outputs" / "a" / "b" / "seed-13" / "model")
    nutshell("compress", GOLDEN, text)
    code, _, err = nutshell("decompress", "text.txt.nut", "-o", "again.txt")
    assert code == 0 and Path("again.txt").read_bytes() == TEXT, err


def test_no_model_is_found(text, nutshell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nutshell("compress", GOLDEN, text)
    code, _, err = nutshell("decompress", "text.txt.nut", "-o", "again.txt")
    assert code == 2 and "whose weights have the digest" in err and "name it with --model" in err
    assert not Path("again.txt").exists()


@pytest.mark.parametrize("what", ["weights", "config", "tokenizer"])
def test_another_model(what, text, nutshell, tmp_path):
    """One weight that is changed by one step, one key, one token."""
    other = Path(shutil.copytree(GOLDEN, tmp_path / "other"))
    if what == "weights":
        weights = load_file(other / "model.safetensors")
        name = next(iter(weights))
        weights[name].view(-1)[0] = weights[name].view(-1)[0].nextafter(weights[name].new_tensor(9.0))
        save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    else:
        file = other / f"{what}.json"
        old, new = {"config": ("1e-05", "1e-06"), "tokenizer": ('"truncation": null', '"truncation":  null')}[what]
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
    nutshell("compress", GOLDEN, text)
    code, _, err = nutshell("decompress", f"{text}.nut", "--model", other, "-o", tmp_path / "again.txt")
    assert code == 2 and f"was made with another model: its {what} have the digest" in err
    assert not (tmp_path / "again.txt").exists()


def test_mistakes(text, nutshell, tmp_path):
    """Each one message, exit code 2, and nothing written."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "there.nut").write_bytes(b"kept")
    before = names(tmp_path)
    for words, reason in {
        ("compress", GOLDEN, tmp_path / "none.txt"): "none.txt: is not there",
        ("compress", GOLDEN, tmp_path / "folder"): "is a folder; name a file",
        ("compress", GOLDEN, text, "-o", tmp_path / "there.nut"): "is there already; name another",
        ("compress", GOLDEN, text, "-o", text, "--force"): "is the file that is read",
        ("compress", GOLDEN, text, "-o", tmp_path / "folder"): "is a folder; name a file",
        ("compress", GOLDEN, text, "-o", tmp_path / "no" / "file"): "its folder is not there",
        ("compress", tmp_path / "no", text): "is no folder here",
        ("compress", GOLDEN, text, "-o", tmp_path / ("x" * 240)): "is too long a name for a file",
        ("compress", GOLDEN, text, "-o", "/dev/null", "--verify"): "is no regular file, and what --verify reads",
        ("compress",): "RUN is missing",
        ("compress", "--prequential", GOLDEN, text): "takes no RUN, only a FILE",
        ("compress", "--prequential", text, "--lanes", "2"): "--lanes: is of a model's coding",
        ("compress", GOLDEN, text, "--window", "65"): "a window of 65 tokens is more than",
        ("compress", GOLDEN, text, "--lanes", "0"): "expected a whole number from 1 to 1024, not 0",
        ("compress", GOLDEN, text, "--arithmetic", "exact", "--precision", "bf16"): "it is of native arithmetic",
        ("decompress", text): "does not end with .nut",
        ("decompress", text, "-o", tmp_path / "again"): "is no file of nutshell compress",
        ("decompress", tmp_path / "there.nut"): "is no file of nutshell compress",
        ("info", text): "is no file of nutshell compress",
        ("info", tmp_path / "none.nut"): "is not there",
    }.items():
        code, _, err = nutshell(*words)
        assert code == 2 and reason in err and "Traceback" not in err, (words, err)
        assert names(tmp_path) == before


def test_an_architecture_without_exact_arithmetic(text, nutshell, tmp_path):
    model = tiny.make("opt", tmp_path / "opt")
    code, _, err = nutshell("compress", model, text, "--arithmetic", "exact")
    assert code == 2 and "exact arithmetic is written for" in err and "use native arithmetic" in err
    code, _, err = nutshell("compress", model, text)
    assert code == 0 and ", native" in err


def test_an_empty_file(nutshell, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert nutshell("compress", GOLDEN, tmp_path / "empty")[0] == 0
    code, out, _ = nutshell("info", tmp_path / "empty.nut")
    assert code == 0 and "no text" in out
    assert nutshell("decompress", tmp_path / "empty.nut", "--force")[0] == 0
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_file_that_grows_while_it_is_read(text, nutshell, tmp_path, monkeypatch):
    from nutshell.bits.codec import stream

    stock = stream.compress

    def grow(*args, **kwargs):
        facts = stock(*args, **kwargs)
        with text.open("ab") as more:
            more.write(b"more")
        return facts

    monkeypatch.setattr(stream, "compress", grow)
    code, _, err = nutshell("compress", GOLDEN, text)
    assert code == 2 and "was changed while it was read" in err and names(tmp_path) == ["text.txt"]


def test_a_folder_that_may_not_be_written(text, nutshell, tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    code, _, err = nutshell("compress", GOLDEN, text)
    tmp_path.chmod(stat.S_IRWXU)
    assert code == 2 and "cannot be used" in err and names(tmp_path) == ["text.txt"]


def test_without_a_model(text, nutshell, tmp_path):
    assert nutshell("compress", "--prequential", text)[0] == 0
    code, out, _ = nutshell("info", f"{text}.nut")
    assert code == 0 and "prequential" in out and "digests" not in out
    code, _, err = nutshell("decompress", f"{text}.nut", "--model", GOLDEN, "-o", tmp_path / "again.txt")
    assert code == 2 and "was made without one" in err
    assert nutshell("decompress", f"{text}.nut", "--force")[0] == 0 and text.read_bytes() == TEXT


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_closed_streams(closed, nutshell, monkeypatch):
    monkeypatch.setattr(sys, closed, None)
    file = ["-"] if closed == "stdin" else [str(GOLDEN / "text.nut"), "-o", "-"]
    code = main(["decompress", *file, "--model", str(GOLDEN)])
    assert code == 2


def test_a_llama_that_leaves_its_defaults_out(text, nutshell, tmp_path):
    model = tiny.make("llama", tmp_path / "llama")
    config = json.loads((model / "config.json").read_text())
    for key in ("rms_norm_eps", "hidden_act"):
        config.pop(key)
    (model / "config.json").write_text(json.dumps(config))
    code, _, err = nutshell("compress", model, text, "--verify")
    assert code == 0 and ", exact" in err


@pytest.mark.slow
def test_standard_input_and_output(text):
    packed, err = start("compress", GOLDEN, stdin=text.open("rb")).communicate(timeout=120)
    assert packed[:4] == b"\x89NUT", err
    process = start("decompress", "--model", GOLDEN, stdin=subprocess.PIPE)
    raw, err = process.communicate(packed, timeout=120)
    assert process.returncode == 0 and raw == TEXT, err
    process = start("decompress", "--model", GOLDEN, stdin=subprocess.PIPE)
    raw, err = process.communicate(packed[:-9], timeout=120)
    assert process.returncode == 2 and raw == b"" and b"is damaged or cut short" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_while_it_codes(number, text, tmp_path):
    """No file of the final name; all but SIGKILL leave no other one either."""
    long = tmp_path / "long.txt"
    long.write_bytes(TEXT * 1500)
    process = start("compress", GOLDEN, long, "--lanes", "1")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".long*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    expected = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert process.returncode == expected[number] and b"Traceback" not in err, err
    assert not (tmp_path / "long.txt.nut").exists()
    if number != signal.SIGKILL:
        assert b"nothing was written" in err and names(tmp_path) == ["long.txt", "text.txt"]


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a file system can be mounted only by root")
    try:
        source = tmp_path / "random"
        source.write_bytes(os.urandom(200_000))
        process = start("compress", GOLDEN, source, "-o", folder / "random.nut")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2 and b"cannot be written" in err and b"Traceback" not in err
        assert not names(folder)
    finally:
        subprocess.run(["umount", folder], check=True)
