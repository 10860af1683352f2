"""One measurement in a process of its own: the stock recipe or nutshell's, timed on the same examples.

`throughput.py` starts it with a JSON task as its only argument; the last line it prints is the measurement, as JSON.
Both sides go through Trainer (or `generate`), whose own run time is the time. nutshell's side is its runner, with the
experiment as it is shipped, except for the overrides in the task.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from arithmetic import UNITS, Batch, figures, flop_per_token, generation_positions, padding_share, steady
from datasets import Dataset, load_dataset
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

import nutshell as library
from nutshell.data.encoding import vocabularies
from nutshell.data.readers import rows
from nutshell.data.text import corpus
from nutshell.experiment.blocks import Experiment
from nutshell.experiment.load import load
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_lines
from nutshell.machine.provenance import peak_memory_bytes
from nutshell.report.results import runs as results
from nutshell.runs import runner
from nutshell.tasks.task import tasks

IGNORED = -100  # a label that costs nothing


class Watch:
    """What Trainer's collator hands out.

    Attributes:
        batches: Of `training` and of `evaluation`, each batch's moment and counts.
        size: The model's, for `flop_per_token`.
        began: When the first batch of all was collated.
    """

    def __init__(self):
        self.batches: dict[str, list[Batch]] = {"training": [], "evaluation": []}
        self.size: dict[str, int] = {}
        self.began: float | None = None

    def install(self) -> None:
        """Has every Trainer of this process watched; a sum over each batch's mask is all that it costs."""
        for phase, name in (("training", "get_train_dataloader"), ("evaluation", "get_test_dataloader")):
            setattr(Trainer, name, self._watched(phase, getattr(Trainer, name)))

    def _watched(self, phase: str, stock: Callable) -> Callable:
        def loader(trainer, *words):
            collate = trainer.unwatched = getattr(trainer, "unwatched", trainer.data_collator)

            def counted(rows):
                batch = collate(rows)
                self._count(phase, len(rows), batch)
                return batch

            trainer.data_collator, self.size = counted, model_size(trainer.model)
            return stock(trainer, *words)

        return loader

    def _count(self, phase: str, examples: int, batch: dict[str, torch.Tensor]) -> None:
        now = time.time()
        self.began = self.began or now
        positions = batch["input_ids"].numel() if "input_ids" in batch else 0
        tokens = int(batch["attention_mask"].sum()) if "attention_mask" in batch else positions
        self.batches[phase].append((now, examples, tokens, positions))


def model_size(model) -> dict[str, int]:
    """Parameters that multiply every token: all but embeddings, with the output matrix even where it is one of them."""
    parameters, output = model.num_parameters(exclude_embeddings=True), model.get_output_embeddings()
    if output is not None and output.weight is model.get_input_embeddings().weight:
        parameters += output.weight.numel()
    return {
        "parameters": parameters,
        "layers": model.config.num_hidden_layers,
        "hidden": model.config.hidden_size,
    }


def experiment_of(task: dict[str, Any]) -> Experiment:
    """The experiment that a task measures, with its overrides."""
    return load(task["file"], task["overrides"], tasks())


def classify(task: dict[str, Any], folder: Path, watch: Watch) -> dict[str, Any]:
    """Seconds of stock training and of its last pass, and the accuracy in that."""
    parts = {name: read_lines(Path(task["data"]) / f"{name}.jsonl") for name in ("train", "test")}
    tokenizer = AutoTokenizer.from_pretrained(task["checkpoint"])
    texts = [column for column in parts["train"][0] if column != "label"]
    length = {"padding": "max_length", "truncation": True, "max_length": task["max_tokens"]}
    encoded = {
        name: Dataset.from_dict(
            {**tokenizer(*([row[text] for row in rows] for text in texts), **length), "labels": _labels(rows)}
        )
        for name, rows in parts.items()
    }
    set_seed(task["seed"])  # the new head is drawn here
    model = BertForSequenceClassification.from_pretrained(task["checkpoint"], num_labels=2)
    trainer = Trainer(model, stock_arguments(task, folder), train_dataset=encoded["train"])
    record: dict[str, Any] = {"training": {"seconds": trainer.train().metrics["train_runtime"]}}
    if task["evaluate"]:
        result = trainer.predict(encoded["test"])
        record["evaluation"] = {"seconds": result.metrics["test_runtime"]}
        record["accuracy"] = float((result.predictions.argmax(-1) == result.label_ids).mean())
    return record


