"""Runs as they lie in an outputs folder, written without running anything."""

import json
import math
from pathlib import Path
from typing import Any

SHA256 = {part: letter * 64 for part, letter in (("train", "a"), ("validation", "b"), ("test", "c"))}
EXAMPLES = 40


def entry(value: float, unit: str, higher: bool | None = True, spread: float = 0.05) -> dict[str, Any]:
    return {"value": value, "interval_95": [value - spread, value + spread], "unit": unit, "higher_is_better": higher}


def classified(seed: int = 13, right: int = 30, **settings) -> dict[str, dict]:
    """What a classifier leaves behind, by file; `settings` go into training."""
    predictions = [
        {"index": at, "label": at % 2, "predicted": (at + (at >= right)) % 2, "probabilities": [0.4, 0.6]}
        for at in range(EXAMPLES)
    ]
    texts = ["The company said it would cut 4,000 jobs .", "About 4,000 people are to go , it said ."]
    errors = [{**row, "probability": 0.99 - row["index"] / 1e3, "texts": texts} for row in predictions[right:]]
    experiment = {
        "task": "classify",
        "seed": seed,
        "model": {"name": "minilm", "revision": None},
        "data": {"name": "mrpc", "max_tokens": 128},
        "training": {"learning_rate": 5e-5, **settings},
        "reference": {"accuracy": [0.84, 0.88], "source": "README of google-research/bert"},
    }
    share = right / EXAMPLES
    confusion = [[0, 0], [0, 0]]
    for row in predictions:
        confusion[row["label"]][row["predicted"]] += 1
    metrics = _metrics(
        experiment, {"accuracy": entry(share, "share of examples"), "label_bits": entry(0.6, "bits per example", False)}
    ) | {
        "labels": ["not_equivalent", "equivalent"],
        "confusion_matrix": confusion,
        "lengths": {"limit": 128, "truncated": 7, "edges": [*range(0, 168, 8)], "counts": [*range(20)]},
    }
    return _files(experiment, metrics, "eval_accuracy", share) | {
        "predictions.jsonl": predictions,
        "errors.jsonl": errors,
    }


def modelled(seed: int = 13, bits: float = 2.0, **settings) -> dict[str, dict]:
    """What a language model leaves behind, by file."""
    experiment = {
        "task": "language_model",
        "seed": seed,
        "model": {"config": {"model_type": "gpt2"}},
        "data": {"name": "sample_text", "block_tokens": 64},
        "training": {"learning_rate": 1e-3, **settings},
        "reference": None,
    }
    figures = {
        "perplexity": entry(100 * bits, "per token", False),
        "bits_per_byte": entry(bits, "bits per UTF-8 byte", False),
    }
    metrics = _metrics(experiment, figures) | {
        "intervals_over": "blocks",
        "measured": {"nats": 1.0, "tokens": 1, "bytes": 1},
        "compressors": {"gzip -9": 2.6, "xz -9e": 2.4},
        "lengths": {"limit": 64, "truncated": 0, "edges": [0, 64, 128, 4096], "counts": [4, 5, 6]},
    }
    stretches = [{"index": at, "nats": 50 * bits + at, "tokens": 20, "bytes": 60} for at in range(EXAMPLES)]
    samples = [sample("The statement", [[" is", 0.1], [" a", 0.7], [" \n", 2.5], ["\n", 5.0], ["猫", 9.0]], step=10)]
    return _files(experiment, metrics, "eval_bits_per_byte", bits) | {
        "stretches.jsonl": stretches,
        "samples.jsonl": samples,
    }


def sample(prompt: str, pieces: list, **more) -> dict[str, Any]:
    """A row of samples.jsonl."""
    continuation = "".join(str(text) for text, _ in pieces)
    numbers = {"tokens": len(pieces), "mean_nats": 3.2, "ended": "cut"}
    return {"prompt": prompt, "sample": 0, "continuation": continuation, **numbers, "pieces": pieces, **more}


def _metrics(experiment: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "evaluated_on": {
            "part": "test",
            "examples": EXAMPLES,
            "chose": False,
            "text": f"{EXAMPLES} examples of the test part",
        },
        "metrics": figures,
        "data": {"source": "embedded in nutshell", "examples": {"train": 210, "test": EXAMPLES}, "sha256": SHA256},
        "parameters": {"all": 22_713_986, "trained": 10_795_394},
        "training": {
            "steps": 100,
            "epochs": 5.0,
            "tokens": 117_130,
            "examples_per_second": 37.9,
            "tokens_per_second": 2111.8,
        },
        "experiment": experiment,
        "read": {},
        "provenance": {
            "commit": "6" * 40,
            "dirty": False,
            "python": "3.11.7",
            "packages": {"torch": "2.13.0"},
            "device": "AMD EPYC (2 threads)",
            "mixed_precision": "no",
            "processes": 1,
            "finished": "2026-11-22T11:19:11Z",
            "wall_seconds": 60.6,
        },
    }


def _files(experiment: dict[str, Any], metrics: dict[str, Any], checked: str, value: float) -> dict[str, Any]:
    history: list[dict[str, Any]] = []
    for step in range(1, 101):
        history.append(
            {"step": step, "epoch": step / 20, "loss": 1 / math.sqrt(step), "learning_rate": 5e-7 * (100 - step)}
        )
        if step % 20 == 0:
            history.append({"step": step, "epoch": step / 20, "eval_loss": 1.1 / math.sqrt(step), checked: value})
    resolved = experiment | {
        "read": {},
        "launch": {"processes": 1, "mixed_precision": "no"},
        "command": f"nutshell run experiments/finetune/pairs.yaml --seed {experiment['seed']}",
    }
    return {
        "experiment.yaml": resolved,
        "metrics.json": metrics,
        "trainer_state.json": {"global_step": 100, "max_steps": 100, "log_history": history},
    }


def write(home: Path, files: dict[str, Any]) -> Path:
    """Puts a run's files into `<home>/seed-<n>`; returns the folder."""
    folder = home / f"seed-{files['experiment.yaml']['seed']}"
    folder.mkdir(parents=True)
    for name, content in files.items():  # JSON is YAML, too
        lines = content if name.endswith(".jsonl") else [content]
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder
