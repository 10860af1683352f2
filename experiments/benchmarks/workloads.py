"""The workloads: which experiment with which overrides, on which data and models, in which sizes."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData, TextData
from nutshell.data.encoding import vocabularies
from nutshell.data.text import documents
from nutshell.machine.files import read_lines, write_lines
from nutshell.models.embedded import minilm

EXPERIMENTS = Path(__file__).parents[1]
SEED = 13
SEEDS = (13, 21, 42)  # of accuracy
Task = dict[str, Any]


SIZES: dict[str, dict[str, Any]] = {
    "cpu": {
        "mrpc_examples": 640,
        "epochs": 1,  # of mrpc_train
        "evaluations": 1,  # how often mrpc_eval's part is repeated
        "imdb_examples": 128,  # fewer would leave length grouping nothing to group
        "text_bytes": 800_000,
        "prompts": 16,
        "new_tokens": 48,
        "growth": (1000, 2000, 4000, 8000),
        "steps": 200,  # of losses
        "width": 2048,  # of matmul
        "reviews": 5000,  # of predict
        "rows": 1_000_000,  # of csv
    }
}
SIZES["accelerator"] = SIZES["cpu"] | {
    "mrpc_examples": None,  # all
    "epochs": 3,
    "evaluations": 20,
    "imdb_examples": 4000,
    "text_bytes": 8_000_000,
    "prompts": 64,
    "new_tokens": 128,
    "width": 8192,
}
SIZES["quick"] = SIZES["cpu"] | {
    "mrpc_examples": 32,
    "imdb_examples": 8,
    "text_bytes": 20_000,
    "prompts": 4,
    "new_tokens": 6,
    "growth": (8, 16),
    "steps": 2,
    "width": 128,
    "reviews": 16,
    "rows": 1000,
}


class Workloads:
    """The tasks of one call, with the data and models that they share.

    Args:
        work: An empty folder for both.
        size: Which of SIZES. `quick`: tiny models on the embedded samples; `cpu`: MiniLM and the experiments' own
            models; `accelerator`: BERT-base's and GPT-2's shapes, with random weights.
    """

    def __init__(self, work: Path, size: str):
        self.work, self.kind, self.size = work, size, SIZES[size]

    def tasks(self, workload: str) -> list[Task]:
        """What the processes of a workload get, except for the side; the first call writes the data they read."""
        task: Task = {"kind": "classify", "work": str(self.work), "seed": SEED, "phase": "training", "batch_size": 16}
        task |= {"epochs": 1, "steps": None, "evaluate": False, "keep_losses": False}
        count = self.size["mrpc_examples"]
        if workload == "matmul":
            return [task | {"kind": "matmul", "width": self.size["width"]}]
        if workload == "generation":
            return [self._generate(task | {"phase": "evaluation"})]
        if workload == "gpt2_train":
            return [self._language_model(task)]
        if workload == "predict":
            return [task | {"kind": "predict", "phase": "evaluation", **self._finished()}]
        if workload == "csv":
            return [task | {"kind": "csv", "phase": "evaluation", "data": str(self._table())}]
        if workload == "imdb_train_512":
            task |= {"max_tokens": 512}
            return [self._classify(task, "imdb.yaml", self._examples("imdb", self.size["imdb_examples"], 16))]
        if workload == "growth":
            parts = [self._examples("imdb", count, 64) for count in self.size["growth"]]
            return [self._classify(task, "imdb_minilm.yaml", part) for part in parts]
        if workload == "mrpc_eval":  # after the one step of training that nutshell's runner cannot do without
            task |= {"steps": 1, "phase": "evaluation", "evaluate": True}
            return [self._classify(task, "mrpc_minilm.yaml", self._examples("mrpc", 16, None))]
        if workload == "accuracy":
            data = self._examples("mrpc", None, None)
            each = [task | {"seed": seed, "evaluate": True} for seed in SEEDS]
            return [self._classify(one, "mrpc_minilm.yaml", data) for one in each]
        task |= {"epochs": self.size["epochs"]}
        if workload == "losses":
            task |= {"steps": self.size["steps"], "keep_losses": True}
        return [self._classify(task, "mrpc_minilm.yaml", self._examples("mrpc", count, 16))]  # mrpc_train, fsdp too

    def _classify(self, task: Task, file: str, data: Path) -> Task:
        name, checkpoint = self._bert()
        overrides = [f"model.name={name}", f"data.path={data}", f"seeds=[{task['seed']}]"]
        overrides += ["data.train_examples=null", "data.validation_examples=null"]
        overrides += ["training.eval_strategy=no", "training.save_strategy=no"]
        overrides += [f"training.num_train_epochs={task['epochs']}"]
        overrides += [f"training.max_steps={task['steps']}"] * bool(task["steps"])
        overrides += ["training.logging_steps=1"] * task["keep_losses"]
        paths = {"file": str(EXPERIMENTS / "finetune" / file), "data": str(data), "checkpoint": str(checkpoint)}
        return {"max_tokens": 128, **task, **paths, "overrides": overrides}

    def _language_model(self, task: Task) -> Task:
        overrides = [f"seeds=[{SEED}]", f"data.path={self._reviews()}", "data.validation_bytes=null"]
        overrides += ["samples=[]", "generation={}", "training.eval_strategy=no"]
        overrides += ["training.max_steps=null", "training.num_train_epochs=1"]
        if self.kind != "cpu":
            overrides.append(f"model={{name: {self._gpt2()}}}")
        file = EXPERIMENTS / "language_model" / "small_gpt2.yaml"
        return task | {"kind": "language_model", "file": str(file), "overrides": overrides, "batch_size": 8}

    def _generate(self, task: Task) -> Task:
        folder, new_tokens = self._trained_gpt2(), self.size["new_tokens"]
        text = "".join(documents.load(TextData(name="sample_text")).train.documents)
        prompts = [text[200 * n : 200 * n + 40 + 20 * (n % 16)] for n in range(self.size["prompts"])]
        overrides = [f"seeds=[{SEED}]", f"model.name={folder}", f"prompts={json.dumps(prompts)}"]
        overrides += ["samples_per_prompt=1", "greedy=false", "training.per_device_eval_batch_size=16"]
        overrides += [f"generation.{key}_new_tokens={new_tokens}" for key in ("min", "max")]
        file = EXPERIMENTS / "generate" / "gpt2.yaml"
        return task | {"kind": "generate", "file": str(file), "overrides": overrides, "checkpoint": str(folder)}

    def _bert(self) -> tuple[str, Path]:
        """`model.name`, and the checkpoint's folder."""
        folder = self.work / "bert"
        if self.kind == "cpu":
            return "minilm", minilm.folder()
        if not folder.exists():
            from transformers import BertConfig, BertModel

            tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
            torch.manual_seed(SEED)
            BertModel(BertConfig(**(tiny if self.kind == "quick" else {}))).save_pretrained(folder)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(minilm.folder() / name, folder)
        return str(folder), folder

    def _gpt2(self) -> Path:
        """The folder of a GPT-2 of 124 M parameters (`quick`: a tiny one), and a tokenizer trained on the embedded
        text."""
        folder = self.work / "gpt2"
        if not folder.exists():
            from transformers import GPT2Config, GPT2LMHeadModel

            text, tokens = documents.load(TextData(name="sample_text")).train, 512 if self.kind == "quick" else 4096
            vocabulary = vocabularies.trained(text, tokens)
            tiny = {"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": tokens} if self.kind == "quick" else {}
            ends = dict.fromkeys(("bos_token_id", "eos_token_id"), vocabulary.end_of_text)
            torch.manual_seed(SEED)
            GPT2LMHeadModel(GPT2Config(**tiny, **ends)).save_pretrained(folder)
            vocabularies.for_transformers(vocabulary, 1024).save_pretrained(folder)
        return folder

    def _trained_gpt2(self) -> Path:
        """The folder of that GPT-2 as a run saves it, after one step of training: what Trainer changes in a model's
        config is then in what is prompted."""
        file, output = EXPERIMENTS / "language_model" / "small_gpt2.yaml", self.work / "outputs"
        folder = output / "language_model" / "small_gpt2" / f"seed-{SEED}" / "model"
        if not folder.exists():
            words = [f"seeds=[{SEED}]", f"model={{name: {self._gpt2()}}}", "samples=[]", "generation={}"]
            words += ["data={name: sample_text, train_bytes: 9000, test_bytes: 9000}"]
            words += ["training={max_steps: 1, per_device_train_batch_size: 1}"]
            run = [sys.executable, "-m", "nutshell", "run", file, *words, "--output", output, "--no-track"]
            unseen = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # one step needs no GPU
            subprocess.run(run, env=unseen, check=True, stdout=subprocess.DEVNULL)
        return folder

    def _finished(self) -> dict[str, str]:
        """The folder of a finished classifier of reviews in bf16, after one step of training, and a file of new ones.
        It reads the head of each, up to 512 tokens, as the pipeline does."""
        output, data = self.work / "outputs", self._examples("imdb", 16, self.size["reviews"])
        folder = output / "finetune" / "imdb_minilm" / f"seed-{SEED}"
        if not folder.exists():
            task = {"seed": SEED, "epochs": 1, "steps": 1, "keep_losses": False}
            about = self._classify(task, "imdb_minilm.yaml", self._examples("imdb", 16, 16))
            words = [*about["overrides"], "data.truncate=head", "data.max_tokens=512"]
            run = [sys.executable, "-m", "nutshell", "run", about["file"], *words, "--output", output, "--no-track"]
            half = os.environ | {"ACCELERATE_MIXED_PRECISION": "bf16"}
            subprocess.run(run, env=half, check=True, stdout=subprocess.DEVNULL)
        return {"run": str(folder), "checkpoint": str(folder / "model"), "data": str(data / "test.jsonl")}

    def _table(self) -> Path:
        """A CSV file of reviews, some in quotes, over and over again to so many rows."""
        file, texts = self.work / "table.csv", read_lines(self._examples("imdb", 16, 16) / "test.jsonl")
        if not file.exists():
            with file.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(("id", "review", "sentiment"))
                for number in range(self.size["rows"]):
                    row = texts[number % len(texts)]
                    writer.writerow((number, row["text"][:100], ("negative", "positive")[row["label"]]))
        return file

    def _examples(self, name: str, train: int | None, test: int | None) -> Path:
        """A folder with `train` examples of a data set, drawn as `data.train_examples` draws them, and `test` of the
        part that it is measured on; None takes all, that part as often as `evaluations` says. Both sides read it."""
        folder = self.work / f"{name}-{train}-{test}"
        if not folder.exists():
            embedded = {"mrpc": "sample_pairs", "imdb": "sample_reviews"}
            data = LabelledData(name=embedded[name] if self.kind == "quick" else name, train_examples=train)
            parts = labelled.load(data)
            reported = parts.reported
            rows = [*range(0, len(reported), max(1, len(reported) // (test or len(reported))))][:test]
            reported = reported.take(rows if test or train is None else rows * self.size["evaluations"])
            folder.mkdir()
            for part, chosen in (("train", parts.train), ("test", reported)):
                columns, examples = (*data.known.layout.texts, "label"), zip(chosen.texts, chosen.labels, strict=True)
                lines = [dict(zip(columns, (*texts, label), strict=True)) for texts, label in examples]
                write_lines(folder / f"{part}.jsonl", lines)
        return folder

    def _reviews(self) -> Path:
        """A folder with reviews of `text_bytes` to train a language model on, and a few to measure it."""
        folder, name = self.work / "reviews", "sample_text" if self.kind == "quick" else "imdb"
        if not folder.exists():
            data = TextData(name=name, train_bytes=self.size["text_bytes"], test_bytes=20_000)
            parts = documents.load(data)
            folder.mkdir()
            for part, chosen in (("train", parts.train), ("test", parts.test)):
                write_lines(folder / f"{part}.jsonl", [{"text": text, "label": 0} for text in chosen.documents])
        return folder
