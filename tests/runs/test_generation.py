"""The task generate on tiny models: what a text depends on, what is left behind, which keys do what."""

import json
import re

import pytest
import torch
from transformers import GenerationConfig

from nutshell.bits.figures.statistics import distinct_1, repetition_4
from nutshell.experiment import generation_keys
from nutshell.machine.files import read_json, read_lines
from nutshell.models.language import build
from nutshell.models.language.causal import Draw
from tests.conftest import PROMPTS_YAML

SAMPLED = PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, do_sample: true") + "samples_per_prompt: 3\n"
PLACE = "generate/prompts"
ALL = pytest.mark.parametrize("name", ["gpt2", "scratch", "lstm"])


@pytest.fixture
def run(write, nutshell, tmp_path):
    """Runs an experiment and returns the rows of its samples.jsonl."""

    def _run(text: str, *words) -> list[dict]:
        code, _, err = nutshell("run", write(text, f"{PLACE}.yaml"), *words, "--force")
        assert code == 0, err
        file = tmp_path / "outputs" / PLACE / "seed-13" / "samples.jsonl"
        return read_lines(file)

    return _run


def texts(rows: list[dict]) -> list:
    return [(row["prompt"], row["sample"], row["continuation"], row["tokens"], row["ended"]) for row in rows]


@ALL
def test_the_same_texts_in_batches_of_1_4_and_16(name, run, causal):
    batches = [
        run(SAMPLED, "greedy=true", f"model.name={causal[name]}", f"training.per_device_eval_batch_size={size}")
        for size in (1, 4, 16)
    ]
    assert texts(batches[0]) == texts(batches[1]) == texts(batches[2])
    assert len(batches[0]) == 16 and len({row["continuation"] for row in batches[0]}) > 8
    for one, other in zip(batches[0], batches[2], strict=True):
        assert (one["mean_nats"] or 0) == pytest.approx(other["mean_nats"] or 0, rel=1e-4)


@ALL
def test_greedy_is_stock_greedy_one_by_one(name, run, causal):
    model = build.load(causal[name]).eval()
    rows = run(PROMPTS_YAML, f"model.name={causal[name]}")
    for row in rows:
        ids = torch.tensor([[*encode(row["prompt"])]])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=256
        )
        new = out[0, ids.shape[1] :].tolist()
        new = new[: new.index(256)] if 256 in new else new
        assert row["tokens"] == len(new) and row["ended"] == ("cut" if len(new) == 8 else "finished")
        assert row["sample"] is None
        with torch.no_grad():
            costs = model.token_nats(out)[0, ids.shape[1] - 1 :][: len(new)]
        if new:
            assert row["mean_nats"] == pytest.approx(costs.mean().item(), rel=1e-4)


def encode(prompt: str) -> list[int]:
    from nutshell.data.encoding import vocabularies

    return vocabularies.of_bytes().tokenizer.encode(prompt).ids or [256]


def test_a_text_depends_on_prompt_and_seed_and_not_on_its_neighbours(run, nutshell, tmp_path):
    all_of_them = {(row["prompt"], row["sample"]): row["continuation"] for row in run(SAMPLED)}
    some = run(SAMPLED, "prompts=[The cat sat on, Once]", "samples_per_prompt=2")
    for row in some:
        assert row["continuation"] == all_of_them[row["prompt"], row["sample"]]
    nutshell("run", tmp_path / "experiments" / f"{PLACE}.yaml", "--seed", 14)
    other = (tmp_path / "outputs" / PLACE / "seed-14" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["continuation"] for line in other] != list(all_of_them.values())