def _labels(rows: list[dict[str, Any]]) -> list[int]:
    return [row["label"] for row in rows]


def language_model(task: dict[str, Any], folder: Path, watch: Watch) -> dict[str, Any]:
    """Seconds of stock training: each document one row, cut or padded to the block."""
    experiment = experiment_of(task)
    length = experiment.data.block_tokens
    text = corpus.load(experiment.model, experiment.data, trains=True, evaluates=False)
    tokenizer = vocabularies.for_transformers(text.vocabulary, length)
    tokenizer.pad_token = tokenizer.eos_token
    rows = tokenizer(text.parts.train.documents, padding="max_length", truncation=True, max_length=length)
    pairs = [zip(*row, strict=True) for row in zip(rows["input_ids"], rows["attention_mask"], strict=True)]
    rows = Dataset.from_dict({**rows, "labels": [[token if real else IGNORED for token, real in row] for row in pairs]})
    set_seed(task["seed"])
    if text.checkpoint:
        model = GPT2LMHeadModel.from_pretrained(text.checkpoint)
    else:
        model = GPT2LMHeadModel(GPT2Config(**text.config))
    trainer = Trainer(model, stock_arguments(task, folder), train_dataset=rows)
    return {"training": {"seconds": trainer.train().metrics["train_runtime"]}}


def generate(task: dict[str, Any], folder: Path, watch: Watch) -> dict[str, Any]:
    """Seconds of stock `generate`, one prompt after another in fp32."""
    experiment = experiment_of(task)
    device = _device()
    model = GPT2LMHeadModel.from_pretrained(task["checkpoint"]).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(task["checkpoint"])
    set_seed(task["seed"])
    new_tokens, watch.began = 0, time.time()
    for prompt in experiment.prompts:
        inputs = tokenizer(prompt, return_tensors="pt").to(device)
        out = model.generate(**inputs, **experiment.generation, pad_token_id=model.config.eos_token_id)
        new_tokens += out.shape[1] - inputs["input_ids"].shape[1]
    int(out[0, -1])  # waits for the device
    return {"evaluation": {"tokens": new_tokens, "seconds": time.time() - watch.began}}


def predict(task: dict[str, Any], folder: Path, watch: Watch) -> dict[str, Any]:
    """Seconds of new texts, tokenizing included and loading excluded: transformers' pipeline as it is, or in bf16; or
    what `nutshell predict` calls."""
    texts = [row["text"] for row in read_lines(Path(task["data"]))]
    if task["side"] == "nutshell":
        trained = library.load(task["run"])
        answer, _ = trained.predict, trained.models
    else:
        kind = torch.bfloat16 if task["side"] == "stock_bf16" else torch.float32
        classify = pipeline("text-classification", task["checkpoint"], dtype=kind, device=_device(), batch_size=32)
        answer = partial(classify, truncation=True)
    answer(texts[:32])  # the first call imports, and makes what later ones use again
    watch.began = time.time()
    answer(texts)
    seconds = time.time() - watch.began
    return {"evaluation": {"seconds": seconds, "examples": len(texts)}}


def read_table(task: dict[str, Any], folder: Path, watch: Watch) -> dict[str, Any]:
    """Seconds of a CSV file: load_dataset with an empty cache, or nutshell's rows, one by one."""
    watch.began = time.time()
    if task["side"] == "nutshell":
        count = sum(1 for _ in rows.read(Path(task["data"])).rows)
    else:
        count = load_dataset("csv", data_files=task["data"], cache_dir=str(folder))["train"].num_rows
    return {"evaluation": {"seconds": time.time() - watch.began, "rows": count}}


def stock_arguments(task: dict[str, Any], folder: Path) -> TrainingArguments:
    """Trainer's defaults, except that nothing is saved or reported, and that the optimizer's settings are the
    experiment's, so that accuracies compare."""
    stated = experiment_of(task).training
    return TrainingArguments(
        output_dir=str(folder),
        **{key: stated[key] for key in ("learning_rate", "warmup_steps", "weight_decay") if key in stated},
        per_device_train_batch_size=task["batch_size"],
        num_train_epochs=task["epochs"],
        max_steps=task["steps"] or -1,
        seed=task["seed"],
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.accelerator.is_available(),
    )


