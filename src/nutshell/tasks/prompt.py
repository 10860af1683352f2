"""`task: prompt`: a language model classifies by how probable each label's answer is, as it is or after few labels."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from nutshell.bits import baselines
from nutshell.bits.figures import calibration
from nutshell.bits.figures.metrics import AUC, OF_ANY, Metric, named, of_classes
from nutshell.bits.figures.units import Units
from nutshell.data import labelled
from nutshell.data.datasets import DATASETS, TABLE, LabelledData, problems
from nutshell.data.encoding import vocabularies
from nutshell.data.parts import Parts
from nutshell.data.text import templates, wording
from nutshell.data.text.templates import Prompts, Template
from nutshell.data.text.wording import Prompting
from nutshell.experiment import few_labels
from nutshell.experiment.blocks import Checkpoint, Reference, Trained
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine import progress
from nutshell.machine.errors import UserError, plural
from nutshell.machine.files import write_lines
from nutshell.models import headers
from nutshell.models.find import files, find, read_config
from nutshell.models.language import architectures
from nutshell.report.results.result import Matrix, Measurement, Table
from nutshell.report.results.worst import worst
from nutshell.runs import plan as plans
from nutshell.runs.finished import prompting
from nutshell.runs.finished.application import Application
from nutshell.tasks.task import Task, register

FREE = ("N/A", "", "[MASK]")  # texts without content; Zhao et al. 2021, section 4
MEDIAN_EXAMPLES = 100  # of train_median, if the experiment does not say
SAMPLE = 300  # examples whose tokens are counted for the plan
SPLITS = sorted({split for dataset in DATASETS.values() for split in dataset.layout.splits})


class PromptExperiment(Trained):
    """What a file with `task: prompt` may say."""

    model: Checkpoint
    data: LabelledData
    prompt: Prompting
    adapter: few_labels.Adapter | None = None
    baselines: few_labels.Baselines = few_labels.Baselines()
    reference: Reference.of(*OF_ANY, *(f"accuracy_{split}" for split in SPLITS)) | None = None


class Prompt(Task):
    """Classifies by the answers to prompts."""

    word = "prompt"
    asks = PromptExperiment

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        yield from problems(blocks["data"], DATASETS)
        yield from wording.problems(blocks["prompt"], blocks["data"])
        yield from few_labels.problems(plain, blocks)

    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        data = blocks["data"]
        if (dataset := DATASETS.get(str(data.get("name")))) is None and data.get("name") != TABLE:
            return ()
        labels = wording.known(data)[1]
        return _metrics(dataset and dataset.metrics, dataset.layout.splits if dataset else (), len(labels or "ab"))

    def reads(self, experiment: PromptExperiment) -> dict[str, Any]:
        return {
            "data": experiment.data.reads(labelled.files(experiment.data)),
            "model": files(experiment.model.name, experiment.model.revision),
        }

    def check(self, experiment: PromptExperiment, weights: bool = False) -> None:
        for seed in experiment.seeds:
            _load(experiment, seed, weights)

    def plan(self, experiment: PromptExperiment) -> list[str]:
        *_, parts, prompts = _load(experiment, experiment.seeds[0], weights=False)
        part = parts.reported
        sample = part.texts[:: max(1, len(part) // SAMPLE)]
        answers = sum(len(ids) for own in prompts.answers for ids in own)
        tokens = sum(len(ids) for row in prompts.rows(sample) for ids in row) / len(sample) + answers
        about = "" if len(sample) == len(part) else "about "
        shots = plural(len(prompts.shots), "shot")
        chosen = f", of which the {experiment.prompt.choose} part chooses one" * bool(experiment.prompt.choose)
        steps = experiment.adapter and plans.steps(experiment.adapter.examples, plans.settings(experiment), "examples")
        return [
            plans.parts(parts, "examples"),
            *(steps[1:] if steps else ()),
            f"prompts:  {plural(len(prompts.templates), 'template')}{chosen}, {shots}, "
            f"{plural(len(parts.labels), 'label')}: {', '.join(parts.labels)}",
            f"tokens:   {about}{round(tokens * len(part)):,} in prompts and answers of the final pass; what templates "
            f"share is read once ({plural(len(prompts.groups), 'reading')} of each text)",
        ]

    def run(self, experiment: PromptExperiment, args, resume: Path | None, record) -> Measurement:
        from nutshell.runs.session import Session, data_of, evaluated_on, pass_of
        from nutshell.runs.trainer import adapter, learned
        from nutshell.runs.trainer.prompt import PromptTrainer, best, columns_of, figures_of_each, mean_answers

        settings = experiment.prompt
        progress.stage(f"reading {experiment.data.name}")
        checkpoint, config, parts, prompts = _load(experiment, args.seed)
        metrics = _measured(experiment, parts)
        progress.stage(f"loading the weights of {experiment.model.name}")
        model, prompts, training = adapter.prepare(
            experiment, args, Session(resume, args), checkpoint, prompts, parts, record
        )
        context, trained = architectures.context(config), training["training"] is not None
        normalization, notes, validation, tables = settings.length_normalization, [], None, []

        def trainer_of(prompts: Prompts) -> PromptTrainer:
            return PromptTrainer(model, args, prompts, context, normalization)

        trainer = trainer_of(prompts)
        offsets = _offsets(experiment, prompts, parts, args.seed, trainer)
        names = [_name(template) for template in prompts.templates]
        if settings.choose:
            progress.stage("choosing a template on the validation part")
            columns = columns_of(trainer.scores(parts.validation.texts)[0], offsets, parts.validation)
            every = figures_of_each(metrics, columns, len(names))
            place = best(metrics[0], every)
            tables.append(_table("Templates on the validation part", metrics, names, every))
            notes.append(f'template {place + 1} of {len(names)} was chosen on the validation part: "{names[place]}"')
            validation = {metric.name: value for metric, value in zip(metrics, every[place], strict=True)}
            validation = None if None in validation.values() else validation
            prompts, offsets, names = prompts.of([place]), offsets[[place]], [names[place]]
            trainer = trainer_of(prompts)

        part = parts.reported
        progress.stage(f"measuring the {parts.reported_as} part")
        scores, result, tokens = trainer.scores(part.texts)
        progress.stage("computing figures and intervals")
        columns = columns_of(scores, offsets, part)
        units = Units("examples", metrics, columns | part.in_splits())
        if len(names) > 1:
            every = figures_of_each(metrics, units.columns, len(names))
            tables.append(_table("Templates", metrics, names, every))
            deviation = dict(tables[-1].rows)["standard deviation"][0]
            notes.append(
                f"the figures are means over {len(names)} templates"
                + f"; {metrics[0].name} has a standard deviation of {deviation:.4f} over them" * (deviation is not None)
            )
        if len(experiment.seeds) > 1 and not few_labels.draws_for_prompts(experiment):
            notes.append("the prompts' own figures do not depend on the seed; what the baselines learn from does")
        units = learned.measure(experiment, args, parts, units, tables)
        folder = Path(args.output_dir)
        if trainer.is_world_process_zero():
            units.write(folder)
            prompting.save(folder / "model", experiment, prompts, offsets, parts.labels)
            write_lines(folder / "errors.jsonl", worst(mean_answers(columns), part.texts, parts.labels))
        cut = sum(one != other for one, other in zip(prompts.cut(part.texts), part.texts, strict=True))
        labels = numpy.repeat(columns["label"], len(names))
        return Measurement(
            evaluated_on=evaluated_on(parts, args, units, "example", trained),
            metrics=units.figures(),
            validation=validation,
            baseline=baselines.majority(metrics, numpy.array(parts.train.labels), units.columns, parts.labels),
            notes=notes,
            data=data_of(parts),
            **training,
            evaluation=pass_of(result, len(part), tokens),
            facts={
                f"texts cut to {experiment.data.max_tokens} tokens": cut,
                "tokens of the longest prompt with its answer": prompts.longest(trainer.rows),
            }
            | {
                f"{settings.calibration} calibration, ln p of {label}, template {number}": float(value)
                for number, row in enumerate(offsets, 1)
                for label, value in zip(parts.labels, row, strict=True)
                if settings.calibration != "none"
            },
            matrix=Matrix.of(
                labels,
                columns["predicted"].ravel(),
                parts.labels,
                "Confusion matrix" + ", all templates together" * (len(names) > 1),
            ),
            tables=tables,
        )

    def load(self, checkpoint: Path) -> Any:
        return prompting.load(checkpoint).eval()

    def tokenizer(self, checkpoint: Path) -> Any:
        return super().tokenizer(prompting.find_model(checkpoint))

    def predict(
        self, experiment: PromptExperiment, checkpoints: Sequence[Path], models: Sequence[Any], args
    ) -> Application:
        return prompting.predictor(checkpoints, models, args)


def _metrics(names: Sequence[str] | None, splits: Sequence[str], labels: int) -> tuple[Metric, ...]:
    """Those of a classifier on the same data, and how well it ranks two labels."""
    metrics = named(names, splits) if names else of_classes(labels)
    return (*metrics, AUC) if labels == 2 else metrics


def _measured(experiment: PromptExperiment, parts: Parts) -> tuple[Metric, ...]:
    """The metrics of a run, whose labels are known.

    Raises:
        UserError: If the experiment has a band of one that is none of them: F1 is of two classes.
    """
    dataset = experiment.data.known
    metrics = _metrics(dataset.metrics, dataset.layout.splits, len(parts.labels))
    bands = {name for name, band in (experiment.reference or {}) if band and name not in ("part", "source")}
    if wrong := sorted(bands - {metric.name for metric in metrics}):
        raise UserError(f"{wrong[0]} is no metric of {len(parts.labels)} labels, which are {', '.join(parts.labels)}")
    return metrics


def _load(experiment: PromptExperiment, seed: int, weights: bool = True) -> tuple[Path, dict[str, Any], Parts, Prompts]:
    """The checkpoint, its config, the data, and what makes prompts of it for a seed.

    Raises:
        UserError: For all that can be known before weights are loaded.
    """
    settings, data = experiment.prompt, experiment.data
    checkpoint = find(experiment.model.name, experiment.model.revision, architectures.CAUSAL, weights)
    config = read_config(checkpoint)
    vocabulary = vocabularies.of_checkpoint(checkpoint, config)
    headers.check_language_model(checkpoint, config)
    parts = labelled.load(data)
    if settings.choose and (parts.validation is None or parts.reported_name == "validation"):
        reason = "the validation part is what is reported" if parts.validation else f"{data.name} has none"
        raise UserError(
            f"prompt.choose: {reason}; hold some training examples out with data.validation_examples"
            + " and data.test_examples" * bool(parts.validation)
        )
    if problem := wording.median_problem(settings.calibration, parts.labels):
        raise UserError(problem)
    _measured(experiment, parts)
    prompts = Prompts(
        settings.wordings(parts.labels),
        data.known.layout.texts,
        vocabulary.tokenizer,
        vocabulary.start_of_text,
        data.max_tokens,
        data.truncate,
        templates.draw_shots(parts, settings.shots, seed),
    )
    if settings.length_normalization == settings.calibration == "none":
        prompts.check_answers()
    if adapter := experiment.adapter:
        if problem := architectures.adapter_problem(config["model_type"], adapter.kind):
            raise UserError(f"adapter.kind: {problem}")
        if adapter.text and not vocabulary.tokenizer.encode(adapter.text, add_special_tokens=False).ids:
            raise UserError("adapter.text: has no token of the model's tokenizer, as whose vector one could begin")
    prompts.check_length(architectures.context(config), few_labels.vectors(experiment))
    few_labels.draws(experiment, parts, seed)
    _median_texts(experiment, prompts, parts, seed)
    return checkpoint, config, parts, prompts


def _apart(parts: Parts) -> set[tuple[str, ...]]:
    """The texts that are measured, or choose."""
    return {text for part in (parts.validation, parts.test) if part for text in part.texts}


def _median_texts(experiment: PromptExperiment, prompts: Prompts, parts: Parts, seed: int) -> list[tuple[str, ...]]:
    """The training texts that `train_median` looks at, none of them a shot, an adapter's or measured; none without
    it."""
    if experiment.prompt.calibration != "train_median":
        return []
    count = experiment.prompt.calibration_examples or MEDIAN_EXAMPLES
    apart = _apart(parts) | {texts for texts, _ in prompts.shots}
    if adapter := experiment.adapter:
        apart |= {*few_labels.draws(experiment, parts, seed)["adapter.examples", adapter.examples].texts}
    return templates.draw_texts(parts.train, apart, count, seed)


def _offsets(experiment: PromptExperiment, prompts: Prompts, parts: Parts, seed: int, trainer) -> numpy.ndarray:
    """What calibration takes off each label's log-probability, (templates, labels)."""
    kind = experiment.prompt.calibration
    if kind == "none":
        return numpy.zeros((len(prompts.templates), len(parts.labels)))
    progress.stage(f"{kind} calibration")
    if kind == "contextual":
        scores, *_ = trainer.scores([(text,) * len(prompts.columns) for text in FREE])
        return calibration.contextual(calibration.log_probabilities(scores))
    scores, *_ = trainer.scores(_median_texts(experiment, prompts, parts, seed))
    return calibration.train_median(calibration.log_probabilities(scores))


def _table(title: str, metrics: Sequence[Metric], names: Sequence[str], every: list[list[float | None]]) -> Table:
    return Table.with_spread(title, [metric.name for metric in metrics], list(zip(names, every, strict=True)))


def _name(template: Template) -> str:
    answers = " | ".join(answer.strip() for answer in template.answers)
    return f"{template.text} ({answers})".replace("\n", "↵")


register(Prompt())
