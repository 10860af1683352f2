"""`task: classify`: fine-tunes a classifier, and looks at the test part once, at the end."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy
from pydantic import Field

from nutshell.bits import baselines
from nutshell.bits.figures.metrics import OF_ANY, OF_NUMBERS, Metric, named, of_classes
from nutshell.bits.figures.units import Units
from nutshell.data import labelled
from nutshell.data.datasets import DATASETS, TABLE, LabelledData, problems
from nutshell.data.encoding import tokenizers, tokens
from nutshell.data.glue import GlueTask
from nutshell.data.parts import Part, Parts
from nutshell.experiment.blocks import Checkpoint, Lora, Loss, Reference, Trained
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.machine.files import write_lines
from nutshell.models.classifiers import encoders
from nutshell.models.find import files, find
from nutshell.report.results.result import Benchmark, Histogram, Matrix, Measurement, Parameters
from nutshell.report.results.worst import worst
from nutshell.runs import plan as plans
from nutshell.runs.finished.application import Application
from nutshell.tasks.task import Card, Task, register

SPLITS = sorted({split for dataset in DATASETS.values() for split in dataset.layout.splits})


class Classifier(Checkpoint):
    """`model:` which checkpoint, which of its parameters are trained, and with how much dropout."""

    trainable: Annotated[str, Field(pattern=r"^(all|head|last_[1-9][0-9]*)$")] = "all"
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # wherever there is some; None: the checkpoint's own
    new_head: bool | None = None  # whether the layer with one row for each label is drawn again
    lora: Lora | None = None


class ClassifyExperiment(Trained):
    """What a file with `task: classify` may say."""

    model: Classifier
    data: LabelledData
    loss: Loss | None = None
    reference: Reference.of(*OF_ANY, *(f"accuracy_{split}" for split in SPLITS)) | None = None


class Classify(Task):
    """Fine-tunes a classifier on labelled texts."""

    word = "classify"
    asks = ClassifyExperiment
    card = Card("text-classification", "AutoModelForSequenceClassification")

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        yield from problems(blocks["data"], DATASETS)
        yield from encoders.problems(blocks["model"])
        if blocks["loss"].get("class_weights") and is_number(blocks["data"]):
            yield ("loss", "class_weights"), "loss.class_weights: a number has no classes"
        if blocks["training"].get("label_smoothing_factor") and is_number(blocks["data"]):
            path = ("training", "label_smoothing_factor")
            yield path, "training.label_smoothing_factor: a number is no class, whose share could be smoothed"

    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        data = blocks["data"]
        if (dataset := DATASETS.get(str(data.get("name")))) is not None:
            return named(dataset.metrics, dataset.layout.splits)
        if data.get("name") != TABLE:
            return ()
        labels = data.get("labels")  # where the training part tells, there may be two
        return OF_NUMBERS if is_number(data) else of_classes(len(labels) if isinstance(labels, list) else 2)

    def reads(self, experiment: ClassifyExperiment) -> dict[str, Any]:
        return {
            "data": experiment.data.reads(labelled.files(experiment.data)),
            "model": files(experiment.model.name, experiment.model.revision),
        }

    def check(self, experiment: ClassifyExperiment, weights: bool = False) -> None:
        checkpoint, parts = find_checkpoint(experiment, weights), _load(experiment)
        _check_labels(experiment, checkpoint, parts)

    def plan(self, experiment: ClassifyExperiment) -> list[str]:
        training = plans.settings(experiment)
        checkpoint, parts = find_checkpoint(experiment, weights=False), _load(experiment)
        epochs, steps = plans.steps(len(parts.train), training, "examples")
        train, exact = tokens.count(parts.train, experiment.data, checkpoint)
        reported, also_exact = tokens.count(parts.reported, experiment.data, checkpoint)
        about = "" if exact and also_exact else "about "  # from 300 examples of each part, if they are not in the cache
        return [
            plans.parts(parts, "examples"),
            f"labels:   {', '.join(parts.labels) or 'a number'}",
            steps,
            *plans.early_stopping(experiment),
            f"tokens:   {about}{round(train * epochs):,} in training, {about}{reported:,} in the final pass",
        ]

    def run(self, experiment: ClassifyExperiment, args, resume: Path | None, record) -> Measurement:
        from transformers import set_seed

        from nutshell.models import adapters
        from nutshell.models.classifiers import wrapper
        from nutshell.runs.session import Session, data_of, evaluated_on, pass_of, validation
        from nutshell.runs.trainer.classifier import ClassifierTrainer
        from nutshell.runs.trainer.order import longest_first

        session = Session(resume, args, experiment.early_stopping)
        progress.stage(f"reading {experiment.data.name}")
        checkpoint, parts = find_checkpoint(experiment), _load(experiment)
        metrics = _check_labels(experiment, checkpoint, parts)
        progress.stage("tokenizing")
        tokenizer = tokenizers.for_transformers(checkpoint, experiment.data.max_tokens, experiment.data.truncate)
        rows = {name: tokenize(part, experiment.data, checkpoint, args) for name, part in parts.by_name().items()}
        evaluated = rows.get("validation")
        progress.stage(f"loading the weights of {experiment.model.name}")
        set_seed(args.seed)  # the new head is drawn here
        model = wrapper.load(checkpoint, parts.labels, experiment.model, session.finished)
        trainer = ClassifierTrainer(
            model,
            args,
            data_collator=tokenizers.Collator(tokenizer),
            train_dataset=rows["train"],
            eval_dataset=evaluated and evaluated.select(longest_first(evaluated["length"])),
            processing_class=tokenizer,
            metrics=metrics,
            class_weights=_weights(experiment, parts),
            callbacks=[record],
        )
        session.run(trainer)

        part = parts.reported
        if experiment.model.lora:
            adapters.merge(model)
        progress.stage(f"measuring the {parts.reported_as} part")
        columns, result = trainer.answers(rows[parts.reported_name], numpy.asarray(part.labels))
        progress.stage("computing figures and intervals")
        units = Units("examples", metrics, columns | part.in_splits())
        figures = units.figures()
        folder = Path(args.output_dir)
        if not experiment.model.lora:
            trainer.save_model(str(folder / "model"))
        elif args.should_save:
            adapters.save(model, tokenizer, folder, experiment.model)
        trainer.save_state()  # trainer_state.json, with the log history
        if trainer.is_world_process_zero():
            units.write(folder)
            write_lines(folder / "errors.jsonl", worst(columns, part.texts, parts.labels))
        if parts.unlabelled and (benchmark := experiment.data.known.benchmark):
            progress.stage("answering the test part, which is not measured")
            hidden, _ = trainer.answers(tokenize(parts.unlabelled, experiment.data, checkpoint, args))
            if trainer.is_world_process_zero():
                benchmark.submit(parts.unlabelled, hidden["predicted"], folder / "predictions")
        train_labels = numpy.array(parts.train.labels)
        train_tokens = sum(rows["train"]["length"])
        return Measurement(
            evaluated_on=evaluated_on(parts, args, units, "example"),
            metrics=figures,
            validation=validation(trainer, metrics, parts),
            baseline=baselines.majority(metrics, train_labels, units.columns, parts.labels)
            if parts.labels
            else baselines.training_mean(metrics, train_labels, units.columns),
            notes=_notes(columns["predicted"], parts.labels),
            data=data_of(parts),
            parameters=Parameters(**adapters.parameters(model)),
            evaluation=pass_of(result, len(part), sum(rows[parts.reported_name]["length"])),
            training=session.speed(trainer, len(parts.train), train_tokens),
            matrix=Matrix.of(columns["label"], columns["predicted"], parts.labels) if parts.labels else None,
            histogram=_lengths(numpy.array(rows["train"]["whole_length"]), experiment.data.max_tokens),
            benchmark=_benchmark(experiment.data.known.benchmark, parts),
        )

    def load(self, checkpoint: Path) -> Any:
        from nutshell.models.classifiers import wrapper

        return wrapper.load_saved(checkpoint).eval()

    def predict(
        self, experiment: ClassifyExperiment, checkpoints: Sequence[Path], models: Sequence[Any], args
    ) -> Application:
        from nutshell.runs.finished.prediction import predictor

        return predictor(models, args, checkpoints[0], experiment.data, experiment.data.known.layout.texts)


def is_number(data: Mapping[str, Any]) -> bool:
    """Whether the labels of a `data:` block are numbers and no classes."""
    dataset = DATASETS.get(str(data.get("name")))
    return dataset.layout.labels == () if dataset else data.get("target") == "number"


def _measured(experiment: ClassifyExperiment, parts: Parts) -> tuple[Metric, ...]:
    """The metrics of a run, whose labels are known.

    Raises:
        UserError: If the experiment names one that is none of them: F1 is of two classes.
    """
    dataset = experiment.data.known
    if dataset.metrics:
        return named(dataset.metrics, dataset.layout.splits)
    metrics = of_classes(len(parts.labels)) if parts.labels else OF_NUMBERS
    known = {metric.name for metric in metrics}
    bands = {name for name, band in (experiment.reference or {}) if band and name not in ("part", "source")}
    best = {str(experiment.training.get("metric_for_best_model", "loss")).removeprefix("eval_")} - {"loss"}
    if wrong := sorted((bands | best) & {*OF_ANY} - known):
        raise UserError(f"{wrong[0]} is no metric of {len(parts.labels)} labels, which are {', '.join(parts.labels)}")
    return metrics


def _load(experiment: ClassifyExperiment) -> Parts:
    return labelled.load(experiment.data, needs_validation=plans.evaluates(plans.settings(experiment)))


def find_checkpoint(experiment: Any, weights: bool = True) -> Path:
    """The checkpoint, if it can read the texts of an experiment with `model:` and `data:` as here.

    Raises:
        UserError: If it cannot, or is not there.
    """
    model, data = experiment.model, experiment.data
    folder = find(model.name, model.revision, encoders.ENCODERS, weights)
    encoders.check(folder, model, data.max_tokens)
    tokenizers.check(folder, len(data.known.layout.texts))
    return folder


def tokenize(part: Part, data: LabelledData, checkpoint: Path, args):
    """A part's rows as a datasets.Dataset, as ClassifierTrainer takes them; written by the main process first."""
    import datasets

    with args.main_process_first(desc="tokenizing"):
        rows = datasets.Dataset.from_file(str(tokens.tokenize(part, data, checkpoint)))
    for name, of_split in part.in_splits().items():
        rows = rows.add_column(name, of_split)
    return rows


def _check_labels(experiment: ClassifyExperiment, checkpoint: Path, parts: Parts) -> tuple[Metric, ...]:
    """The metrics, if the checkpoint's head and the experiment fit the labels that were read."""
    encoders.check_head(checkpoint, parts.labels, experiment.model.new_head)
    _weights(experiment, parts)
    return _measured(experiment, parts)


def _weights(experiment: ClassifyExperiment, parts: Parts) -> list[float] | None:
    loss = experiment.loss
    return loss.weights(numpy.array(parts.train.labels), len(parts.labels)) if loss and parts.labels else None


def _benchmark(task: GlueTask | None, parts: Parts) -> Benchmark | None:
    whole = task and parts.reported_as == "validation" and len(parts.reported) == task.examples
    return Benchmark(**task.counts_for) if whole else None


def _notes(predicted: numpy.ndarray, labels: tuple[str, ...]) -> list[str]:
    answers = numpy.unique(predicted)
    if len(answers) > 1:
        return []
    return [f"the model gave one answer only, {labels[answers[0]] if labels else f'{answers[0]:.3g}'}"]


def _lengths(tokens: numpy.ndarray, limit: int) -> Histogram:
    cut = int((tokens > limit).sum())
    note = f"{cut:,} of {len(tokens):,} training examples are cut ({cut / len(tokens):.1%})"
    return Histogram.of(tokens, "lengths, tokens", note, limit, "cut at")


register(Classify())