def test_what_is_left_behind(write, nutshell, result, tmp_path):
    code, out, err = nutshell("run", write(SAMPLED, f"{PLACE}.yaml"), "greedy=true")
    assert code == 0, err
    outcome = result(PLACE)
    rows = [
        json.loads(line)
        for line in (tmp_path / "outputs" / PLACE / "seed-13" / "samples.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    prompts = ["Once", "The cat sat on", "", "A long prompt of more words"]
    assert [(row["prompt"], row["sample"]) for row in rows] == [(p, s) for p in prompts for s in (None, 0, 1, 2)]
    tokens = sum(row["tokens"] for row in rows)
    assert outcome["evaluation"]["tokens"] == tokens and outcome["evaluation"]["tokens_per_second"] > 0
    nats = sum(row["mean_nats"] * row["tokens"] for row in rows if row["tokens"])
    assert outcome["metrics"]["mean_nats"]["value"] == pytest.approx(nats / tokens, rel=1e-4)
    assert set(outcome["metrics"]) == {"mean_nats", "distinct_1", "distinct_2", "repetition"}
    assert "sample 3, 8 tokens" in out and "The cat sat on" in out and "16 continuations of 4 prompts" in out
    assert not any("<|endoftext|>" in row["continuation"] for row in rows)
    code, out, err = nutshell("run", tmp_path / "experiments" / f"{PLACE}.yaml", "greedy=true")
    assert code == 0 and "complete, nothing to run" in err and "The cat sat on" in out


def test_odd_line_separators_in_prompts_and_texts(run, nutshell, tmp_path):
    odd = PROMPTS_YAML.replace("[Once, The cat sat on,", r'["One\x85two", "a\u2028b",')
    rows = run(odd)
    assert [row["prompt"] for row in rows[:2]] == ["One\x85two", "a\u2028b"]
    file = tmp_path / "experiments" / f"{PLACE}.yaml"
    code, _, err = nutshell("run", file)
    assert code == 0 and "complete, nothing to run" in err
    (tmp_path / "odd.txt").write_text("A\u2028B\x0cC\r\n", encoding="utf-8", newline="")
    assert [row["prompt"] for row in run(PROMPTS_YAML, f"prompts={tmp_path / 'odd.txt'}")] == ["A\u2028B\x0cC"]


def test_a_text_that_stops_with_its_last_token_is_finished(run):
    rows = run(PROMPTS_YAML)
    first = next(row for row in rows if row["continuation"] and row["continuation"][0] != "\ufffd")
    words = [f"generation.stop_strings={json.dumps([first['continuation'][0]])}", "generation.max_new_tokens=1"]
    again = next(row for row in run(PROMPTS_YAML, *words) if row["prompt"] == first["prompt"])
    assert again["ended"] == "finished" and again["tokens"] == 1


def test_prompts_from_a_file(run, tmp_path, nutshell, write):
    file = tmp_path / "prompts.txt"
    file.write_text("Once\n\nThe cat sat on\n", encoding="utf-8")
    named = run(PROMPTS_YAML, f"prompts={file}")
    assert [row["prompt"] for row in named] == ["Once", "The cat sat on"]
    assert texts(named) == texts(run(PROMPTS_YAML))[:2]


def ends(causal, folder, strength: float):
    """A checkpoint for which the end of text is likely everywhere."""
    model = build.load(causal["gpt2"])
    with torch.no_grad():
        model.transformer.ln_f.bias += strength * model.transformer.wte.weight[256]
    model.save_pretrained(folder)
    for file in causal["gpt2"].glob("token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_text_is_cut_at_its_end(run, causal, tmp_path):
    rows = run(SAMPLED, f"model.name={ends(causal, tmp_path / 'ends', 30)}")
    assert all(row["ended"] == "finished" and row["tokens"] < 8 for row in rows)
    assert all(row["mean_nats"] is None for row in rows if row["tokens"] == 0)
    assert any(row["tokens"] == 0 for row in rows)


def test_nothing_divided_by_nothing_is_no_figure(run, causal, nutshell, tmp_path):
    rows = run(PROMPTS_YAML, f"model.name={ends(causal, tmp_path / 'ends', 1000)}")
    assert {row["tokens"] for row in rows} == {0}
    outputs = tmp_path / "outputs" / PLACE
    figures = read_json(outputs / "seed-13" / "metrics.json")["metrics"]
    assert {name: figure["value"] for name, figure in figures.items()} == dict.fromkeys(
        ("mean_nats", "distinct_1", "distinct_2", "repetition")
    )
    assert nutshell("report", outputs)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        "temperature: 0.5",
        "top_k: 3",
        "top_p: 0.4",
        "min_p: 0.3",
        "top_h: 0.3",
        "typical_p: 0.3",
        "epsilon_cutoff: 0.02",
        "eta_cutoff: 0.02",
        "repetition_penalty: 3.0",
        "no_repeat_ngram_size: 1",
        "suppress_tokens: [101, 32, 97]",
        "bad_words_ids: [[101], [32]]",
        "begin_suppress_tokens: [101, 32]",
        "remove_invalid_values: true",
        "renormalize_logits: true",
        "use_cache: false",
    ],
)
def test_every_key_of_sampling_works_in_any_batch(words, run):
    text = SAMPLED.replace("do_sample: true", f"do_sample: true, {words}")
    batches = [run(text, "greedy=true", f"training.per_device_eval_batch_size={size}") for size in (1, 16)]
    assert texts(batches[0]) == texts(batches[1])
    same = texts(batches[0]) == texts(run(SAMPLED, "greedy=true"))
    assert same == (words.split(":")[0] in ("remove_invalid_values", "renormalize_logits", "use_cache"))


@pytest.mark.parametrize("size", [1, 16])
def test_no_text_ends_before_min_new_tokens(size, run, causal, tmp_path):
    words = ["greedy=true", f"model.name={ends(causal, tmp_path / 'ends', 30)}"]
    words += [f"training.per_device_eval_batch_size={size}"]
    assert min(row["tokens"] for row in run(SAMPLED, *words)) < 4
    rows = run(SAMPLED, *words, "generation.min_new_tokens=4")
    assert {row["tokens"] for row in rows} <= set(range(4, 9)) and 4 in {row["tokens"] for row in rows}


@pytest.mark.parametrize("size", [1, 16])
def test_a_text_ends_with_its_first_stop_string(size, run):
    words = ["greedy=true", f"training.per_device_eval_batch_size={size}"]
    whole = [row["continuation"] for row in run(SAMPLED, *words)]
    signs = sorted({sign for text in whole for sign in text if sign.isalpha() and sign.isascii()})[:2]
    rows = run(SAMPLED, *words, f"generation.stop_strings={json.dumps(signs)}")
    first = [min((at for sign in signs if (at := text.find(sign)) >= 0), default=len(text)) for text in whole]
    assert [row["continuation"] for row in rows] == [text[: at + 1] for text, at in zip(whole, first, strict=True)]
    assert [row["ended_by"] in signs for row in rows] == [at < len(text) for text, at in zip(whole, first, strict=True)]
    assert any(row["ended_by"] in signs for row in rows)


@pytest.mark.parametrize(
    "words", ["num_beams: 3", "num_beams: 3, early_stopping: true", "num_beams: 2, length_penalty: 2.0"]
)
def test_beams_work_in_any_batch(words, run):
    text = PROMPTS_YAML.replace("max_new_tokens: 8", f"max_new_tokens: 8, {words}")
    batches = [run(text, f"training.per_device_eval_batch_size={size}") for size in (1, 4)]
    assert texts(batches[0]) == texts(batches[1]) != texts(run(PROMPTS_YAML))


def test_every_key_of_generation_config_is_either_taken_or_refused():
    internal = {"_from_model_config", "extra_output_flags"}
    known = {key for key in vars(GenerationConfig()) if not key.startswith("_")} - internal
    assert set(generation_keys.KEYS) | set(generation_keys.REFUSED) >= known
    assert set(generation_keys.KEYS) <= known and not set(generation_keys.KEYS) & set(generation_keys.REFUSED)


def test_draws_follow_the_distribution():
    """20,000 draws of evenly spread numbers hit each token as often as its probability says."""
    scores = torch.tensor([0.1, 0.2, 0.0, 0.7]).log().expand(20_000, 4)
    numbers = (torch.arange(20_000, dtype=torch.float64)[:, None] + 0.5) / 20_000
    drawn = Draw(numbers, prompt_tokens=3)(torch.zeros(20_000, 3, dtype=torch.long), scores)
    assert (drawn == 0).sum(-1).unique().tolist() == [1] and (drawn == -torch.inf).sum(-1).unique().tolist() == [3]
    shares = torch.bincount(drawn.argmax(-1), minlength=4) / 20_000
    assert shares.tolist() == pytest.approx([0.1, 0.2, 0.0, 0.7], abs=1e-4)


def test_a_draw_at_either_end_is_a_token_that_can_be():
    scores = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, 4)
    numbers = torch.tensor([[0.0], [1.0 - 2**-53]], dtype=torch.float64)
    assert Draw(numbers, 1)(torch.zeros(2, 1), scores).argmax(-1).tolist() == [1, 2]


def test_repetition_is_measured_over_the_texts(run, result):
    rows = run(PROMPTS_YAML)
    metrics = result(PLACE)["metrics"]
    ids = [encode(row["continuation"]) if row["tokens"] else [] for row in rows]
    if all("\ufffd" not in row["continuation"] for row in rows):
        assert metrics["distinct_1"]["value"] == pytest.approx(distinct_1(ids))
        assert metrics["repetition"]["value"] == pytest.approx(repetition_4(ids))


def test_show_counts_continuations(write, nutshell):
    code, out, err = nutshell("show", write(SAMPLED, f"{PLACE}.yaml"), "greedy=true")
    assert code == 0, err
    assert "# prompts:  4, 16 continuations of at most 8 tokens" in out
    assert re.search("per_device_eval_batch_size: 8 +# default", out)