def nutshell(task: dict[str, Any], folder: Path, watch: Watch) -> dict[str, Any]:
    """What nutshell's own runner records of the experiment, and the training losses it logs."""
    experiment = experiment_of(task)
    runner.run(tasks()[experiment.task], experiment, folder)
    run = results.read(folder / experiment.place / f"seed-{task['seed']}")
    record = run.result.model_dump(include={"training", "evaluation"})
    record["losses"] = [entry["loss"] for entry in run.history if "loss" in entry]
    return record | {name: figure.value for name, figure in run.result.metrics.items() if name == "accuracy"}


def warm_up() -> float:
    """Seconds of two steps of a tiny model: loading kernels from disk takes seconds, and is no part of a rate."""
    began, device = time.time(), _device()
    tiny = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 128}
    model = BertForSequenceClassification(BertConfig(vocab_size=64, **tiny)).to(device)
    optimizer, ids = torch.optim.AdamW(model.parameters(), fused=True), torch.ones((16, 64), dtype=int, device=device)
    half = os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16"
    for _ in range(2):
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = model(input_ids=ids, attention_mask=ids, labels=ids[:, 0]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    loss.item()  # waits for the device
    return time.time() - began


def _device() -> torch.device:
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """The measurement that a task asks for: rates, padding, memory, start-up."""
    if task["kind"] == "matmul":
        return matmul(task["width"])
    watch = Watch()
    watch.install()
    warming_seconds = warm_up()
    with tempfile.TemporaryDirectory(dir=task["work"]) as folder:
        stock = {"classify": classify, "language_model": language_model, "generate": generate}
        alike = {"predict": predict, "csv": read_table}  # for both sides
        run = alike.get(task["kind"]) or (stock[task["kind"]] if task["side"] == "stock" else nutshell)
        record = run(task, Path(folder), watch)
    phase = task["phase"]
    if task["kind"] == "generate":
        rates = _generated(task, record[phase])
    elif task["kind"] in alike:
        rates = record[phase]
        counted = UNITS[task["kind"]].removesuffix("_per_second")
        rates[f"{counted}_per_second"] = rates[counted] / rates["seconds"]
    else:
        rates = figures(watch.batches[phase], record[phase]) | steady(watch.batches[phase])
        if phase == "training":
            cost = flop_per_token(**watch.size, mean_tokens=rates["mean_tokens"])
            rates["flop_per_second"] = cost * rates["tokens_per_second"]
    cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {
        **rates,
        **({"accuracy": record["accuracy"]} if task["evaluate"] else {}),
        **({"losses": record["losses"]} if task["keep_losses"] else {}),
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_gpu_memory_bytes": cuda,
        "start_up_seconds": watch.began - task["started"] - warming_seconds,
        "threads": torch.get_num_threads(),
    }


def _generated(task: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    """New tokens a second, and the share of padding among prompts and new tokens."""
    experiment = experiment_of(task)
    lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(task["checkpoint"])(experiment.prompts)["input_ids"]]
    new_tokens, seconds = experiment.generation["max_new_tokens"], block["seconds"]
    if block["tokens"] != len(lengths) * new_tokens:
        raise RuntimeError(f"expected {len(lengths) * new_tokens} new tokens, not {block['tokens']}")
    size = 1 if task["side"] == "stock" else experiment.training["per_device_eval_batch_size"]
    return {
        "seconds": seconds,
        "examples": len(lengths),
        "tokens": block["tokens"],
        "examples_per_second": len(lengths) / seconds,
        "tokens_per_second": block["tokens"] / seconds,
        "padding_share": padding_share(*generation_positions(lengths, size, new_tokens)),
    }


def matmul(width: int, tries: int = 10) -> dict[str, Any]:
    """The most floating-point operations a second that a product of two square matrices reaches, by precision."""
    device = _device()
    best = {}
    for precision, kind in (("no", torch.float32), ("bf16", torch.bfloat16)):
        one, other = (torch.randn(width, width, device=device).to(kind) for _ in range(2))
        times = []
        for _ in range(tries + 2):  # two to warm up
            began = time.perf_counter()
            product = one @ other
            float(product[0, 0])  # waits for the device
            times.append(time.perf_counter() - began)
        best[precision] = 2 * width**3 / min(times[2:])
    return {"flop_per_second": best, "width": width, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    try:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
