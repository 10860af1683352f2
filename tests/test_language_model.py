"""The task language_model from start to end on tiny models: exact figures, resuming, samples."""

import json
import math
import os
import shutil

import numpy
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import set_seed

from nutshell.bits import baselines as compressors
from nutshell.bits import metrics
from nutshell.data import documents, vocabularies
from nutshell.data import windows as blocks
from nutshell.experiment.blocks import TextData
from nutshell.models import find as models
from tests.conftest import TEXT_YAML

TRAINED = TEXT_YAML.replace("max_steps: 2", "max_steps: 12, save_strategy: steps, save_steps: 4").replace(
    "eval_strategy: epoch", "eval_strategy: steps, eval_steps: 4, learning_rate: 1e-3, logging_steps: 1"
)
NEW = "model: {config: {model_type: gpt2, n_embd: 32, n_layer: 1, n_head: 2, n_positions: 32}, tokenizer: bytes}"
SCRATCH = "model: {config: {model_type: scratch, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}, tokenizer: bpe, vocab_size: 280}"
LSTM = "model: {config: {model_type: lstm, embedding_size: 16, hidden_size: 32}, tokenizer: bytes}"
SAMPLES = "samples: [Story, Über]\ngeneration: {max_new_tokens: 6, do_sample: true}\n"
UNTRAINED = TEXT_YAML.replace("max_steps: 2", "num_train_epochs: 0").replace(", eval_strategy: epoch", "")
PLACE = "language_model/text"


def new(model: str, text: str = TEXT_YAML) -> str:
    return text.replace("model: {name: CAUSAL}", model)


@pytest.fixture
def run(write, nutshell, result):
    """Runs an experiment and returns its metrics.json."""

    def _run(text: str, *words) -> dict:
        code, _, err = nutshell("run", write(text, f"{PLACE}.yaml"), *words)
        assert code == 0, err
        return result(PLACE)

    return _run


def one_by_one(model, stream, block: int, stride: int) -> tuple[float, int]:
    """Nats and tokens of a stream, every token scored with its own forward pass over its window's context."""
    nats, count, scored = 0.0, 0, 1
    for start in range(0, len(stream) - 1, stride):
        end = min(start + block + 1, len(stream))
        for place in range(scored, end):
            ids = torch.from_numpy(stream[start : place + 1].astype(numpy.int64))
            with torch.no_grad():
                logits = model(ids[None, :-1]).logits[0, -1]
            nats += cross_entropy(logits.double(), ids[-1]).item()
            count += 1
        scored = max(scored, end)
    return nats, count


@pytest.mark.parametrize("stride", [16, 5, 1])
def test_the_figures_are_those_of_scoring_each_token_by_itself(stride, run, stories, causal):
    text = UNTRAINED.replace("block_tokens: 16", "block_tokens: 16, test_bytes: 200")
    found = run(text, f"evaluation.stride={stride}")
    part = documents.load(TextData(name="text", path=str(stories), test_bytes=200), trains=False).test
    stream = blocks.stream(part, vocabularies.of_bytes())
    nats, count = one_by_one(models.load_causal(causal["gpt2"]).eval(), stream, 16, stride)
    assert found["measured"]["tokens"] == count == len(stream) - 1 == part.size_bytes + len(part)
    assert found["measured"]["bytes"] == part.size_bytes
    assert found["measured"]["nats"] == pytest.approx(nats, rel=1e-6)
    assert found["metrics"]["perplexity"]["value"] == pytest.approx(math.exp(nats / count), rel=1e-6)
    assert found["metrics"]["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / part.size_bytes, rel=1e-6)
    assert found["compressors"] == compressors.bits_per_byte(part.texts)


@pytest.mark.parametrize("name", ["gpt2", "scratch", "lstm"])
def test_the_evaluation_batch_does_not_matter(name, run, causal, tmp_path):
    found, curves = [], []
    for size in (1, 3, 64):
        words = [f"training.per_device_eval_batch_size={size}", f"model.name={causal[name]}", "--force"]
        found.append(run(TRAINED.replace("max_steps: 12", "max_steps: 4"), *words))
        state = json.loads((tmp_path / "outputs" / PLACE / "seed-13" / "trainer_state.json").read_text())
        curves.append([entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry])
    assert len(curves[0]) == 1
    for other in (1, 2):
        assert found[other]["measured"]["nats"] == pytest.approx(found[0]["measured"]["nats"], rel=1e-6)
        assert curves[other] == pytest.approx(curves[0], rel=1e-6)


def test_the_curve_is_of_the_validation_part_and_exact(run, tmp_path, stories):
    run(TRAINED)
    folder = tmp_path / "outputs" / PLACE / "seed-13"
    state = json.loads((folder / "trainer_state.json").read_text())
    last = [entry for entry in state["log_history"] if "eval_loss" in entry][-1]
    part = documents.load(TextData(name="text", path=str(stories)), evaluates=True).validation
    stream = blocks.stream(part, vocabularies.of_bytes())
    nats, count = one_by_one(models.load_causal(folder / "model").eval(), stream, 16, 16)
    assert last["eval_loss"] == pytest.approx(nats / count, rel=1e-5)
    assert last["eval_perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert last["eval_bits_per_byte"] == pytest.approx(nats / math.log(2) / part.size_bytes, rel=1e-5)


@pytest.mark.parametrize("model", [NEW, SCRATCH, LSTM], ids=["gpt2", "scratch", "lstm"])
def test_what_a_new_model_leaves_behind(model, write, nutshell, result, tmp_path):
    code, out, err = nutshell("run", write(new(model, TRAINED) + SAMPLES, f"{PLACE}.yaml"))
    assert code == 0, err
    for words in ("perplexity", "bits_per_byte", "over blocks", "gzip -9", "bzip2 -9", "xz -9e", "test part"):
        assert words in out
    folder, found = tmp_path / "outputs" / PLACE / "seed-13", result(PLACE)
    assert found["training"]["steps"] == 12 and found["training"]["tokens_per_second"] > 0
    assert found["parameters"]["trained"] == found["parameters"]["all"] > 0
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["prompt"]) for row in rows] == [(s, p) for s in (4, 8, 12) for p in ("Story", "Über")]
    assert all(row["tokens"] <= 6 for row in rows)
    again = models.load_causal(folder / "model")
    assert again.config.vocab_size == (280 if "280" in model else 257)
    assert again.config.eos_token_id == again.config.bos_token_id is not None


