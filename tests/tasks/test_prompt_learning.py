"""What a prompted model learns from few labels: its laws, what is saved, the baselines by hand, and what is refused."""

import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from nutshell.bits.figures import units
from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.data.text.templates import Template
from nutshell.experiment.few_labels import Adapter
from nutshell.machine import checkpoints
from nutshell.machine.errors import UserError
from nutshell.report.results.result import read_result
from tests.machine.test_launch import LAUNCH, finish
from tests.models.language import tiny
from tests.tasks.test_prompt import prompts_of

LORA = "adapter: {kind: lora, examples: 16, rank: 2, alpha: 4}\n"
SOFT = "adapter: {kind: soft_prompt, examples: 16, tokens: 5, text: Good or bad}\n"
ADAPTERS = {"lora": LORA, "soft_prompt": SOFT}
YAML = """\
task: prompt
seeds: [13]
model: {name: CAUSAL}
data: {name: sample_reviews, max_tokens: 16}
prompt:
  templates: ["{text}: it is"]
  answers: {negative: " bad", positive: " fine"}
training: {per_device_eval_batch_size: 8}
"""
TRAINING = (
    "training: {max_steps: 6, learning_rate: 1e-2, per_device_train_batch_size: 4, gradient_accumulation_steps: 1, "
    "per_device_eval_batch_size: 8, logging_steps: 1}\n"
)


def text_of(kind: str) -> str:
    return YAML.replace("training: {per_device_eval_batch_size: 8}\n", TRAINING) + ADAPTERS[kind]


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A tiny model without dropout."""
    return tiny.make("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def run(write, nutshell, tmp_path, llama):
    """Runs an experiment with overrides; its seed's folder."""

    def _run(text: str, *overrides: str, name: str = "reviews") -> Path:
        text = text.replace("CAUSAL", str(llama))
        code, _, errors = nutshell("run", write(text, f"prompts/{name}.yaml"), *overrides)
        assert code == 0, errors
        return tmp_path / "outputs/prompts" / name / "seed-13"

    return _run


def history(folder: Path) -> list[dict]:
    entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{key: entry[key] for key in ("loss", "grad_norm", "step")} for entry in entries if "loss" in entry]


def saved(folder: Path) -> bytes:
    return (folder / "adapter/adapter_model.safetensors").read_bytes()


def prompts(llama):
    return prompts_of(llama, Template("{text}: it is", (" bad", " fine")), max_tokens=16)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_loss_is_the_right_answers_nats_over_their_tokens(kind, run, llama):
    """Before the first step low-rank adapters change nothing, and a soft prompt is its text's own vectors."""
    import torch

    from nutshell.models.language import build

    # One step over all 16 examples; answers of 4 and 5 byte tokens.
    folder = run(text_of(kind), "training.max_steps=1", "training.per_device_train_batch_size=16")
    parts = labelled.load(LabelledData(name="sample_reviews"))
    asked, model = prompts(llama), build.load(llama).eval()
    embed, vectors = model.get_input_embeddings(), torch.zeros(0, 32)
    if kind == "soft_prompt":
        text = asked.tokenizer.encode("Good or bad", add_special_tokens=False).ids[:5]
        vectors = embed.weight[torch.tensor(text)].detach()
    nats, tokens, drawn = 0.0, 0, parts.draw(16, 13, "adapter.examples")
    for (prompt,), label in zip(asked.rows(drawn.texts), drawn.labels, strict=True):
        ids = torch.tensor([*prompt.tolist(), *asked.answers[0][label]])
        count = len(asked.answers[0][label])
        with torch.no_grad():
            inputs = torch.cat([vectors, embed(ids)])[None]
            log_p = model(inputs_embeds=inputs).logits[0, len(vectors) :].double().log_softmax(-1)
        nats -= sum(float(log_p[place - 1, ids[place]]) for place in range(len(ids) - count, len(ids)))
        tokens += count
    assert [len(ids) for ids in asked.answers[0]] == [4, 5]
    assert history(folder)[0]["loss"] == pytest.approx(nats / tokens, rel=1e-4)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_however_a_step_is_divided(kind, run):
    """4 x 1 = 2 x 2 = 1 x 4."""
    folders = [
        run(
            text_of(kind),
            f"training.per_device_train_batch_size={batch}",
            f"training.gradient_accumulation_steps={4 // batch}",
            name=f"by{batch}",
        )
        for batch in (4, 2, 1)
    ]
    first, *others = [history(folder) for folder in folders]
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert theirs == pytest.approx(ours, rel=2e-3)
    answers = [units.read(folder).columns["nats"] for folder in folders]
    assert numpy.allclose(answers[1], answers[0], rtol=1e-2) and numpy.allclose(answers[2], answers[0], rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ADAPTERS)
