"""nutshell ask: the texts of task: generate, piece by piece, and what is refused."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import nutshell as library
from nutshell.machine.files import read_lines
from nutshell.models.embedded import registry
from nutshell.models.language import build
from nutshell.report.page.texts import SURPRISES_NATS, surprise
from nutshell.report.terminal import Stream
from nutshell.runs.generation.prompts import Request
from nutshell.runs.generation.texts import Pieces
from tests.conftest import PROMPTS_YAML

HELLO = [{"role": "user", "content": "Hello"}]
WORDS = ("--max-new-tokens", 12, "--temperature", 1)


def generated(write, nutshell, tmp_path, model, prompt, words=()) -> list[str]:
    """The continuations that task: generate gives, with seed 13."""
    text = PROMPTS_YAML.replace("CAUSAL", str(model)).replace("max_new_tokens: 8", "max_new_tokens: 12")
    prompts = json.dumps([{"messages": prompt} if isinstance(prompt, list) else prompt], ensure_ascii=False)
    code, _, err = nutshell("run", write(text, "generate/prompts.yaml"), f"prompts={prompts}", *words, "--force")
    assert code == 0, err
    rows = read_lines(tmp_path / "outputs" / "generate" / "prompts" / "seed-13" / "samples.jsonl")
    return [row["continuation"] for row in rows]


@pytest.mark.parametrize("prompt", ["Once", "", "猫 und 🐈", HELLO], ids=["text", "empty", "scripts", "chat"])
def test_the_texts_are_those_of_generate(prompt, write, nutshell, tmp_path, talker):
    text, chat = (prompt, ()) if isinstance(prompt, str) else ("Hello", ("--chat",))
    words = ("generation.do_sample=true", "generation.temperature=1.0", "samples_per_prompt=5")
    expected = generated(write, nutshell, tmp_path, talker, prompt, words)
    code, out, err = nutshell("ask", text, "--model", talker, *WORDS, "--seed", 13, "--samples", 5, *chat)
    assert code == 0, err
    assert out == "".join(f"sample {number}:\n{text}\n" for number, text in enumerate(expected, 1))
    assert len(re.findall("tokens?, .* nats per token, |0 tokens, ", err)) == 5


def test_temperature_0_takes_the_most_likely_tokens(write, nutshell, tmp_path, causal):
    (expected,) = generated(write, nutshell, tmp_path, causal["gpt2"], "Once")
    words = ("--model", causal["gpt2"], "--max-new-tokens", 12, "--temperature", 0)
    assert nutshell("ask", "Once", *words)[1] == expected + "\n"


def test_the_same_seed_gives_the_same_text(nutshell, causal):
    texts = {
        seed: {nutshell("ask", "Once", "--model", causal["gpt2"], *WORDS, "--seed", seed)[1] for _ in range(2)}
        for seed in (0, 1)
    }
    assert len(texts[0]) == len(texts[1]) == 1 and texts[0] != texts[1]


@pytest.mark.parametrize("words", [(), ("-",)])
def test_standard_input(words, nutshell, causal, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("Ünce\nupon\n".encode())))
    typed = nutshell("ask", *words, "--model", causal["gpt2"], *WORDS)
    assert typed[0] == 0 and typed == nutshell("ask", "Ünce\nupon", "--model", causal["gpt2"], *WORDS)


def test_without_a_length_it_goes_as_far_as_the_context_reaches(nutshell, causal):
    _, _, err = nutshell("ask", "Once", "--model", causal["gpt2"], "--temperature", 1)
    assert re.search("60 tokens, .* cut at|ended by", err), err


def test_in_python(causal, talker):
    pieces: list[tuple[str, float]] = []
    settings = {"max_new_tokens": 12, "do_sample": True}
    rows = library.ask(
        HELLO,
        str(talker),
        samples=2,
        seed=13,
        generation=settings,
        listen=lambda text, nats: pieces.append((text, nats)),
    )
    assert [row["sample"] for row in rows] == [0, 1] and rows[0]["messages"] == HELLO
    assert [piece for row in rows for piece in row["pieces"]] == pieces


@pytest.mark.parametrize(
    "prompt, more, reason",
    [
        (None, {}, "prompt: expected a text or a list of messages, not null"),
        ([], {}, "prompt: messages: expected a list of at least one {role, content}, not []"),
        (["hi", "you"], {}, "prompt: messages, entry 1: expected a mapping with role and content, not 'hi'"),
        ([{"role": "user"}], {}, "prompt: messages, entry 1: content is missing"),
        ("a\ud800", {}, "prompt 1: is not valid Unicode"),
        ("Once", {"seed": -1}, "seed: should be greater than or equal to 0, not -1"),
        ("Once", {"seed": 2**32}, "seed: should be less than 4294967296, not 4294967296"),
        ("Once", {"samples": 0}, "samples: should be greater than or equal to 1, not 0"),
        ("Once", {"samples": 3}, "samples: without generation.do_sample the 3 texts would be equal"),
        ("Once", {"model": None}, "model.name: expected text, not null"),
        ("Once", {"revision": "main"}, "model.revision: expected a commit of 40 hexadecimal digits"),
        ("Once", {"generation": []}, "generation: expected a mapping, not []"),
        ("Once", {"generation": {"foo": 1}}, "unknown key in generation: 'foo' is not known"),
        ("Once", {"generation": {"max_new_tokens": 0}}, "generation.max_new_tokens: should be greater than or equal"),
        ("Once", {"generation": {"do_sample": True, "temperature": -1}}, "generation.temperature: should be greater"),
        ("Once", {"generation": {"temperature": 0.5}}, "do_sample"),
        ("Once", {"generation": {"min_new_tokens": 61}}, "max_new_tokens: 61 after the 4 tokens"),
        ("Once", {"generation": {"num_beams": 2}, "listen": print}, "generation.num_beams: a beam's tokens are not"),
    ],
)
def test_bad_input_in_python(prompt, more, reason, causal):
    with pytest.raises(library.UserError, match=re.escape(reason)):
        library.ask(prompt, **{"model": str(causal["gpt2"])} | more)


def test_beams_in_python(causal):
    keys = {"num_beams": 2, "max_new_tokens": 4}
    (row,) = library.ask("Once", str(causal["gpt2"]), generation=keys)
    assert row["tokens"] == 4 and row["sample"] is None


SCRIPTS = "Grüße, 猫が好き 👩‍👩‍👧 שלום مرحبا नमस्ते 🇩🇪 e\u0301"


@pytest.mark.parametrize("skip", range(4))
def test_half_a_character_is_never_told(skip):
    from nutshell.data.encoding import vocabularies

    tokenizer = vocabularies.for_transformers(vocabularies.of_bytes(), 64)
    ids = tokenizer(SCRIPTS)["input_ids"]
    ids = ids[: len(ids) - skip]
    told: list[str] = []
    pieces = Pieces(tokenizer, Request("Once", tokenizer("Once")["input_ids"], None), lambda text, _: told.append(text))
    for token in ids:
        pieces.add(token, 1.0)
        assert "\ufffd" not in "".join(told) and SCRIPTS.startswith("".join(told))
    pieces.close()
    assert "".join(told) == tokenizer.decode(ids) and ("\ufffd" in told[-1]) == (skip == 1)


def test_a_leading_space_is_kept():
    """SentencePiece's decoders drop the space that begins a text; a continuation's is not at a beginning."""
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "▁the": 1, "▁cat": 2, "▁sat": 3}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    pieces = Pieces(PreTrainedTokenizerFast(tokenizer_object=raw), Request("the cat", [1, 2], None))
    pieces.add(3, 1.0)
    pieces.close()
    assert pieces.whole == [(" sat", 1.0)]


def test_the_shade_is_the_report_s():
    assert [surprise(nats) for nats in (0, *SURPRISES_NATS, 99)] == [0, 1, 2, 3, 4, 4]


def command(*words) -> list[str]:
    return [sys.executable, "-m", "nutshell", "ask", *map(str, words)]


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm-256color"}


def read_all(file: int) -> str:
    content = b""
    while True:
        try:
            block = os.read(file, 65536)
        except OSError:  # the other end is closed
            block = b""
        if not block:
            return content.decode()
        content += block


def test_a_terminal_gets_shades_and_a_pipe_none(causal):
    words = ("Once", "--model", causal["gpt2"], *WORDS)
    plain = subprocess.run(command(*words), env=environment(), capture_output=True, text=True)
    assert plain.returncode == 0 and "\x1b" not in plain.stdout
    own, theirs = pty.openpty()
    process = subprocess.Popen(command(*words), env=environment(), stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    shown = read_all(own)
    assert process.wait() == 0 and "\x1b[1mOnce" in shown and "48;5;" in shown and "7 and more" in shown


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a file that is always full")
@pytest.mark.parametrize(
    "sink, encoding, reason",
    [
        ("/dev/full", "utf-8", "standard output: cannot be written: No space left on device"),
        ("/dev/null", "ascii", "standard output: its encoding, ascii, has no U+FFFD; set PYTHONIOENCODING=utf-8"),
    ],
)
def test_output_that_takes_no_text(sink, encoding, reason, causal):
    words = ("Once", "--model", causal["gpt2"], *WORDS, "--seed", 1)
    with open(sink, "w") as file:
        process = subprocess.run(
            command(*words), env=environment() | {"PYTHONIOENCODING": encoding}, stdout=file, stderr=subprocess.PIPE
        )
    assert process.returncode == 2 and process.stderr.decode().splitlines() == [f"nutshell: {reason}"]


def test_what_would_move_a_terminal_s_cursor_is_named(capsys, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    printed = Stream("a", answers=False, several=False)
    printed.begin(0)
    printed.add("b\x1b[2Jc\u202e", 9.0)
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out and "b␛[2Jc⟨U+202E⟩" in out


def test_ctrl_c_keeps_what_is_there(tmp_path, causal):
    """The tiny LSTM has no limit of length, and its most likely text no end."""
    words = ("Once", "--model", causal["lstm"], "--max-new-tokens", 100_000, "--temperature", 0)
    process = subprocess.Popen(
        command(*words), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    threading.Timer(100, process.kill).start()
    first = process.stdout.read(1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and first and out.endswith(b"\n") and b"Traceback" not in err
    assert b"nutshell: interrupted" in err


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--samples", "0"], "argument --samples: expected a whole number from 1 on, not 0"),
        (["--samples", "two"], "argument --samples: expected a whole number from 1 on, not two"),
        (["--max-new-tokens", "0"], "argument --max-new-tokens: expected a whole number from 1 on, not 0"),
        (["--temperature", "-1"], "argument --temperature: expected a number from 0 on, not -1"),
        (["--temperature", "nan"], "argument --temperature: expected a number from 0 on, not nan"),
        (["--temperature", "1e-40"], "--temperature: should be greater than or equal to 0.001, not 1e-40"),
        (["--seed", "99999999999"], "argument --seed: expected a whole number up to 4294967295 (2^32 - 1), not 9999"),
        (["--seed", "1.5"], "argument --seed: expected a whole number from 0 on, not 1.5"),
        (["--temperature", "0", "--samples", "2"], "--samples: at --temperature 0 the texts would be equal"),
        (["--max-new-tokens", "61"], '--max-new-tokens: 61 after the 4 tokens of prompt 1 ("Once") do not fit'),
        (["--chat"], "has no chat template (chat_template.jinja)"),
        (["--model", "nowhere"], "--model: nowhere is no folder here"),
        (["--model", "minilm"], "this task runs"),
        (["--model", "smollm2", "--revision", "a" * 40], "--revision: smollm2 is embedded and has no revision"),
        (["again"], "unrecognized arguments: again"),
    ],
)
def test_bad_words(words, reason, nutshell, causal):
    words = [*words] if "--model" in words else ["--model", causal["gpt2"], *words]
    code, out, err = nutshell("ask", "Once", *words)
    assert code == 2 and reason in err and out == ""


def test_bad_standard_input(nutshell, causal, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\xff")))
    code, out, err = nutshell("ask", "--model", causal["gpt2"])
    assert code == 2 and "standard input: not UTF-8 text: byte 0xff" in err and out == ""
    assert "the prompt is not valid Unicode" in nutshell("ask", "a\udcff", "--model", causal["gpt2"])[2]


@pytest.mark.slow
def test_a_real_model(write, nutshell, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", os.path.expanduser("~/.cache/huggingface"))
    try:
        folder = registry.EMBEDDED["smollm2"].folder()
    except library.UserError as error:
        pytest.skip(str(error))
    (row,) = library.ask("The capital of France is", str(folder), generation={"max_new_tokens": 4})
    assert row["continuation"].startswith(" Paris")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    (row,) = library.ask(question, str(folder))
    assert "Paris" in row["continuation"] and row["ended_by"] == "<|im_end|>"
    model, tokenizer = build.load(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    out = model.generate(ids, max_new_tokens=200, do_sample=False, eos_token_id=[0, 2], pad_token_id=0)
    assert row["continuation"] == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    new = out[:, ids.shape[1] :].shape[1] - 1
    with torch.no_grad():
        nats = model.token_nats(out)[0, ids.shape[1] - 1 :][:new]
    assert row["mean_nats"] == pytest.approx(nats.mean().item(), rel=1e-3) and row["tokens"] == new