def test_a_run_s_folder_is_a_checkpoint(run, write, nutshell, tmp_path):
    run(new(NEW, TRAINED))
    home = tmp_path / "outputs" / PLACE
    for place in (home, home / "seed-13", home / "seed-13" / "model"):
        code, _, err = nutshell(
            "run", write(UNTRAINED.replace("CAUSAL", str(place)), "language_model/again.yaml"), "--force"
        )
        assert code == 0, err
    shutil.copytree(home / "seed-13", home / "seed-14")
    code, _, err = nutshell(
        "run", write(UNTRAINED.replace("CAUSAL", str(home)), "language_model/again.yaml"), "--force"
    )
    assert code == 2 and "holds 2 seeds; name one" in err
    (home / "seed-14" / "metrics.json").unlink()
    code, _, err = nutshell(
        "run", write(UNTRAINED.replace("CAUSAL", str(home / "seed-14")), "language_model/again.yaml"), "--force"
    )
    assert code == 2 and "is not complete" in err


def test_measuring_as_it_is_leaves_the_weights_alone(run, causal, tmp_path):
    text = UNTRAINED.replace("epochs: 0", "epochs: 0, eval_strategy: epoch, save_strategy: epoch")
    found = run(text, "training.load_best_model_at_end=true")
    assert found["training"] is None and found["parameters"]["trained"] == 0
    saved = models.load_causal(tmp_path / "outputs" / PLACE / "seed-13" / "model").state_dict()
    for name, tensor in models.load_causal(causal["gpt2"]).state_dict().items():
        assert torch.equal(saved[name], tensor)


def test_the_same_seed_twice_is_the_same_to_the_last_digit(run):
    found = [run(new(NEW, TRAINED), "--force")["measured"]["nats"] for _ in range(2)]
    assert (
        found[0]
        == found[1]
        != run(new(NEW, TRAINED), "--seed", 13, "training.learning_rate=2e-3", "--force")["measured"]["nats"]
    )


def test_accumulation_gives_the_same_training(run, tmp_path):
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        words = [
            f"training.per_device_train_batch_size={batch}",
            f"training.gradient_accumulation_steps={accumulation}",
            "model.config.resid_pdrop=0",
            "model.config.embd_pdrop=0",
            "model.config.attn_pdrop=0",
        ]
        run(new(NEW, TRAINED), *words, "--force")
        state = json.loads((tmp_path / "outputs" / PLACE / "seed-13" / "trainer_state.json").read_text())
        found.append([(entry["loss"], entry["grad_norm"]) for entry in state["log_history"] if "loss" in entry])
    assert len(found[0]) == 12
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("model", [NEW, LSTM], ids=["gpt2", "lstm"])
def test_a_resumed_run_is_the_uninterrupted_one(model, run, write, nutshell, result, tmp_path):
    text = new(model, TRAINED) + SAMPLES
    whole = run(text)
    folder = tmp_path / "outputs" / PLACE / "seed-13"
    weights, samples = ((folder / name).read_bytes() for name in ("model/model.safetensors", "samples.jsonl"))
    for name in ("metrics.json", "checkpoint-8", "checkpoint-12"):  # as if killed after step 8, its samples written
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True) if (folder / name).is_file() else None
    code, _, err = nutshell("run", write(text, f"{PLACE}.yaml"))
    assert code == 0 and "resuming from checkpoint-4" in err
    assert (folder / "model/model.safetensors").read_bytes() == weights
    assert (folder / "samples.jsonl").read_bytes() == samples
    assert result(PLACE)["measured"] == whole["measured"]


def test_an_evaluation_that_is_made_again_is_noted_once(run, write, nutshell, tmp_path):
    text = new(NEW, TRAINED.replace("eval_steps: 4", "eval_steps: 4, eval_on_start: true")) + SAMPLES
    run(text)
    folder = tmp_path / "outputs" / PLACE / "seed-13"
    samples = (folder / "samples.jsonl").read_bytes()
    for name in ("checkpoint-8", "checkpoint-12"):
        shutil.rmtree(folder / name)
    (folder / "metrics.json").unlink()
    assert nutshell("run", write(text, f"{PLACE}.yaml"))[0] == 0
    assert (folder / "samples.jsonl").read_bytes() == samples


def test_samples_of_different_lengths_do_not_see_each_other_s_padding(run, tmp_path):
    text = TEXT_YAML.replace("max_steps: 2", "max_steps: 1")
    word = "generation={max_new_tokens: 8, no_repeat_ngram_size: 1}"
    found = []
    for prompts in ("[Once]", "[Once, A much longer prompt]"):
        run(text, f"samples={prompts}", word, "training.learning_rate=1e-9", "--force")
        file = tmp_path / "outputs" / PLACE / "seed-13" / "samples.jsonl"
        found.append(json.loads(file.read_text(encoding="utf-8").split("\n")[0])["continuation"])
    assert found[0] == found[1]


def test_sinusoids_have_no_last_position(run):
    positions = "positions: sinusoidal, max_position_embeddings: 8, hidden_size: 32"
    assert run(new(SCRATCH.replace("hidden_size: 32", positions)))["measured"]["block_tokens"] == 16


def test_killed_in_the_final_measurement(run, write, nutshell, result, tmp_path):
    whole = run(new(NEW, TRAINED))
    folder = tmp_path / "outputs" / PLACE / "seed-13"
    os.remove(folder / "metrics.json")
    shutil.rmtree(folder / "model")
    assert nutshell("run", write(new(NEW, TRAINED), f"{PLACE}.yaml"))[0] == 0
    assert result(PLACE)["measured"] == whole["measured"] and result(PLACE)["training"]["steps"] == 12


def test_the_best_checkpoint_is_measured(run):
    words = ["training.load_best_model_at_end=true", "training.metric_for_best_model=bits_per_byte"]
    found = run(new(NEW, TRAINED), *words, "training.greater_is_better=false", "training.learning_rate=0.5")
    assert found["training"]["best_checkpoint"] in ("checkpoint-4", "checkpoint-8", "checkpoint-12")


def test_every_position_of_the_context_is_trained(run, tmp_path):
    run(new(NEW.replace("n_positions: 32", "n_positions: 16")))
    after = models.load_causal(tmp_path / "outputs" / PLACE / "seed-13" / "model")
    set_seed(13)
    before = type(after)(after.config)
    moved = (after.transformer.wpe.weight != before.transformer.wpe.weight).any(-1)
    assert moved.tolist() == [True] * 16


@pytest.mark.parametrize("stride", [16, 8, 2, 1])
def test_the_interval_is_over_the_same_blocks_whatever_the_stride(stride):
    tokens = numpy.array([scored for _, _, scored in blocks.windows(numpy.zeros(101), 16, stride).spans])
    nats, counts = metrics.by_block(tokens * 2.0, tokens, 16)
    assert counts.tolist() == [16] * 6 + [4] and nats.tolist() == [32.0] * 6 + [8.0]


def test_weights_are_read_in_full_precision(run, causal, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(causal["gpt2"], dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    for file in causal["gpt2"].glob("token*"):
        shutil.copy(file, tmp_path / "half")
    assert models.load_causal(tmp_path / "half").dtype == torch.float32


def test_show_says_what_the_run_does(run, write, nutshell):
    text = new(SCRATCH, TRAINED)
    code, out, err = nutshell("show", write(text, f"{PLACE}.yaml"))
    found = run(text)
    assert code == 0, err
    assert f"# tokens:   {found['training']['tokens']:,} in training" in out
    assert f"{found['measured']['tokens']:,} measured in {found['measured']['windows']:,} windows" in out
    assert "# steps:    12, each of 4 blocks of 16 tokens: 4 at once x 1 accumulated x 1 process\n" in out
    assert "vocabulary of 280" in out


def test_bits_per_byte_do_not_depend_on_how_many_tokens_spell_a_byte(run):
    """The same bytes are counted for both tokenizers, so their figures can be compared."""
    found = [run(new(model), "--force")["measured"] for model in (NEW, SCRATCH)]
    assert found[0]["bytes"] == found[1]["bytes"] and found[0]["tokens"] > found[1]["tokens"]
