"""Runs as they are in an outputs folder, written without running anything."""

import json
import math
from pathlib import Path
from typing import Any

import numpy

from nutshell.bits import baselines
from nutshell.bits.figures.codes import Code
from nutshell.bits.figures.metrics import OF_ANY, Metric
from nutshell.bits.figures.statistics import ratio
from nutshell.bits.figures.units import NAME, Units
from nutshell.machine.provenance import Provenance
from nutshell.report.results.result import Data, EvaluatedOn, Histogram, Matrix, Parameters, Pass, Result, Training
from nutshell.report.results.runs import Run
from nutshell.report.results.summary import Summary, summarize
from nutshell.tasks import language_model

SHA256 = {part: letter * 64 for part, letter in (("train", "a"), ("validation", "b"), ("test", "c"))}
EXAMPLES = 40
LABELS = ("not_equivalent", "equivalent")
PROVENANCE = Provenance(
    commit="6" * 40,
    dirty=False,
    python="3.11.7",
    packages={"torch": "2.13.0"},
    platform="Linux",
    device="AMD EPYC (2 threads)",
    threads=2,
    mixed_precision="no",
    processes=1,
    distributed="NO",
    finished="2026-11-22T11:19:11Z",
    wall_seconds=60.6,
    peak_memory_bytes=10**9,
    peak_gpu_memory_bytes=None,
)
TRAINING = Training(
    steps=100,
    global_batch_size=8,
    per_device_train_batch_size=8,
    gradient_accumulation_steps=1,
    epochs=5.0,
    tokens=117_130,
    resumed_from_step=0,
    seconds=50.0,
    examples_per_second=37.9,
    tokens_per_second=2111.8,
    best_checkpoint=None,
)


def classified(seed: int = 13, right: int = 30, band_part: str = "test", **settings) -> dict[str, Any]:
    """What a classifier leaves behind, by file: the first `right` of its 40 answers are right, the published band is of
    `band_part`; `settings` go into training."""
    rows = numpy.arange(EXAMPLES)
    label, predicted = rows % 2, (rows + (rows >= right)) % 2
    probabilities = numpy.where(predicted[:, None] == [0, 1], 0.6, 0.4)
    nats = -numpy.log(probabilities[rows, label])
    columns = {"label": label, "predicted": predicted, "nats": nats, "probabilities": probabilities}
    metrics = tuple(OF_ANY[name] for name in ("accuracy", "label_bits"))
    experiment = {
        "question": "Can it tell paraphrases apart?",
        "task": "classify",
        "seed": seed,
        "model": {"name": "minilm", "revision": None},
        "data": {"name": "mrpc", "max_tokens": 128},
        "training": {"learning_rate": 5e-5, **settings},
        "reference": {"accuracy": [0.84, 0.88], "part": band_part, "source": "README of google-research/bert"},
    }
    texts = ["The company said it would cut 4,000 jobs .", "About 4,000 people are to go , it said ."]
    errors = [
        {"index": at, "label": LABELS[at % 2], "predicted": LABELS[1 - at % 2], "probability": 0.99 - at / 1e3}
        for at in range(right, EXAMPLES)
    ]
    counts = numpy.bincount(2 * label + predicted, minlength=4).reshape(2, 2).tolist()
    return complete(
        experiment,
        Units("examples", metrics, columns),
        baseline=baselines.majority(metrics, numpy.array([0] * 110 + [1] * 100), columns, LABELS),
        matrix=Matrix(title="Confusion matrix", labels=list(LABELS), counts=counts),
        histogram=Histogram(
            title="lengths, tokens",
            note="7 of 190 training examples are cut (3.7%)",
            edges=[*range(0, 168, 8)],
            counts=[*range(20)],
            limit=128,
            limit_name="cut at",
        ),
    ) | {"errors.jsonl": [{**error, "texts": texts} for error in errors]}


def modelled(seed: int = 13, bits: float = 2.0, **settings) -> dict[str, Any]:
    """What a language model leaves behind, by file: its bits per byte are about `bits`."""
    at, ones = numpy.arange(EXAMPLES), numpy.ones(EXAMPLES, dtype=int)
    nats = 60 * bits * math.log(2) * (0.9 + at % 5 / 20)
    columns = {
        "document": at // 4,
        "start_byte": 60 * (at % 4),
        "bytes": 60 * ones,
        "words": 10 * ones,
        "tokens": 20 * ones,
        "nats": nats,
    }
    experiment = {
        "question": "How well does a small model compress text?",
        "task": "language_model",
        "seed": seed,
        "model": {"name": None, "config": {"model_type": "gpt2"}},
        "data": {"name": "sample_text", "block_tokens": 64},
        "training": {"learning_rate": 1e-3, **settings},
        "reference": None,
    }
    samples = [sample("The statement", [[" is", 0.1], [" a", 0.7], [" \n", 2.5], ["\n", 5.0], ["猫", 9.0]], step=10)]
    return complete(
        experiment,
        Units("stretches of text", language_model.METRICS, columns),
        baseline={"bits_per_byte": {"gzip -9": 2.6, "xz -9e": 2.4}},
        histogram=Histogram(
            title="lengths, tokens",
            note="training documents, joined and divided into blocks: nothing is cut",
            edges=[0, 64, 128, 4096],
            counts=[4, 5, 6],
            limit=64,
            limit_name="block",
        ),
    ) | {"samples.jsonl": samples}


