"""`task: classify`: fine-tunes a classifier, and looks at the test part once, at the end."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy
from pydantic import Field

from nutshell.bits import baselines
from nutshell.bits.metrics import Metric, agreement, f1, mean_bits
from nutshell.bits.units import Units
from nutshell.data import labelled, tokenizers, tokens
from nutshell.data.datasets import DATASETS, LabelledData, problems
from nutshell.experiment.blocks import Checkpoint, Positive, Reference, Strict, Trained, Word
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine import progress
from nutshell.machine.files import write_lines
from nutshell.models.classifiers import encoders
from nutshell.models.find import files, find
from nutshell.report.results.result import Histogram, Matrix, Measurement, Parameters
from nutshell.runs import plan as plans
from nutshell.tasks.task import Card, Task, register

METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "accuracy", "share of examples", True, agreement, ("predicted", "label"), given=("label",), bounds=(0, 1)
        ),
        Metric("f1", "of the positive class", True, f1, ("predicted", "label"), given=("label",), bounds=(0, 1)),
        Metric("label_bits", "bits per example", False, mean_bits, ("nats",), given=("label",)),
    )
}
MOST_ERRORS = 50  # in errors.jsonl


class Lora(Strict):
    """`model.lora:` low-rank adapters on these layers of the encoder, by the ends of their names."""

    rank: Positive
    alpha: Annotated[float, Field(gt=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[Word], Field(min_length=1)] | None = None  # None: attention's queries and values


class Classifier(Checkpoint):
    """`model:` which checkpoint, which of its parameters are trained, and with how much dropout."""

    trainable: Annotated[str, Field(pattern=r"^(all|head|last_[1-9][0-9]*)$")] = "all"
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # wherever there is some; None: the checkpoint's own
    new_head: bool = False  # whether the layer with one row for each label is drawn again
    lora: Lora | None = None


class ClassifyExperiment(Trained):
    """What a file with `task: classify` may say."""

    model: Classifier
    data: LabelledData
    reference: Reference.of(*METRICS) | None = None


class Classify(Task):
    """Fine-tunes a classifier on labelled texts."""

    word = "classify"
    asks = ClassifyExperiment
    card = Card("text-classification", "AutoModelForSequenceClassification")

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        yield from problems(blocks["data"], DATASETS)
        yield from encoders.problems(blocks["model"])

    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        dataset = DATASETS.get(str(blocks["data"].get("name")))
        return tuple(METRICS[name] for name in dataset.metrics) if dataset else ()

    def reads(self, experiment: ClassifyExperiment) -> dict[str, Any]:
        return {
            "data": experiment.data.reads(labelled.files(experiment.data)),
            "model": files(experiment.model.name, experiment.model.revision),
        }

    def check(self, experiment: ClassifyExperiment, weights: bool = False) -> None:
        _find(experiment, weights)

    def plan(self, experiment: ClassifyExperiment) -> list[str]:
        training = plans.settings(experiment)
        checkpoint = _find(experiment, weights=False)
        parts = labelled.load(experiment.data, needs_validation=plans.evaluates(training))
        epochs, steps = plans.steps(len(parts.train), training, "examples")
        train, exact = tokens.count(parts.train, experiment.data, checkpoint)
        reported, also_exact = tokens.count(parts.reported, experiment.data, checkpoint)
        about = "" if exact and also_exact else "about "  # from 300 examples of each part, if they are not in the cache
        return [
            plans.parts(parts, "examples"),
            steps,
            f"tokens:   {about}{round(train * epochs):,} in training, {about}{reported:,} in the final pass",
        ]

    def run(self, experiment: ClassifyExperiment, args, resume: Path | None, record) -> Measurement:
        import datasets
        from transformers import set_seed

        from nutshell.models.classifiers import lora, wrapper
        from nutshell.runs.session import Session, data_of, evaluated_on, pass_of, validation
        from nutshell.runs.trainer.classifier import ClassifierTrainer, answers
        from nutshell.runs.trainer.order import in_data_order, longest_first

        session = Session(resume, args)
        dataset = experiment.data.known
        metrics = tuple(METRICS[name] for name in dataset.metrics)
        checkpoint = _find(experiment)
        progress.stage(f"reading {experiment.data.name}")
        parts = labelled.load(experiment.data, needs_validation=plans.evaluates(plans.settings(experiment)))
        progress.stage("tokenizing")
        tokenizer = tokenizers.for_transformers(checkpoint, experiment.data.max_tokens, experiment.data.truncate)
        with args.main_process_first(desc="tokenizing"):
            tokenized = {
                name: datasets.Dataset.from_file(str(tokens.tokenize(part, experiment.data, checkpoint)))
                for name, part in parts.by_name().items()
            }
        # Longest first: little padding, and what does not fit into memory fails at once.
        orders = {name: longest_first(part["length"]) for name, part in tokenized.items() if name != "train"}
        progress.stage(f"loading the weights of {experiment.model.name}")
        set_seed(args.seed)  # the new head is drawn here
        model = wrapper.load(checkpoint, dataset.labels, experiment.model, session.finished)
        trainer = ClassifierTrainer(
            model,
            args,
            data_collator=tokenizers.Collator(tokenizer),
            train_dataset=tokenized["train"],
            eval_dataset=tokenized["validation"].select(orders["validation"]) if "validation" in orders else None,
            processing_class=tokenizer,
            metrics=metrics,
            callbacks=[record],
        )
        session.run(trainer)

        order, part = orders[parts.reported_name], parts.reported
        progress.stage(f"measuring the {parts.reported_as} part")
        result = trainer.predict(tokenized[parts.reported_name].select(order))
        progress.stage("computing figures and intervals")
        columns = {name: in_data_order(column, order) for name, column in answers(result).items()}
        units = Units("examples", metrics, columns)
        figures = units.figures()
        folder = Path(args.output_dir)
        if not experiment.model.lora:
            trainer.save_model(str(folder / "model"))
        elif args.should_save:
            lora.save(model, tokenizer, folder)
        trainer.save_state()  # trainer_state.json, with the log history
        if trainer.is_world_process_zero():
            units.write(folder)
            write_lines(folder / "errors.jsonl", _errors(columns, part.texts, dataset.labels))
        train_labels = numpy.array(parts.train.labels)
        train_tokens = sum(tokenized["train"]["length"])
        return Measurement(
            evaluated_on=evaluated_on(parts, args, units, "example"),
            metrics=figures,
            validation=validation(trainer, metrics, parts),
            baseline=baselines.majority(metrics, train_labels, columns, dataset.labels),
            notes=_notes(columns["predicted"], dataset.labels),
            data=data_of(parts),
            parameters=Parameters(all=model.num_parameters(), trained=model.num_parameters(only_trainable=True)),
            evaluation=pass_of(result, len(part), sum(tokenized[parts.reported_name]["length"])),
            training=session.speed(trainer, len(parts.train), train_tokens),
            matrix=_confusion(columns, dataset.labels),
            histogram=_lengths(numpy.array(tokenized["train"]["whole_length"]), experiment.data.max_tokens),
        )


def _find(experiment: ClassifyExperiment, weights: bool = True) -> Path:
    """The checkpoint, if the experiment can be run with it."""
    model, data = experiment.model, experiment.data
    folder = find(model.name, model.revision, encoders.ENCODERS, weights)
    encoders.check(folder, model, data.max_tokens)
    encoders.check_head(folder, data.known.labels, model.new_head)
    tokenizers.check(folder, len(data.known.texts))
    return folder


def _notes(predicted: numpy.ndarray, labels: tuple[str, ...]) -> list[str]:
    answers = numpy.unique(predicted)
    return [f"the model gave one answer only, {labels[answers[0]]}"] if len(answers) == 1 else []


def _confusion(columns: dict[str, numpy.ndarray], labels: tuple[str, ...]) -> Matrix:
    cells = columns["label"] * len(labels) + columns["predicted"]
    counts = numpy.bincount(cells, minlength=len(labels) ** 2).reshape(len(labels), len(labels))
    return Matrix(title="Confusion matrix", labels=list(labels), counts=counts.tolist())


def _lengths(tokens: numpy.ndarray, limit: int) -> Histogram:
    cut = int((tokens > limit).sum())
    note = f"{cut:,} of {len(tokens):,} training examples are cut ({cut / len(tokens):.1%})"
    return Histogram.of(tokens, "lengths, tokens", note, limit, "cut at")


def _errors(
    columns: dict[str, numpy.ndarray], texts: list[tuple[str, ...]], labels: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The wrong answers of which the model was most confident, with their texts, the most confident first."""
    confidence = columns["probabilities"].max(1)
    wrong = numpy.flatnonzero(columns["label"] != columns["predicted"])
    return [
        {
            "index": int(row),
            "label": labels[columns["label"][row]],
            "predicted": labels[columns["predicted"][row]],
            "probability": float(confidence[row]),
            "texts": texts[row],
        }
        for row in wrong[numpy.argsort(-confidence[wrong], kind="stable")][:MOST_ERRORS]
    ]


register(Classify())