def test_two_processes_as_one(kind, run, write, llama, tmp_path):
    """Of 6 examples, so that dummies fill up each epoch's last batch."""
    text = text_of(kind).replace("examples: 16", "examples: 6").replace("CAUSAL", str(llama))
    one = run(text, "training.per_device_train_batch_size=4", name="one")
    file = write(text, "prompts/two.yaml")
    words = ("run", file, "training.per_device_train_batch_size=2", "--output", tmp_path / "outputs")
    finish([*LAUNCH, "--num_processes", "2", "-m", "nutshell"], *words)
    two = tmp_path / "outputs/prompts/two/seed-13"
    assert numpy.allclose(units.read(one).columns["nats"], units.read(two).columns["nats"], rtol=1e-2, atol=1e-3)
    for ours, theirs in zip(history(one), history(two), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=2e-3)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_run_that_was_ended_resumes_bit_for_bit(kind, write, nutshell, run, llama, tmp_path, monkeypatch):
    from nutshell.runs.trainer.adapter import AdapterTrainer

    text = text_of(kind).replace("CAUSAL", str(llama)) + "keep_checkpoints: true\n"
    whole = run(text, name="whole")
    stock, left = AdapterTrainer.training_step, [3]

    def step(self, *args, **kwargs):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, "training_step", step)
    file = write(text, "prompts/reviews.yaml")
    assert nutshell("run", file)[0] == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/prompts/reviews/seed-13"
    assert checkpoints.newest(folder).name == "checkpoint-3"
    code, _, errors = nutshell("run", file)
    assert code == 0 and "resumes from checkpoint-3" in errors
    assert saved(folder) == saved(whole)
    for name, column in units.read(whole).columns.items():
        assert numpy.array_equal(column, units.read(folder).columns[name]), name
    (folder / "metrics.json").unlink()  # of a training that is finished, what was trained is measured again
    assert nutshell("run", file)[0] == 0
    assert numpy.array_equal(units.read(whole).columns["nats"], units.read(folder).columns["nats"])
    assert read_result(folder).training.steps == 6


@pytest.mark.parametrize("kind", ADAPTERS)
def test_what_is_saved_is_what_was_measured(kind, run, llama, nutshell, tmp_path):
    """By peft's own classes, unmerged and without a cache; the adapter names no folder of this machine's cache."""
    import torch
    from peft import PeftModel

    from nutshell.models.language import build

    folder = run(text_of(kind))
    parts = labelled.load(LabelledData(name="sample_reviews"))
    asked, columns = prompts(llama), units.read(folder).columns
    adapted = PeftModel.from_pretrained(build.load(llama), folder / "adapter").eval()
    before = 5 if kind == "soft_prompt" else 0
    for row in (0, 7, 40):
        scores = []
        for answer in asked.answers[0]:
            ids = torch.tensor([[*asked.rows([parts.test.texts[row]])[0][0].tolist(), *answer]])
            with torch.no_grad():
                log_p = adapted(input_ids=ids).logits.double().log_softmax(-1)[0, before:]
            scores.append(
                sum(log_p[place - 1, ids[0, place]] for place in range(ids.shape[1] - len(answer), ids.shape[1]))
            )
        chances = torch.stack(scores).softmax(-1)
        assert columns["probabilities"][row] == pytest.approx(chances.numpy(), abs=1e-5)
    assert (folder / "model/model.safetensors").exists() == (kind == "lora")
    result = read_result(folder)
    trained = {"lora": result.parameters.trained, "soft_prompt": 5 * 32}[kind]
    assert 0 < result.parameters.trained == trained < result.parameters.all / 10
    assert result.evaluated_on.text.endswith("used once, after training")


