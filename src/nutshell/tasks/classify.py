"""Fine-tuning a classifier through Trainer, and the one look at the test part at the end."""

from pathlib import Path
from typing import Any

import datasets
import numpy
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import SequentialSampler
from transformers import AutoTokenizer, DataCollatorWithPadding, TrainingArguments, set_seed

from nutshell.bits import metrics
from nutshell.data import labelled as sources
from nutshell.data import tokens
from nutshell.data.datasets import DATASETS
from nutshell.experiment.blocks import Classify
from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.machine.files import write_lines
from nutshell.models import classifier as bert
from nutshell.models import find as models
from nutshell.run.order import PADDING, LengthGroupedSampler
from nutshell.run.record import Record
from nutshell.run.session import Training, evaluated_on, evaluation_speed
from nutshell.run.trainer import ExactTrainer

MOST_ERRORS = 50  # in errors.jsonl


class ClassifyTrainer(ExactTrainer):
    """Trainer with an order of examples that does not depend on the global random state, and with a loss that is the
    mean over a step's examples, however they are split into batches and processes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, compute_loss_func=self.loss, **kwargs)

    def loss(self, outputs, labels, num_items_in_batch=None):
        """Nats, summed over this batch and divided by the step's number of examples."""
        count = len(labels) if num_items_in_batch is None else num_items_in_batch
        smoothing = self.args.label_smoothing_factor
        return cross_entropy(outputs.logits, labels, reduction="sum", label_smoothing=smoothing) / count

    def prediction_step(self, *args, **kwargs):
        """Stock, but without a loss: stock's is a mean of batches' means, in which what fills the last batches up on
        several processes counts; `compute_metrics` has the examples'."""
        return None, *super().prediction_step(*args, **kwargs)[1:]

    def ghost(self, row):
        """Without a label."""
        return {**row, "labels": PADDING}

    def order(self):
        """By length, if the experiment wants that."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super().order()
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(self.train_dataset["length"][:], per_step, self.args.seed)

    def _get_eval_sampler(self, eval_dataset):
        # Stock grouping regroups evaluation too, so that predictions are not in the data's order.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None


def classify(experiment: Classify, args: TrainingArguments, resume: Path | None, record: Record) -> dict[str, Any]:
    """Fine-tunes one seed and measures it.

    Args:
        experiment: Whose `task` is classify.
        args: Its `training:` block with one seed and the run's folder; predictions.jsonl and model/ land there.
        resume: The checkpoint to go on from, or None.
        record: Notes in the folder that the run has begun.

    Returns:
        What metrics.json says of this run, but for provenance.

    Raises:
        UserError: Whatever is wrong with model, data or settings, said before any training; or that training
            diverged, or chose no epoch where it should have.
    """
    training = Training(resume, args.load_best_model_at_end)
    dataset = DATASETS[experiment.data.name]
    names = list(dataset.directions)
    checkpoint = models.find_classifier(experiment)
    parts = sources.load(experiment.data, needs_validation=args.eval_strategy != "no" or args.eval_on_start)
    with args.main_process_first(desc="tokenizing"):
        tokenized = {
            name: datasets.Dataset.from_file(str(tokens.tokenize(part, experiment.data, checkpoint)))
            for name, part in parts.by_name().items()
        }
    # Longest first: little padding, and what does not fit into memory fails at once.
    tokenized |= {name: _by_length(tokenized[name]) for name in tokenized if name != "train"}
    set_seed(args.seed)  # the new head is drawn here
    model = bert.load(
        training.finished or checkpoint, dataset.labels, experiment.model.trainable, experiment.model.dropout
    )
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    trainer = ClassifyTrainer(
        model,
        args,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=tokenized["train"],
        eval_dataset=tokenized.get("validation"),
        processing_class=tokenizer,
        compute_metrics=lambda result: _figures(names, *_classes(result)),
        callbacks=[record],
    )
    progress.install(trainer)
    training.run(trainer)

    part = tokenized[parts.reported]
    result = trainer.predict(part)
    order = numpy.argsort(part["index"])
    predicted, labels, nats = (column[order] for column in _classes(result))
    folder = Path(args.output_dir)
    trainer.save_model(str(folder / "model"))
    trainer.save_state()  # trainer_state.json, with the log history
    if trainer.is_world_process_zero():
        rows = _predictions(result.predictions[order], predicted, labels)
        write_lines(folder / "predictions.jsonl", rows)
        write_lines(folder / "errors.jsonl", _errors(rows, getattr(parts, parts.reported)))
    whole = numpy.array(tokenized["train"]["whole_length"])
    values = metrics.classification(names, predicted, labels, nats)
    ranges = metrics.intervals(names, predicted, labels, nats)
    return {
        "evaluated_on": evaluated_on(parts, args, "examples"),
        "metrics": metrics.entries(values, ranges, dataset.directions),
        "labels": list(dataset.labels),
        "lengths": {
            **metrics.lengths(whole, experiment.data.max_tokens),
            "truncated": int((whole > experiment.data.max_tokens).sum()),
        },
        "confusion_matrix": metrics.confusion(predicted, labels, len(dataset.labels)),
        "data": {
            "source": parts.source,
            "examples": {name: len(part) for name, part in parts.by_name().items()},
            "sha256": {name: part.digest() for name, part in parts.by_name().items()},
            "shared_with_train": parts.shared,
        },
        "parameters": {"all": model.num_parameters(), "trained": model.num_parameters(only_trainable=True)},
        "evaluation": evaluation_speed(result, len(part), sum(part["length"])),
        "training": training.speed(trainer, len(parts.train), sum(tokenized["train"]["length"])),
    }


def _figures(names, predicted, labels, nats) -> dict[str, float]:
    """What is logged of an evaluation: the data set's metrics, and the loss in nats per example."""
    return {**metrics.classification(names, predicted, labels, nats), "loss": float(nats.mean())}


def _by_length(part: datasets.Dataset) -> datasets.Dataset:
    return part.select(numpy.argsort(-numpy.array(part["length"]), kind="stable"))


def _classes(result) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Predicted classes, labels and nats of Trainer's (logits, labels)."""
    logits, labels = torch.from_numpy(result.predictions).double(), torch.from_numpy(result.label_ids)
    if not logits.isfinite().all():
        raise UserError("training diverged: the model's logits are not finite; try a lower training.learning_rate")
    return logits.argmax(-1).numpy(), labels.numpy(), bert.label_nats(logits, labels).numpy()


def _predictions(logits: numpy.ndarray, predicted: numpy.ndarray, labels: numpy.ndarray) -> list[dict[str, Any]]:
    """A row per example in the data's order: index, label, predicted label, probabilities."""
    probabilities = torch.from_numpy(logits).double().softmax(-1).tolist()
    return [
        {"index": index, "label": int(label), "predicted": int(guess), "probabilities": shares}
        for index, (label, guess, shares) in enumerate(zip(labels, predicted, probabilities, strict=True))
    ]


def _errors(rows: list[dict[str, Any]], part: sources.Part) -> list[dict[str, Any]]:
    """The wrong ones of which it was surest, with their texts, the surest first."""
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: -max(row["probabilities"]))
    return [
        {
            **{key: row[key] for key in ("index", "label", "predicted")},
            "probability": max(row["probabilities"]),
            "texts": part.texts[row["index"]],
        }
        for row in wrong[:MOST_ERRORS]
    ]
