"""Fine-tuning a classifier through Trainer, and the one look at the test part at the end."""

import json
import logging
from pathlib import Path
from typing import Any

import datasets
import numpy
import torch
from torch.utils.data import SequentialSampler
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from nutshell import metrics, models
from nutshell.data import sources, tokens
from nutshell.data.batches import LengthGroupedSampler
from nutshell.data.datasets import DATASETS
from nutshell.experiment import Experiment, UserError
from nutshell.models import bert

logger = logging.getLogger("nutshell")


class ClassifyTrainer(Trainer):
    """Trainer with an order of examples that does not depend on the global random state."""

    def _get_train_sampler(self, train_dataset=None):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        return LengthGroupedSampler(self.train_dataset["length"], global_batch(self.args), self.args.seed)

    def _get_eval_sampler(self, eval_dataset):
        # Stock grouping regroups evaluation too, so that predictions are not in the data's order.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None


def global_batch(args: TrainingArguments) -> int:
    """Examples per optimizer step, over all processes and accumulation steps."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def classify(
    experiment: Experiment, args: TrainingArguments, resume: Path | None, callbacks: list[TrainerCallback]
) -> dict[str, Any]:
    """Fine-tunes one seed and measures it.

    Args:
        experiment: Whose `task` is classify.
        args: Its `training:` block with one seed and the run's folder; predictions.jsonl and model/ land there.
        resume: The checkpoint to go on from, or None.
        callbacks: Further Trainer callbacks (progress).

    Returns:
        What metrics.json says of this run, but for provenance.

    Raises:
        UserError: Whatever is wrong with model or data, said once, before any training.
    """
    dataset = DATASETS[experiment.data.name]
    names = list(dataset.directions)
    checkpoint = models.find(experiment.model, "bert")
    parts = sources.load(experiment.data, needs_validation=args.eval_strategy != "no")
    with args.main_process_first(desc="tokenizing"):
        tokenized = {
            name: datasets.Dataset.from_file(str(tokens.tokenize(part, experiment.data, checkpoint)))
            for name, part in parts.by_name().items()
        }
    # Longest first: little padding, and what does not fit into memory fails at once.
    tokenized |= {name: _by_length(tokenized[name]) for name in tokenized if name != "train"}

    set_seed(args.seed)  # the new head is drawn here
    model = bert.load(checkpoint, dataset.labels, experiment.model.trainable, experiment.model.dropout)
    if experiment.data.max_tokens > model.config.max_position_embeddings:
        raise UserError(
            f"data.max_tokens: {experiment.data.max_tokens} is more than the "
            f"{model.config.max_position_embeddings} positions of {experiment.model.name}"
        )
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    trainer = ClassifyTrainer(
        model,
        args,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=tokenized["train"],
        eval_dataset=tokenized.get("validation"),
        processing_class=tokenizer,
        compute_metrics=lambda result: metrics.classification(names, *_classes(result)),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # prints raw dictionaries where there is no bar
    trained = trainer.train(resume_from_checkpoint=str(resume) if resume else None)

    result = trainer.predict(tokenized[parts.reported])
    order = numpy.argsort(tokenized[parts.reported]["index"])
    predicted, labels, nats = (column[order] for column in _classes(result))
    folder = Path(args.output_dir)
    trainer.save_model(str(folder / "model"))
    trainer.save_state()  # trainer_state.json, with the log history
    if trainer.is_world_process_zero():
        _write_predictions(folder / "predictions.jsonl", result.predictions[order], predicted, labels)
    values = metrics.classification(names, predicted, labels, nats)
    ranges = metrics.intervals(names, predicted, labels, nats)
    return {
        "evaluated_on": _evaluated_on(parts, args),
        "metrics": {
            name: {
                "value": values[name],
                "interval_95": ranges[name],
                "unit": metrics.UNITS[name],
                "higher_is_better": dataset.directions[name],
            }
            for name in names
        },
        "labels": list(dataset.labels),
        "confusion_matrix": metrics.confusion(predicted, labels, len(dataset.labels)),
        "data": {
            "source": parts.source,
            "examples": {name: len(part) for name, part in parts.by_name().items()},
            "sha256": {name: part.digest() for name, part in parts.by_name().items()},
            "shared_with_train": parts.shared,
        },
        "parameters": {
            "all": model.num_parameters(),
            "trained": model.num_parameters(only_trainable=True),
        },
        "training": _speed(trainer, trained, tokenized["train"], resume),
    }


def _by_length(part: datasets.Dataset) -> datasets.Dataset:
    return part.select(numpy.argsort(-numpy.array(part["length"]), kind="stable"))


def _classes(result) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Predicted classes, labels and nats of Trainer's (logits, labels)."""
    logits, labels = torch.from_numpy(result.predictions).double(), torch.from_numpy(result.label_ids)
    return logits.argmax(-1).numpy(), labels.numpy(), bert.label_nats(logits, labels).numpy()


def _evaluated_on(parts: sources.Parts, args: TrainingArguments) -> dict[str, Any]:
    """Which part the figures are of, and whether it also chose the epoch."""
    chose = parts.reported == "validation" and args.load_best_model_at_end
    note = {
        (False, False): "validation part (no test labels); it chose nothing",
        (
            False,
            True,
        ): "validation part (no test labels), which also chose the epoch: the figure is optimistic",
        (True, False): "test part, touched once, after training",
    }[parts.test is not None, chose]
    return {
        "part": parts.reported,
        "examples": len(parts.test or parts.validation),
        "chose": chose,
        "note": note,
    }


def _write_predictions(file: Path, logits: numpy.ndarray, predicted: numpy.ndarray, labels: numpy.ndarray) -> None:
    """One line per example in the data's order: index, label, predicted label, probabilities."""
    probabilities = torch.from_numpy(logits).double().softmax(-1).tolist()
    with file.open("w", encoding="utf-8") as stream:
        for index, (label, guess, shares) in enumerate(zip(labels, predicted, probabilities, strict=True)):
            row = {"index": index, "label": int(label), "predicted": int(guess), "probabilities": shares}
            stream.write(json.dumps(row) + "\n")


def _speed(trainer: Trainer, trained, train: datasets.Dataset, resume: Path | None) -> dict[str, Any]:
    """Steps, examples and tokens, and their rates in this launch (evaluation and saving excluded)."""
    done = trainer.state.global_step
    before = json.loads((resume / "trainer_state.json").read_text())["global_step"] if resume else 0
    evaluating = sum(
        entry["eval_runtime"]
        for entry in trainer.state.log_history
        if "eval_runtime" in entry and entry["step"] > before
    )
    seconds = trained.metrics["train_runtime"] - evaluating
    share = (done - before) / done if done else 0.0
    epochs = trainer.state.epoch or 0.0
    examples, seen = epochs * len(train), epochs * sum(train["length"])
    return {
        "steps": done,
        "epochs": epochs,
        "tokens": round(seen),
        "resumed_from_step": before,
        "seconds": seconds,
        "examples_per_second": examples * share / seconds if share else None,
        "tokens_per_second": seen * share / seconds if share else None,
        "best_checkpoint": trainer.state.best_model_checkpoint and Path(trainer.state.best_model_checkpoint).name,
    }