@pytest.mark.parametrize("kind", ADAPTERS)
def test_new_texts_are_answered_by_what_was_learned(kind, run, nutshell, tmp_path):
    folder = run(text_of(kind))
    parts, columns = labelled.load(LabelledData(name="sample_reviews")), units.read(folder).columns
    lines = [json.dumps({"text": text}) for (text,) in parts.test.texts]
    (tmp_path / "new.jsonl").write_text("\n".join(lines), encoding="utf-8")
    code, _, errors = nutshell("predict", folder, tmp_path / "new.jsonl", "--output", tmp_path / "answers.jsonl")
    assert code == 0, errors
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    ours = [answer["probability_positive"] for answer in answers]
    assert ours == pytest.approx(columns["probabilities"][:, 1].tolist(), abs=1e-6)
    (folder / "adapter/adapter_model.safetensors").write_bytes(b"")
    code, _, errors = nutshell("predict", folder, tmp_path / "new.jsonl")
    assert (code, "is missing or damaged" in errors) == ((2, True) if kind == "soft_prompt" else (0, False))


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_learns(kind, run):
    """What it is trained on is soon cheap."""
    first, *_, last = history(run(text_of(kind), "training.max_steps=40", "training.per_device_train_batch_size=16"))
    assert last["loss"] < first["loss"] * 0.85


