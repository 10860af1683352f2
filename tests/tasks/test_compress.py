"""The task compress from start to end on tiny models: real files that were decoded, and what they cost together."""

import bz2
import hashlib
import json
import os
import shutil

import numpy
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nutshell.bits import baselines, weights
from nutshell.bits.codec import stream
from nutshell.data.datasets import TextData
from nutshell.data.text import documents

YAML = """\
question: Which code of this text is the shortest?
task: compress
seeds: [13]
coder: exact
model: {name: CAUSAL}
lanes: 3
data: {name: sample_text, bytes: [200, 401]}
compressors: [bzip2, ppmd]
"""
PLACE = "bits/tiny"
TEXT = "\n".join(documents.load(TextData(name="sample_text"), trains=False).test.documents).encode()


@pytest.fixture(scope="module")
def letters(causal, tmp_path_factory):
    """A tiny GPT-2 that knows how frequent each byte of the text is, so that xz needs more for a short one."""
    folder = tmp_path_factory.mktemp("models") / "letters"
    shutil.copytree(causal["gpt2"], folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder, model_max_length=10**9)(TEXT.decode())["input_ids"]
    counts = numpy.bincount(tokens, minlength=model.config.vocab_size)
    with torch.no_grad():
        for parameter in (final := model.transformer.ln_f).weight, final.bias:
            parameter.zero_()
        final.bias[0] = 1
        model.transformer.wte.weight[:, 0] = torch.tensor(numpy.log(counts + 0.1))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def write(write, letters):
    """Writes an experiment about that model."""
    return lambda text, name: write(text.replace("CAUSAL", str(letters)), name)


@pytest.fixture
def run(write, nutshell, result):
    """Runs an experiment and returns its metrics.json."""

    def _run(text: str = YAML, *words) -> dict:
        code, _, err = nutshell("run", write(text, f"{PLACE}.yaml"), *words)
        assert code == 0, err
        return result(PLACE)

    return _run


def by_name(found: dict, size: int) -> dict[str, dict]:
    return {code["name"].split(",")[0]: code for code in found["codes"] if code["text_bytes"] == size}


def test_every_code_of_every_length(run):
    found = run()
    assert {(code["text"], code["text_bytes"]) for code in found["codes"]} == {
        ("sample_text, test part", size) for size in (200, 401)
    }
    for size in (200, 401):
        codes = by_name(found, size)
        model = codes.pop("letters")
        assert model["name"].endswith(", exact, fp32 weights") and model["kind"] == "model"
        counts = numpy.bincount(numpy.frombuffer(TEXT, numpy.uint8))
        by_hand = sum(-numpy.log2(counts[byte] / len(TEXT)) for byte in TEXT[:size])
        assert model["ideal_bits"] == pytest.approx(by_hand, rel=0.01)
        assert model["ideal_bits"] < 8 * model["code_bytes"] < model["ideal_bits"] + 8 * 120  # the header
        assert [*codes] == ["bzip2 -9", "ppmd"]
        assert codes["bzip2 -9"]["code_bytes"] == len(bz2.compress(TEXT[:size], 9))
        digest = hashlib.sha256(TEXT[:size]).hexdigest()
        assert {code["text_sha256"] for code in (model, *codes.values())} == {digest}
    longest = by_name(found, 401)["letters"]
    figures = {name: figure["value"] for name, figure in found["metrics"].items()}
    assert figures["bits_per_byte"] == 8 * longest["code_bytes"] / 401
    assert figures["total_bits_per_byte"] == 8 * (longest["code_bytes"] + longest["model_bytes"]["fp32"]) / 401
    assert found["baseline"]["bits_per_byte"]["bzip2 -9"] == 8 * len(bz2.compress(TEXT[:401], 9)) / 401
    assert found["evaluated_on"]["sha256"] == longest["text_sha256"] == found["data"]["sha256"]["test"]


def test_what_is_counted_is_the_model_that_coded(run, letters, monkeypatch):
    """The weights of the form that is stated are what the coder has, and their bytes are in the total."""
    seen = []

    def compress(source, target, coder, **more):
        seen.append(coder.header.weights)
        return stream_compress(source, target, coder, **more)

    stream_compress = stream.compress
    monkeypatch.setattr(stream, "compress", compress)
    found = run(YAML, "weights=int3", "data.bytes=200")
    code = by_name(found, 200)["letters"]
    own = load_file(letters / "model.safetensors")
    side = sum(weights.side_bytes(letters).values())
    assert [*code["model_bytes"]] == ["fp32", "bf16", "int8", "q4_1", "int3"] and code["weights"] == "int3"
    assert code["model_bytes"]["int3"] == len(weights.pack(own, "int3")) + side
    total = found["metrics"]["total_bits_per_byte"]["value"]
    assert total == 8 * (code["code_bytes"] + code["model_bytes"]["int3"]) / 200
    run(YAML, "data.bytes=200", "--force")
    assert len(set(seen)) == 2  # other weights than those of the checkpoint


