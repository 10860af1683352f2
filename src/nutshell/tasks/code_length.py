"""`task: code_length`: what the labels of a data set cost a classifier that learns them while it codes them.

The order is drawn from the seed; each block has twice as many labels as the one before. In the first one a label costs
log2(labels) bits, in each other one what a classifier says that is trained, from the checkpoint, on all blocks before.
A decoder that has the texts trains the same classifiers on what it has decoded: no model is sent.

Source: Blier & Ollivier 2018, "The Description Length of Deep Learning Models", section 3.2; Voita & Titov 2020,
"Information-Theoretic Probing with Minimum Description Length", section 2.2.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from nutshell.bits import baselines
from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.statistics import mean_bits, total_bits
from nutshell.bits.figures.units import Units
from nutshell.data import labelled
from nutshell.data.datasets import DATASETS, LabelledData, problems
from nutshell.data.encoding import tokenizers, tokens
from nutshell.data.parts import Parts
from nutshell.experiment.blocks import Positive, Reference, Trained
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine import checkpoints, progress
from nutshell.machine.errors import UserError, plural
from nutshell.machine.files import read_lines, write_json, write_lines
from nutshell.models.classifiers import encoders
from nutshell.models.find import files
from nutshell.report.results.result import EvaluatedOn, Measurement, Parameters, Pass, Table, Training, Typed
from nutshell.runs import plan as plans
from nutshell.tasks.classify import Classifier, find_checkpoint, is_number, tokenize
from nutshell.tasks.task import Task, register

METRICS = (
    Metric("bits_per_label", "bits per label", False, mean_bits, ("nats",), given=("label",)),
    Metric("label_code_length", "bits for all labels", False, total_bits, ("nats",), given=("label",)),
)
DONE = "blocks.jsonl"  # in a seed's folder: the blocks that are coded, from which a killed run resumes
OWN, MAJORITY, WORDS = (
    "classifier",
    "frequencies of the labels before",
    "bag of words, in the same blocks",
)  # the baselines


class CodeLengthExperiment(Trained):
    """What a file with `task: code_length` may say."""

    model: Classifier
    data: LabelledData
    first_block: Positive = 16  # labels
    reference: Reference.of(*(metric.name for metric in METRICS)) | None = None


class Block(Typed):
    """What is known of a block that was coded by a classifier.

    Attributes:
        launch: Processes and precision.
        nats: Of each label, in the order in which they are coded.
        history: Trainer's, of this block.
    """

    launch: tuple[int, str]
    nats: list[float]
    parameters: Parameters
    training: Training
    evaluation: Pass
    history: list[dict[str, Any]]


class CodeLength(Task):
    """Codes the labels of the training part, and learns them meanwhile."""

    word = "code_length"
    asks = CodeLengthExperiment

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        data, training = blocks["data"], blocks["training"]
        yield from problems(data, DATASETS)
        yield from encoders.problems(blocks["model"])
        if is_number(data):
            yield ("data",), "data: its labels are numbers; code_length codes classes"
        for key in ("reported", "reported_examples"):
            if key in data:
                yield ("data", key), f"data.{key}: the labels of the training part are coded, and no other part's"
        for key in ("eval_strategy", "eval_on_start", "load_best_model_at_end"):
            if training.get(key, "no") not in ("no", False):
                path = ("training", key)
                yield path, f"training.{key}: each label is coded before it is learned; none is left to evaluate on"
        if plain.get("keep_checkpoints"):
            yield ("keep_checkpoints",), "keep_checkpoints: those of a block are removed once it is coded"

    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        return METRICS

    def reads(self, experiment: CodeLengthExperiment) -> dict[str, Any]:
        return {
            "data": experiment.data.reads(labelled.files(experiment.data)),
            "model": files(experiment.model.name, experiment.model.revision),
        }

    def check(self, experiment: CodeLengthExperiment, weights: bool = False) -> None:
        _load(experiment, weights)

    def plan(self, experiment: CodeLengthExperiment) -> list[str]:
        training = plans.settings(experiment)
        checkpoint, parts = _load(experiment, weights=False)
        sizes = _sizes(len(parts.train), experiment.first_block)
        learned = numpy.cumsum(sizes)[:-1].tolist()
        steps = [plans.total_steps(count, training) for count in learned]
        epochs = [plans.steps(count, training, "examples")[0] for count in learned]
        counted, exact = tokens.count(parts.train, experiment.data, checkpoint)
        per_example, about = counted / len(parts.train), "" if exact else "about "
        trained = sum(per_example * count * own for count, own in zip(learned, epochs, strict=True))
        return [
            plans.parts(parts, "examples"),
            f"labels:   {', '.join(parts.labels)}",
            f"blocks:   {', '.join(f'{size:,}' for size in sizes)} labels, each but the first by a classifier that is "
            "trained on all labels before it",
            f"steps:    {sum(steps):,} in {plural(len(steps), 'training')} ({', '.join(f'{own:,}' for own in steps)}), "
            + plans.shares(training, "examples"),
            f"tokens:   about {round(trained):,} in training, {about}{counted - round(per_example * sizes[0]):,} coded",
        ]

    def run(self, experiment: CodeLengthExperiment, args, resume: Path | None, record) -> Measurement:
        from nutshell.runs.session import data_of

        progress.stage(f"reading {experiment.data.name}")
        checkpoint, parts = _load(experiment)
        part = parts.train
        rows = tokenize(part, experiment.data, checkpoint, args)
        order = numpy.random.default_rng(args.seed).permutation(len(part))
        sizes = _sizes(len(part), experiment.first_block)
        record.begin(args)
        args.distributed_state.wait_for_everyone()  # until the main process has discarded what is to be
        folder = Path(args.output_dir)
        done = _done(folder, args)
        resumed = sum(block.training.steps for block in done)
        for place in range(1, len(sizes)):
            if place > len(done):
                learned = sum(sizes[:place])
                progress.stage(f"block {place + 1} of {len(sizes)}: {sizes[place]:,} labels after {learned:,}")
                coded = order[learned : learned + sizes[place]]
                done.append(_code(experiment, args, resume, checkpoint, parts, rows, order[:learned], coded))
                resume = None
                if args.should_save:
                    checkpoints.discard(folder)  # before the block counts as done: they are none of the next one's
                    write_lines(folder / DONE, [block.model_dump(mode="json") for block in done])
                args.distributed_state.wait_for_everyone()
            for entry in _history(done[:place])[-len(done[place - 1].history) :]:
                record.tracker.log(entry, entry["step"])

        progress.stage("computing figures and intervals")
        in_order = part.take(order.tolist())
        nats = {
            OWN: numpy.concatenate(
                [numpy.full(sizes[0], math.log(len(parts.labels))), *(block.nats for block in done)]
            ),
            MAJORITY: baselines.adaptive(numpy.array(in_order.labels), len(parts.labels)),
            WORDS: baselines.bag_of_words_in_blocks(in_order.texts, in_order.labels, sizes, len(parts.labels)),
        }
        columns = {"label": numpy.array(part.labels), "nats": nats[OWN][numpy.argsort(order)]}
        units = Units("examples", METRICS, columns)
        if args.should_save:
            units.write(folder)
            history = {"log_history": _history(done), **dict.fromkeys(("global_step", "max_steps"), _steps(done))}
            write_json(folder / "trainer_state.json", history)
        training = _sum([block.training for block in done])
        return Measurement(
            evaluated_on=EvaluatedOn(
                part=parts.reported_as,
                count=len(units),
                units=units.kind,
                sha256=part.digest(),
                chose=False,
                text=f"{plural(len(part), 'example')} of the training part, each coded before it was learned",
            ),
            metrics=units.figures(),
            baseline={
                metric.name: {name: metric.value({"nats": nats[name]}) for name in (MAJORITY, WORDS)}
                for metric in METRICS
            },
            notes=["the baselines are of one seed's order; the table has their mean"] * (len(experiment.seeds) > 1),
            data=data_of(parts),
            parameters=done[-1].parameters,
            evaluation=_sum([block.evaluation for block in done]),
            training=training.model_copy(update={"resumed_from_step": resumed or training.resumed_from_step}),
            facts={"block sizes, labels": ", ".join(map(str, sizes))},
            tables=[_table(sizes, nats)],
        )


def _load(experiment: CodeLengthExperiment, weights: bool = True) -> tuple[Path, Parts]:
    """The checkpoint, and the data without the parts that are not coded.

    Raises:
        UserError: For all that can be known before weights are loaded.
    """
    checkpoint, parts = find_checkpoint(experiment, weights), labelled.load(experiment.data)
    encoders.check_head(checkpoint, parts.labels, experiment.model.new_head)
    if len(parts.train) <= experiment.first_block:
        raise UserError(
            f"first_block: {plural(experiment.first_block, 'label')} of a training part with {len(parts.train):,}: no "
            "label would be left for a classifier to code"
        )
    notes = {key: value for key, value in parts.notes.items() if not key.endswith("part")}  # of other parts
    return checkpoint, replace(parts, validation=None, test=None, unlabelled=None, reported_as="train", notes=notes)


def _sizes(examples: int, first: int) -> list[int]:
    """How many labels each block has: first, 2 first, 4 first, and in the last one what is left."""
    sizes: list[int] = []
    while left := examples - sum(sizes):
        sizes.append(min(first << len(sizes), left))
    return sizes


def _code(
    experiment: CodeLengthExperiment, args, resume: Path | None, checkpoint: Path, parts: Parts, rows, learned, coded
) -> Block:
    """Trains a classifier on the rows `learned`, and codes the labels of the rows `coded`, both in their order."""
    from transformers import set_seed

    from nutshell.models import adapters
    from nutshell.models.classifiers import wrapper
    from nutshell.runs.session import Session, pass_of
    from nutshell.runs.trainer.classifier import ClassifierTrainer

    data, session = experiment.data, Session(resume, args)
    tokenizer = tokenizers.for_transformers(checkpoint, data.max_tokens, data.truncate)
    set_seed(args.seed)  # the new head is drawn here
    model = wrapper.load(checkpoint, parts.labels, experiment.model, session.finished)
    train, block = rows.select(learned), rows.select(coded)
    trainer = ClassifierTrainer(
        model,
        args,
        data_collator=tokenizers.Collator(tokenizer),
        train_dataset=train,
        processing_class=tokenizer,
        metrics=METRICS[:1],
    )
    session.run(trainer)
    if experiment.model.lora:
        adapters.merge(model)
    progress.stage(f"coding {plural(len(coded), 'label')}")
    columns, result = trainer.answers(block, numpy.array(block["labels"]))
    figure = {"step": trainer.state.global_step, "eval_bits_per_label": float(mean_bits(columns["nats"]))}
    return Block(
        launch=(args.world_size, args.mixed_precision),
        nats=columns["nats"].tolist(),
        parameters=Parameters(**adapters.parameters(model)),
        training=session.speed(trainer, len(train), sum(train["length"])),
        evaluation=pass_of(result, len(coded), sum(block["length"])),
        history=[*trainer.state.log_history, figure],
    )


def _done(folder: Path, args) -> list[Block]:
    """The blocks that an earlier launch of the same kind has coded.

    Raises:
        UserError: If their file is damaged.
    """
    try:
        blocks = [Block.model_validate(row) for row in read_lines(folder / DONE)]
    except ValueError:
        raise UserError(f"{folder / DONE}: is damaged; run the seed again with --force") from None
    return blocks if all(block.launch == (args.world_size, args.mixed_precision) for block in blocks) else []


def _steps(done: Sequence[Block]) -> int:
    return sum(block.training.steps for block in done)


def _history(done: Sequence[Block]) -> list[dict[str, Any]]:
    """The log history of all blocks, their steps one after the other."""
    return [
        {**entry, "step": entry["step"] + _steps(done[:place])}
        for place, block in enumerate(done)
        for entry in block.history
    ]


def _sum(every: Sequence[Any]) -> Any:
    """Several trainings, or several passes, as one."""
    seconds = math.fsum(one.seconds for one in every)
    counts = {"steps", "examples", "tokens", "resumed_from_step"} & type(every[0]).model_fields.keys()
    total = {key: sum(getattr(one, key) for one in every) for key in counts}
    for key in ("examples_per_second", "tokens_per_second"):
        amount = math.fsum((getattr(one, key) or 0.0) * one.seconds for one in every)
        total[key] = amount / seconds if seconds else getattr(every[-1], key)
    return every[-1].model_copy(update=total | {"seconds": seconds})


def _table(sizes: Sequence[int], nats: Mapping[str, numpy.ndarray]) -> Table:
    """Bits per label of each block, and of all."""
    ends = numpy.cumsum(sizes).tolist()
    spans = {f"after {end - size:,} labels": slice(end - size, end) for size, end in zip(sizes, ends, strict=True)}
    rows = [
        (name, [len(range(ends[-1])[span]), *(float(mean_bits(one[span])) for one in nats.values())])
        for name, span in {**spans, "all": slice(0, ends[-1])}.items()
    ]
    return Table(title="Bits per label, block by block", columns=["labels", *nats], rows=rows)


register(CodeLength())
