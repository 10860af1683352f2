"""What the tests share: a cache of their own, no network, tiny checkpoints, a way to run the command line."""

import json
import os
import shutil
import tempfile
from pathlib import Path

# Before anything imports huggingface_hub, which reads it once.
DATA = os.environ.pop("NUTSHELL_DATA", None)
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="nutshell-tests-")
os.environ["WANDB_MODE"] = "disabled"  # but where tracking is what is tested
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; two threads on a busy machine wait for each other

import pytest

from nutshell.cli.main import main
from nutshell.models.embedded import minilm

ROOT = Path(__file__).parents[1]
MINILM = minilm.folder()
TINY = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
}
PAIRS_YAML = """\
task: classify
seeds: [13]
model: {name: TINY}
data: {name: sample_pairs, max_tokens: 64}
training: {max_steps: 2, per_device_train_batch_size: 4, per_device_eval_batch_size: 64, eval_strategy: epoch}
"""
TEXT_YAML = """\
task: language_model
seeds: [13]
model: {name: CAUSAL}
data: {name: text, path: STORIES, block_tokens: 16}
training: {max_steps: 2, per_device_train_batch_size: 4, per_device_eval_batch_size: 8, eval_strategy: epoch}
"""
PROMPTS_YAML = """\
task: generate
seeds: [13]
model: {name: CAUSAL}
prompts: [Once, The cat sat on, "", A long prompt of more words]
generation: {max_new_tokens: 8}
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMALL_YAML = PAIRS_YAML.replace("name: sample_pairs,", "name: sample_pairs, path: SMALL,")


def text_part(texts):
    """Documents as a part of a text."""
    from nutshell.data.parts import Part

    return Part([(text,) for text in texts])


def one_step(model, examples, folder, batch: int, accumulation: int, data_collator=None):
    """Trainer after one optimizer step over the examples in their order, and that step's (loss, gradient norm)."""
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        max_grad_norm=1e9,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
    )
    trainer = Trainer(model, args, train_dataset=examples, data_collator=data_collator)
    trainer.train()
    first = trainer.state.log_history[0]
    return trainer, (first["loss"], first["grad_norm"])


def pytest_sessionfinish():
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A BERT of 2 layers with random weights and MiniLM's tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    BertModel(BertConfig(**TINY)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MINILM / name, folder)
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The first few of the embedded sentence pairs, as a local copy."""
    folder = tmp_path_factory.mktemp("small")
    for part, rows in (("train", 48), ("validation", 12), ("test", 20)):
        lines = (ROOT / f"src/nutshell/data/samples/pairs/{part}.jsonl").read_text(encoding="utf-8").splitlines()
        (folder / f"{part}.jsonl").write_text("\n".join(lines[:rows]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def causal(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of GPT-2 and of both architectures of our own: random weights, 64 positions, bytes as tokens."""
    from tests.models.language import tiny

    return {name: tiny.make(name, tmp_path_factory.mktemp(name)) for name in ("gpt2", "scratch", "lstm")}


@pytest.fixture(scope="session")
def talker(causal, tmp_path_factory) -> Path:
    """The tiny GPT-2 with a chat template and two tokens more; <|endoftext|> (256) ends a text, <|im_end|> (258) a
    turn, and either is likely at each token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("talker")
    tokenizer = AutoTokenizer.from_pretrained(causal["gpt2"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token, tokenizer.chat_template = "<|im_end|>", CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(causal["gpt2"])
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        rows = model.transformer.wte.weight
        rows[256:] = 0.3 * torch.randn_like(rows[256:])
        model.transformer.ln_f.bias += 1.5 * (rows[256] + rows[258])
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def stories(tmp_path_factory) -> Path:
    """A folder of 30 short texts with letters of one to four bytes."""
    folder = tmp_path_factory.mktemp("stories")
    for number in range(30):
        text = f"Story {number}.\nÜber den Fluß ging Nr. {number}, 猫 und 🐈 dazu; {'it rained. ' * (number % 4)}\n"
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def real_data() -> Path:
    """The folder with real MRPC and IMDB that NUTSHELL_DATA names."""
    if not DATA:
        pytest.skip("NUTSHELL_DATA names no folder with real data")
    return Path(DATA).resolve()


@pytest.fixture
def write(tmp_path, tiny, small, causal, stories):
    """Writes an experiment file (TINY stands for the tiny BERT, CAUSAL for the tiny GPT-2, SMALL for the few pairs,
    STORIES for the short texts); returns its path."""

    def _write(text: str = PAIRS_YAML, name: str = "finetune/pairs.yaml") -> Path:
        file = tmp_path / "experiments" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        places = {"TINY": tiny, "SMALL": small, "CAUSAL": causal["gpt2"], "STORIES": stories}
        for word, place in places.items():
            text = text.replace(word, str(place))
        file.write_text(text, encoding="utf-8")
        return file

    return _write


@pytest.fixture
def nutshell(tmp_path, capsys):
    """Runs the command line in this process: (exit code, standard output, standard error)."""

    def _nutshell(*words) -> tuple[int, str, str]:
        words = [str(word) for word in words]
        if words[0] in ("run", "show"):
            words += ["--output", str(tmp_path / "outputs")]
        capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return _nutshell


@pytest.fixture
def result(tmp_path):
    """metrics.json of a finished seed."""

    def _result(place: str = "finetune/pairs", seed: int = 13) -> dict:
        return json.loads((tmp_path / "outputs" / place / f"seed-{seed}" / "metrics.json").read_text(encoding="utf-8"))

    return _result