def coded(
    name: str = "a model",
    code_bytes: int | None = 200_000,
    text_bytes: int = 1_000_000,
    kind: str = "compressor",
    **more,
) -> Code:
    """A code of the beginning of one text."""
    seconds = {"compress_seconds": 2.0, "decompress_seconds": 4.0}
    digest = f"{text_bytes:064x}"
    names = {"name": name, "kind": kind, "text": "imdb, test part"}
    return Code(**names, text_bytes=text_bytes, text_sha256=digest, code_bytes=code_bytes, **seconds, **more)


CODES = [
    coded(name, int(rate * size), size, kind, **more)
    for size in (100_000, 1_000_000)
    for name, rate, kind, more in (
        ("gzip -9", 0.4, "compressor", {}),
        ("ppmd, 256 MB", 0.26, "compressor", {}),
        ("prequential", 0.27, "prequential", {}),
        (
            "a model",
            0.2,
            "model",
            {"weights": "int8", "model_bytes": {"fp32": 400_000, "int8": 50_000}, "ideal_bits": 1.59999 * size},
        ),
    )
]


def compressed(codes: list[Code] = CODES, seed: int = 13, name: str = "outputs/bits/gpt2") -> dict[str, Any]:
    """What is left behind where texts were coded, by file."""
    last = codes[-1]
    columns = {"code_bits": numpy.array([8 * last.code_bytes]), "bytes": numpy.array([last.text_bytes])}
    metric = Metric("bits_per_byte", "bits per byte", False, ratio, ("code_bits", "bytes"), resampled=False)
    experiment = {
        "question": "Which code is the shortest?",
        "task": "compress",
        "seed": seed,
        "model": {"name": name, "revision": None},
        "data": {"name": "imdb", "part": "test"},
    }
    return complete(experiment, Units("texts", (metric,), columns), training=None, codes=codes)


def sample(prompt: str, pieces: list, **more) -> dict[str, Any]:
    """A row of samples.jsonl."""
    continuation = "".join(str(text) for text, _ in pieces)
    numbers = {"tokens": len(pieces), "mean_nats": 3.2, "ended": "cut"}
    return {"prompt": prompt, "sample": 0, "continuation": continuation, **numbers, "pieces": pieces, **more}


def complete(
    experiment: dict[str, Any], units: Units, part: str = "test", digest: str = SHA256["test"], **measured
) -> dict[str, Any]:
    """A complete run, by file.

    Args:
        experiment: Resolved, of one seed.
        units: What was measured; the figures follow from it.
        part, digest: Of the data that was measured.
        measured: Further fields of a Result.
    """
    figures = units.figures()
    command = f"nutshell run experiments/finetune/pairs.yaml --seeds {experiment['seed']}"
    fields = {
        "evaluated_on": EvaluatedOn(
            part=part,
            count=len(units),
            units=units.kind,
            sha256=digest,
            chose=False,
            text=f"{len(units)} examples of the {part} part",
        ),
        "metrics": figures,
        "data": Data(
            source="embedded in nutshell",
            examples={"train": 210, part: len(units)},
            sha256={"train": SHA256["train"], part: digest},
        ),
        "parameters": Parameters(all=22_713_986, trained=10_795_394),
        "evaluation": Pass(examples=40, tokens=800, seconds=2.0, examples_per_second=20.0, tokens_per_second=400.0),
        "training": TRAINING,
        "experiment": experiment,
        "read": {},
        "command": command,
        "provenance": PROVENANCE,
    }
    result = Result(**(fields | measured))
    history: list[dict[str, Any]] = []
    main, figure = next(iter(figures.items()))
    for step in range(1, 101):
        history.append(
            {"step": step, "epoch": step / 20, "loss": 1 / math.sqrt(step), "learning_rate": 5e-7 * (100 - step)}
        )
        if step % 20 == 0:
            checked = {"eval_loss": 1.1 / math.sqrt(step), f"eval_{main}": figure.value}
            history.append({"step": step, "epoch": step / 20, **checked})
    launch = {"processes": 1, "mixed_precision": "no"}
    return {
        "experiment.yaml": experiment | {"read": {}, "launch": launch, "command": command},
        "metrics.json": result.model_dump(mode="json"),
        "trainer_state.json": {"global_step": 100, "max_steps": 100, "log_history": history},
        NAME: units,
    }


def outcome(files: dict[str, Any]) -> tuple[Result, Summary]:
    """A run's result, and the summary of it alone."""
    result = Result.model_validate_json(json.dumps(files["metrics.json"]))
    run = Run(Path(f"seed-{files['experiment.yaml']['seed']}"), "complete", "", files["experiment.yaml"], result)
    return result, summarize("finetune/pairs", [run])


def write(home: Path, files: dict[str, Any]) -> Path:
    """Puts a run's files into `<home>/seed-<n>`; returns the folder."""
    folder = home / f"seed-{files['experiment.yaml']['seed']}"
    folder.mkdir(parents=True)
    for name, content in files.items():  # JSON is YAML, too
        if isinstance(content, Units):
            content.write(folder)
            continue
        lines = content if name.endswith(".jsonl") else [content]
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder
