"""The task language_model from start to end on tiny models: exact figures, resuming, samples."""

import json
import math
import os
import re
import shutil
from itertools import chain

import numpy
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2LMHeadModel, set_seed

from nutshell import library
from nutshell.bits.baselines import compressors
from nutshell.bits.figures import units
from nutshell.data.datasets import TextData
from nutshell.data.encoding import vocabularies
from nutshell.data.text import documents, windows
from nutshell.models.language import build
from tests.conftest import TEXT_YAML

TRAINED = TEXT_YAML.replace("max_steps: 2", "max_steps: 12, save_strategy: steps, save_steps: 4").replace(
    "eval_strategy: epoch", "eval_strategy: steps, eval_steps: 4, learning_rate: 1e-3, logging_steps: 1"
)
TRAINED += "keep_checkpoints: true\n"
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
    outcome = run(text, f"evaluation.stride={stride}")
    part = documents.load(TextData(name="text", path=str(stories), test_bytes=200), trains=False, evaluates=False).test
    stream = windows.stream(part, vocabularies.of_bytes())
    nats, count = one_by_one(build.load(causal["gpt2"]).eval(), stream, 16, stride)
    assert outcome["facts"]["tokens measured"] == count == len(stream) - 1 == part.size_bytes + len(part)
    assert outcome["facts"]["bytes measured"] == part.size_bytes
    assert outcome["facts"]["nats measured"] == pytest.approx(nats, rel=1e-6)
    assert outcome["metrics"]["perplexity"]["value"] == pytest.approx(math.exp(nats / count), rel=1e-6)
    assert outcome["metrics"]["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / part.size_bytes, rel=1e-6)
    assert outcome["baseline"] == {"bits_per_byte": compressors.bits_per_byte(part.documents)}


STARTED = 188  # the id of byte 0, which no story has
LM_EVAL = {"documents": "separate", "count_ends": False, "last_window": "full"}


def plain_windows(rows, start: int, end: int, block: int, stride: int, documents, count_ends, last_window):
    """(context, targets) of each window, written out: lists of ids; targets None where nothing is scored."""
    around = [[(start, False), *((token, True) for token in ids), (end, count_ends)] for ids in rows]
    if start == end:  # one token between two documents: the end of the first
        around = around[:1] + [one[1:] for one in around[1:]] if documents == "joined" else around
    for text in [[*chain(*around)]] if documents == "joined" else around:
        text = text if count_ends else text[:-1]
        ids, target = [token for token, _ in text], [token if counts else None for token, counts in text]
        done = 1
        while done < len(ids):
            last = min(len(ids), block + 1 if done == 1 else done + stride)
            first = 0 if done == 1 else last - block - 1
            if last_window == "short" and done > 1:
                first = done - (block - stride) - 1  # where it would begin if the text went on
            yield ids[first : last - 1], target[done:last]
            done = last


@pytest.mark.parametrize(("start", "stride"), [(256, 5), (STARTED, 16)], ids=["one token", "two tokens"])
@pytest.mark.parametrize("last_window", ["short", "full"])
@pytest.mark.parametrize("count_ends", [True, False])
@pytest.mark.parametrize("documents", ["joined", "separate"])
def test_every_way_to_measure_against_plain_logits(
    documents, count_ends, last_window, stride, start, nutshell, run, write, causal, tmp_path
):
    """In fp64 from transformers' own class; the scores of `nutshell score` are of the same windows."""
    texts = ["Ein kurzer Satz.", "猫", "It rained.  " * 3, "x " * 24, "né\u3000猫"]
    folder = shutil.copytree(causal["gpt2"], tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": start}))
    (tmp_path / "a.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts), encoding="utf-8")
    settings = {"stride": stride, "documents": documents, "count_ends": count_ends, "last_window": last_window}
    words = [f"model.name={folder}", f"data.path={tmp_path / 'a.csv'}", "data.column=text"]
    outcome = run(UNTRAINED, *words, f"evaluation={json.dumps(settings)}")
    model = GPT2LMHeadModel.from_pretrained(folder).double().eval()
    rows = [encoding.ids for encoding in vocabularies.of_bytes().tokenizer.encode_batch_fast(texts)]

    def nats_of(rows, documents) -> tuple[float, int]:
        nats, count = 0.0, 0
        for fed, targets in plain_windows(rows, start, 256, 16, stride, documents, count_ends, last_window):
            with torch.no_grad():
                logits = model(torch.tensor([fed])).logits[0, -len(targets) :].log_softmax(-1)
            scored = [(place, token) for place, token in enumerate(targets) if token is not None]
            nats -= sum(logits[place, token].item() for place, token in scored)
            count += len(scored)
        return nats, count

    nats, count = nats_of(rows, documents)
    size, number = sum(len(text.encode()) for text in texts), sum(len(re.split(r"\s+", text)) for text in texts)
    facts = [outcome["facts"][f"{unit} measured"] for unit in ("tokens", "bytes", "words")]
    assert facts == [count, size, number] and count == size + len(texts) * count_ends
    expected = {"bits_per_byte": nats / math.log(2) / size, "perplexity": math.exp(nats / count)}
    expected |= {"word_perplexity": math.exp(nats / number), "byte_perplexity": math.exp(nats / size)}
    figures = {name: figure["value"] for name, figure in outcome["metrics"].items()}
    assert [*figures] == ["bits_per_byte", "perplexity", "word_perplexity", "byte_perplexity"]
    for name, value in expected.items():  # the logarithm of a perplexity is what has a relative precision
        ours, theirs = (math.log(one) if "perplexity" in name else one for one in (figures[name], value))
        assert ours == pytest.approx(theirs, rel=1e-6), name
    columns = units.read(tmp_path / "outputs" / PLACE / "seed-13").columns
    assert [columns[name].sum() for name in ("tokens", "bytes", "words")] == facts
    scores = library.load(tmp_path / "outputs" / PLACE).score([*texts, ""])
    alone = [nats_of([ids], "separate")[0] for ids in rows]
    ends = [0.0] * len(rows) if not count_ends else scores.get("end_of_text_nats")[:-1]
    assert ("end_of_text_nats" in scores) == count_ends
    assert [nats + end for nats, end in zip(scores["nats"][:-1], ends, strict=True)] == pytest.approx(alone, rel=1e-6)
    assert scores["nats"][-1] == scores["tokens"][-1] == 0


def test_the_figure_of_lm_evaluation_harness_does_not_depend_on_the_batch(run, causal):
    nats = []
    for size in (1, 3, 64):
        words = [f"evaluation={json.dumps(LM_EVAL)}", f"training.per_device_eval_batch_size={size}", "--force"]
        nats.append(run(UNTRAINED, *words)["facts"]["nats measured"])
    assert nats == pytest.approx([nats[0]] * 3, rel=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "scratch", "lstm"])
def test_the_evaluation_batch_does_not_matter(name, run, causal, tmp_path):
    outcomes, curves = [], []
    for size in (1, 3, 64):
        words = [f"training.per_device_eval_batch_size={size}", f"model.name={causal[name]}", "--force"]
        outcomes.append(run(TRAINED.replace("max_steps: 12", "max_steps: 4"), *words))
        state = json.loads((tmp_path / "outputs" / PLACE / "seed-13" / "trainer_state.json").read_text())
        curves.append([entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry])
    assert len(curves[0]) == 1
    for other in (1, 2):
        assert outcomes[other]["facts"]["nats measured"] == pytest.approx(
            outcomes[0]["facts"]["nats measured"], rel=1e-6
        )
        assert curves[other] == pytest.approx(curves[0], rel=1e-6)


def test_the_curve_is_of_the_validation_part_and_exact(run, tmp_path, stories):
    run(TRAINED)
    folder = tmp_path / "outputs" / PLACE / "seed-13"
    state = json.loads((folder / "trainer_state.json").read_text())
    last = [entry for entry in state["log_history"] if "eval_loss" in entry][-1]
    part = documents.load(TextData(name="text", path=str(stories)), trains=True, evaluates=True).validation
    stream = windows.stream(part, vocabularies.of_bytes())
    nats, count = one_by_one(build.load(folder / "model").eval(), stream, 16, 16)
    assert last["eval_loss"] == pytest.approx(nats / count, rel=1e-5)
    assert last["eval_perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert last["eval_bits_per_byte"] == pytest.approx(nats / math.log(2) / part.size_bytes, rel=1e-5)


@pytest.mark.parametrize("model", [NEW, SCRATCH, LSTM], ids=["gpt2", "scratch", "lstm"])
def test_what_a_new_model_leaves_behind(model, write, nutshell, result, tmp_path):
    code, out, err = nutshell("run", write(new(model, TRAINED) + SAMPLES, f"{PLACE}.yaml"))
    assert code == 0, err
    for words in ("perplexity", "bits_per_byte", "stretches of text", "worse than", "test part"):
        assert words in out
    folder, outcome = tmp_path / "outputs" / PLACE / "seed-13", result(PLACE)
    compressors = outcome["baseline"]["bits_per_byte"]
    assert set(compressors) == {"gzip -9", "bzip2 -9", "xz -9e"} and min(compressors, key=compressors.get) in out
    assert outcome["training"]["steps"] == 12 and outcome["training"]["tokens_per_second"] > 0
    assert outcome["parameters"]["trained"] == outcome["parameters"]["all"] > 0
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["prompt"]) for row in rows] == [(s, p) for s in (4, 8, 12) for p in ("Story", "Über")]
    assert all(row["tokens"] <= 6 for row in rows)
    config = build.load(folder / "model").config
    assert config.vocab_size == (280 if "280" in model else 257)
    assert config.eos_token_id == config.bos_token_id is not None


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
    outcome = run(text, "training.load_best_model_at_end=true")
    assert outcome["training"] is None and outcome["parameters"]["trained"] == 0
    saved = build.load(tmp_path / "outputs" / PLACE / "seed-13" / "model").state_dict()
    for name, tensor in build.load(causal["gpt2"]).state_dict().items():
        assert torch.equal(saved[name], tensor)


def test_the_same_seed_twice_is_the_same_to_the_last_digit(run):
    nats = [run(new(NEW, TRAINED), "--force")["facts"]["nats measured"] for _ in range(2)]
    other = run(new(NEW, TRAINED), "training.learning_rate=2e-3", "--force")["facts"]["nats measured"]
    assert nats[0] == nats[1] != other


def test_accumulation_gives_the_same_training(run, tmp_path):
    curves = []
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
        curves.append([(entry["loss"], entry["grad_norm"]) for entry in state["log_history"] if "loss" in entry])
    assert len(curves[0]) == 12
    for one, other in zip(*curves, strict=True):
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
    assert code == 0 and "resumes from checkpoint-4" in err
    assert (folder / "model/model.safetensors").read_bytes() == weights
    assert (folder / "samples.jsonl").read_bytes() == samples
    assert result(PLACE)["facts"] == whole["facts"]


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
    continuations = []
    for prompts in ("[Once]", "[Once, A much longer prompt]"):
        run(text, f"samples={prompts}", word, "training.learning_rate=1e-9", "--force")
        file = tmp_path / "outputs" / PLACE / "seed-13" / "samples.jsonl"
        continuations.append(json.loads(file.read_text(encoding="utf-8").split("\n")[0])["continuation"])
    assert continuations[0] == continuations[1]


def test_sinusoids_have_no_last_position(run):
    positions = "positions: sinusoidal, max_position_embeddings: 8, hidden_size: 32"
    assert run(new(SCRATCH.replace("hidden_size: 32", positions)))["facts"]["stride, tokens"] == 16


def test_killed_in_the_final_measurement(run, write, nutshell, result, tmp_path):
    whole = run(new(NEW, TRAINED))
    folder = tmp_path / "outputs" / PLACE / "seed-13"
    os.remove(folder / "metrics.json")
    shutil.rmtree(folder / "model")
    assert nutshell("run", write(new(NEW, TRAINED), f"{PLACE}.yaml"))[0] == 0
    assert result(PLACE)["facts"] == whole["facts"] and result(PLACE)["training"]["steps"] == 12


def test_the_best_checkpoint_is_measured(run):
    words = ["training.load_best_model_at_end=true", "training.metric_for_best_model=bits_per_byte"]
    outcome = run(new(NEW, TRAINED), *words, "training.greater_is_better=false", "training.learning_rate=0.5")
    assert outcome["training"]["best_checkpoint"] in ("checkpoint-4", "checkpoint-8", "checkpoint-12")


def test_every_position_of_the_context_is_trained(run, tmp_path):
    run(new(NEW.replace("n_positions: 32", "n_positions: 16")))
    after = build.load(tmp_path / "outputs" / PLACE / "seed-13" / "model")
    set_seed(13)
    before = type(after)(after.config)
    moved = (after.transformer.wpe.weight != before.transformer.wpe.weight).any(-1)
    assert moved.tolist() == [True] * 16


def test_the_units_are_the_same_stretches_whatever_the_stride(run, tmp_path):
    """So that intervals and comparisons of two strides are over the same text."""
    tables = []
    for stride in (16, 5, 1):
        outcome = run(UNTRAINED, f"evaluation.stride={stride}", "--force")
        stretches = units.read(tmp_path / "outputs" / PLACE / "seed-13")
        assert stretches.kind == outcome["evaluated_on"]["units"] == "stretches of text"
        assert len(stretches) == outcome["evaluated_on"]["count"] > 1
        assert stretches.columns["nats"].sum() == pytest.approx(outcome["facts"]["nats measured"], rel=1e-12)
        tables.append([stretches.columns[name].tolist() for name in ("document", "start_byte", "bytes", "tokens")])
    assert tables[0] == tables[1] == tables[2]


def test_weights_are_read_in_full_precision(run, causal, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(causal["gpt2"], dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    for file in causal["gpt2"].glob("token*"):
        shutil.copy(file, tmp_path / "half")
    assert build.load(tmp_path / "half").dtype == torch.float32


def test_show_says_what_the_run_does(run, write, nutshell):
    text = new(SCRATCH, TRAINED)
    code, out, err = nutshell("show", write(text, f"{PLACE}.yaml"))
    outcome = run(text)
    assert code == 0, err
    assert f"# tokens:   {outcome['training']['tokens']:,} in training" in out
    assert f"{outcome['facts']['tokens measured']:,} measured in {outcome['facts']['windows']:,} windows" in out
    assert "# steps:    12, each of 4 blocks of 16 tokens: 4 at once x 1 accumulated x 1 process\n" in out
    assert "vocabulary of 280" in out


def test_bits_per_byte_do_not_depend_on_how_many_tokens_spell_a_byte(run):
    """The same bytes are counted for both tokenizers, so their figures can be compared."""
    outcomes = [run(new(model), "--force")["facts"] for model in (NEW, SCRATCH)]
    assert outcomes[0]["bytes measured"] == outcomes[1]["bytes measured"]
    assert outcomes[0]["tokens measured"] > outcomes[1]["tokens measured"]