def test_baselines_by_hand(run):
    """On the draws that an adapter learns from, measured on the same examples."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from nutshell.bits.figures.metrics import AUC

    folder = run(YAML + "baselines: {bag_of_words: [16, 64], sentence_embeddings: [8]}\n")
    parts, found = labelled.load(LabelledData(name="sample_reviews")), units.read(folder)
    (table,) = read_result(folder).tables
    names = ["bag_of_words, 16 labels", "bag_of_words, 64 labels", "sentence_embeddings, 8 labels"]
    assert [name for name, _ in table.rows] == names
    assert found.columns["learned_nats"].shape == (80, 3) and len(table.columns) == 8
    label = numpy.array(parts.test.labels)
    for place, count in enumerate((16, 64)):
        drawn = parts.draw(count, 13, "x")
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit([text for (text,) in drawn.texts])
        model = LogisticRegression(C=10, max_iter=1000)
        model.fit(vectorizer.transform([text for (text,) in drawn.texts]), drawn.labels)
        chances = model.predict_proba(vectorizer.transform([text for (text,) in parts.test.texts]))
        nats = -numpy.log(chances[numpy.arange(80), label])
        assert found.columns["learned_nats"][:, place] == pytest.approx(nats)
        values = dict(zip(table.columns[:3], table.rows[place][1], strict=False))
        predicted = found.columns["learned_predicted"][:, place]
        assert values["accuracy"] == (chances.argmax(-1) == label).mean() == (predicted == label).mean()
        assert values["auc"] == pytest.approx(AUC.value({"nats": nats, "label": label}))
        *_, low, high, ahead, worse, better = table.rows[place][1]
        own = (found.columns["predicted"] == label).mean()
        assert low <= values["accuracy"] <= high and worse <= ahead <= better
        assert ahead == pytest.approx(own - values["accuracy"])
    others = run(YAML + "baselines: {bag_of_words: [64]}\n", "data.max_tokens=20", name="others")
    assert numpy.array_equal(units.read(others).columns["learned_nats"][:, 0], found.columns["learned_nats"][:, 1])


def test_seeds_that_change_the_baselines_alone(run):
    text = YAML + "baselines: {bag_of_words: [16]}\n"
    folder = run(text, "seeds=[13, 21]", name="two")
    every = [units.read(folder.with_name(f"seed-{seed}")).columns for seed in (13, 21)]
    assert numpy.array_equal(every[0]["nats"], every[1]["nats"])
    assert not numpy.array_equal(every[0]["learned_nats"], every[1]["learned_nats"])
    note = "the prompts' own figures do not depend on the seed; what the baselines learn from does"
    assert read_result(folder).notes == [note]
    assert read_result(run(text)).notes == []
    shots = run(text, "seeds=[13, 21]", "prompt.shots=2", "data.max_tokens=8", "prompt.templates=['{text}=']", name="a")
    assert read_result(shots).notes == []


def test_baselines_of_pairs(run):
    text = YAML.replace("sample_reviews", "sample_pairs").replace('"{text}: it is"', '"{sentence1}|{sentence2}"')
    text = text.replace("negative", "not_equivalent").replace("positive", "equivalent")
    folder = run(text + "baselines: {bag_of_words: [64], sentence_embeddings: [64]}\n")
    (table,) = read_result(folder).tables
    assert table.columns[:2] == ["accuracy", "f1"] and len(table.rows) == 2


NEW = {
    "learning rate": (YAML + LORA, "adapter: is trained; state training.learning_rate, and training.num_train_epochs"),
    "untrained": (YAML + "training: {learning_rate: 1e-3}\n", "training.learning_rate: nothing is trained without"),
    "a batch": (YAML + "global_batch_size: 8\n", "global_batch_size: nothing is trained without adapter"),
    "kind": (text_of("lora").replace("kind: lora", "kind: prefix"), "adapter.kind: expected 'lora' or 'soft_prompt'"),
    "rank": (text_of("lora").replace("rank: 2, ", ""), "adapter.rank is missing: lora has rank and alpha"),
    "text": (text_of("soft_prompt").replace(", text: Good or bad", ""), "adapter.text is missing: soft_prompt has"),
    "other kind's": (
        text_of("soft_prompt").replace("tokens: 5", "tokens: 5, rank: 2"),
        "adapter.rank: soft_prompt has",
    ),
    "odd": (text_of("lora").replace("examples: 16", "examples: 15"), "adapter.examples: 15 examples cannot be as many"),
    "one": (text_of("lora").replace("examples: 16", "examples: 1"), "adapter.examples: should be greater than or"),
    "too many": (
        text_of("lora").replace("examples: 16", "examples: 242"),
        "adapter.examples: 242 examples are 121 of each label, but the training part has 120 that are negative",
    ),
    "too many labels": (YAML + "baselines: {bag_of_words: [800]}\n", "baselines.bag_of_words: 800 examples are 400 of"),
    "twice": (YAML + "baselines: {bag_of_words: [16, 16]}\n", "baselines.bag_of_words: a number is in it twice"),
    "odd labels": (
        YAML + "baselines: {sentence_embeddings: [9]}\n",
        "baselines.sentence_embeddings: 9 examples cannot",
    ),
    "baseline": (YAML + "baselines: {bag_of_word: [8]}\n", "did you mean 'bag_of_words'?"),
    "soft prompt": (
        text_of("soft_prompt").replace("tokens: 5", "tokens: 40"),
        "its 0 shots 0, the soft prompt before it 40, a text up to 16 and an answer 5: 68, more than the 64 positions of "
        "the model; state data.max_tokens 12, or fewer adapter.tokens",
    ),
    "long soft prompt": (
        text_of("soft_prompt").replace("tokens: 5", "tokens: 50"),
        "78, more than the 64 positions of the model; choose fewer adapter.tokens",
    ),
    "two templates": (
        text_of("lora").replace('"{text}: it is"', '"{text}: it is", "{text}"'),
        "prompt.templates: an adapter is trained with one template, and there are 2",
    ),
    "median of what it learned from": (
        text_of("lora").replace("prompt:\n", "prompt:\n  calibration: train_median\n  calibration_examples: 225\n"),
        "prompt.calibration_examples: 225 are more than the 224 training examples that are neither shots nor an adapter's",
    ),
    "shots": (
        text_of("lora").replace("prompt:\n", "prompt:\n  shots: 2\n"),
        "prompt.shots: an adapter learns from its",
    ),
    "evaluation": (
        text_of("lora").replace("logging_steps: 1", "eval_strategy: epoch"),
        "training.eval_strategy: all of an adapter's examples are trained on",
    ),
    "groups": (
        text_of("lora").replace("logging_steps: 1", "train_sampling_strategy: group_by_length"),
        "training.train_sampling_strategy: few examples are not grouped",
    ),
    "smoothing": (
        text_of("lora").replace("logging_steps: 1", "label_smoothing_factor: 0.1"),
        "training.label_smoothing_factor: Trainer would smooth an answer's tokens",
    ),
}


@pytest.mark.parametrize("kind", NEW)
def test_what_is_refused(kind, write, nutshell, tmp_path):
    text, message = NEW[kind]
    if text.count("training:") == 2:
        text = text.replace("training: {per_device_eval_batch_size: 8}\n", "")
    for command in ("show", "run"):
        code, _, errors = nutshell(command, write(text, "prompts/reviews.yaml"))
        assert code == 2 and message in errors, errors
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("scratch", "soft_prompt", "a scratch model is fed tokens and no vectors of a soft_prompt; lora adapts it\n"),
        ("lstm", "soft_prompt", "a lstm model is fed tokens and no vectors of a soft_prompt\n"),
        ("lstm", "lora", "lora adapts attention's queries and values, and a lstm model has none\n"),
    ],
)
def test_what_cannot_be_adapted(name, kind, message, write, nutshell, causal):
    text = text_of(kind).replace("CAUSAL", str(causal[name]))
    for command in ("show", "run"):
        code, _, errors = nutshell(command, write(text, "prompts/reviews.yaml"))
        assert code == 2 and f"adapter.kind: {message}" in errors


def test_low_rank_adapters_are_called_as_the_experiment_calls_them(llama, tmp_path, monkeypatch):
    from nutshell.runs.trainer.adapter import prepare

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    experiment = SimpleNamespace(adapter=Adapter(kind="lora", examples=16, rank=2, alpha=4.0))
    args, session = SimpleNamespace(output_dir=str(tmp_path), seed=13), SimpleNamespace(finished=None)
    with pytest.raises(UserError, match=r"^adapter: is merged on one device, and FSDP divides the model"):
        prepare(experiment, args, session, llama, prompts(llama), None, None)


def test_a_soft_prompt_of_a_text_without_a_token(write, nutshell, llama, tmp_path):
    """As of a tokenizer that leaves out what it has no token for."""
    own = tmp_path / "own"
    shutil.copytree(llama, own)
    tree = json.loads((own / "tokenizer.json").read_text(encoding="utf-8"))
    tree["normalizer"] = {"type": "Replace", "pattern": {"String": "?"}, "content": ""}
    (own / "tokenizer.json").write_text(json.dumps(tree), encoding="utf-8")
    text = text_of("soft_prompt").replace("CAUSAL", str(own)).replace("Good or bad", "'???'")
    for command in ("show", "run"):
        code, _, errors = nutshell(command, write(text, "prompts/reviews.yaml"))
        assert code == 2 and "adapter.text: has no token of the model's tokenizer" in errors


def test_texts_without_a_word(write, nutshell, tmp_path):
    folder = tmp_path / "signs"
    folder.mkdir()
    for part in ("train", "test"):
        rows = [json.dumps({"text": f"{'?!'[n % 2]} {part[1]} {n}", "label": n % 2}) for n in range(8)]
        (folder / f"{part}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    text = YAML.replace("name: sample_reviews", f"name: imdb, path: {folder}") + "baselines: {bag_of_words: [4]}\n"
    code, _, errors = nutshell("run", write(text, "prompts/signs.yaml"))
    assert code == 2 and "baselines.bag_of_words: 4 training examples: empty vocabulary" in errors