def test_native_arithmetic(run):
    found = run(YAML.replace("exact", "native"), "precision=bf16", "data.bytes=200")
    assert by_name(found, 200)["letters"]["name"].endswith(", bf16 native, fp32 weights")


def test_a_text_of_the_user_s_own(run, tmp_path):
    """Cut where no character is in two; without compressors there is no baseline."""
    (tmp_path / "notes.txt").write_text("Käse und Brot. " * 90, encoding="utf-8")
    own = YAML.replace("sample_text, ", f"text, path: {tmp_path / 'notes.txt'}, ").replace("[bzip2, ppmd]", "[]")
    found = run(own, "data.bytes=2")
    (code,) = found["codes"]
    assert (code["text"], code["text_bytes"], code["text_sha256"]) == (
        "notes.txt, test part",
        1,
        hashlib.sha256(b"K").hexdigest(),
    )
    assert found["baseline"] == {}


def test_a_compressor_that_fails_is_marked(run, monkeypatch):
    broken = baselines.Compressor("bzip2 -9", bz2.compress, lambda code: b"another text")
    monkeypatch.setitem(baselines.COMPRESSORS, "bzip2", broken)
    found = run(YAML, "data.bytes=200")
    assert by_name(found, 200)["bzip2 -9"]["code_bytes"] is None
    assert "bzip2 -9 failed: its decoder did not return the text" in found["notes"]
    assert [*found["baseline"]["bits_per_byte"]] == ["ppmd, 256 MB"]


def test_a_model_that_fails_ends_the_run(write, nutshell, monkeypatch, tmp_path):
    decompress = stream.decompress

    def astray(reader, target, find, **more):
        facts = decompress(reader, target, find, **more)
        target.seek(0)
        target.write(b"X")
        return facts

    monkeypatch.setattr(stream, "decompress", astray)
    code, _, err = nutshell("run", write(YAML, f"{PLACE}.yaml"))
    assert code == 2 and "its code of 200 bytes decodes to another text" in err
    assert not (tmp_path / "outputs" / PLACE / "seed-13/metrics.json").exists()


def test_show(write, nutshell):
    code, out, err = nutshell("show", write(YAML, f"{PLACE}.yaml"))
    assert code == 0, err
    assert "# texts:    the first 200, 401 bytes of the test part (documentation of scipy.stats" in out
    assert "# codes:    exact, bzip2, ppmd; each is decoded again" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["coder=lzma"], "coder: expected 'exact' or 'native', not 'lzma'"),
        (["model=null"], "coder: exact arithmetic is a model's; name it in model"),
        (["precision=bf16"], "precision: exact has none; it is of coder: native"),
        (["data.bytes=0"], "data.bytes"),
        (["data.bytes=[]"], "data.bytes"),
        (["data.bytes=100000000"], "data.bytes: 100,000,000 is more than the test part has"),
        (["data.part=validation"], "has no validation part; it has test"),
        (["data.part=train"], "data.part: expected 'validation' or 'test'"),
        (["compressors=[rar]"], "compressors"),
        (["window=65"], "a window of 65 tokens is more than"),
        (["model.name=minilm"], "is a bert checkpoint"),
        (["data.name=text"], "data.path is missing"),
    ],
)
def test_what_is_refused(write, nutshell, words, message):
    code, _, err = nutshell("show", write(YAML, f"{PLACE}.yaml"), *words)
    assert code == 2 and message in err, err


def test_a_program_that_is_not_there(write, nutshell, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = nutshell("show", write(YAML, f"{PLACE}.yaml"), "compressors=[zpaq]")
    assert code == 2 and "compressors: the program zpaq is not on this machine" in err


def test_the_report_shows_every_code(run, nutshell, tmp_path):
    run()
    code, printed, err = nutshell("report", tmp_path / "outputs", "--format", "json")
    assert code == 0 and json.loads(printed)[0]["metric"] == "bits_per_byte", err
    page = tmp_path / "report.html"
    assert nutshell("report", tmp_path / "outputs", "--output", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert "The whole price of a text" in text and "sample_text, test part" in text
    assert os.path.getsize(page) < 200_000
