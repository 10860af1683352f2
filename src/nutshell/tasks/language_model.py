"""`task: language_model`: trains or fine-tunes a language model, and measures it as a compressor of unseen text."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy
from pydantic import BaseModel, Field, field_validator

from nutshell.bits.baselines import compressors
from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.statistics import bits_ratio, exponential_ratio
from nutshell.bits.figures.units import Units
from nutshell.data.datasets import TEXTS, TextData, problems
from nutshell.data.encoding import vocabularies
from nutshell.data.text import corpus as corpora
from nutshell.data.text import documents, stretches
from nutshell.experiment.blocks import Commit, Lora, Positive, Reference, Strict, Trained, Word
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine import progress
from nutshell.models.find import files, read_config
from nutshell.models.language import architectures, model_config
from nutshell.report.results.result import Histogram, Measurement, Parameters
from nutshell.runs import plan as plans
from nutshell.runs.finished.application import Application
from nutshell.runs.generation.prompts import Request, requests
from nutshell.tasks.task import Card, Task, register

METRICS = (
    Metric("bits_per_byte", "bits per UTF-8 byte", False, bits_ratio, ("nats", "bytes"), given=("bytes",)),
    *(
        Metric(name, f"per {unit}", False, exponential_ratio, ("nats", f"{unit}s"), given=(f"{unit}s",))
        for name, unit in (("perplexity", "token"), ("word_perplexity", "word"), ("byte_perplexity", "byte"))
    ),
)


class Causal(Strict):
    """`model:` a checkpoint with its tokenizer, or a new model and the tokenizer made for it."""

    name: Word | None = None
    revision: Commit | None = None
    config: dict[str, Any] | None = None
    tokenizer: Literal["bytes", "bpe"] | None = None
    vocab_size: Annotated[int, Field(ge=257)] | None = None  # of bpe: 256 bytes, the end of text, the merges
    lora: Lora | None = None

    @field_validator("config", mode="before")
    @classmethod
    def _check_config(cls, value: Any) -> Any:
        return value if value is None else model_config.check_config(value)


class Evaluation(Strict):
    """`evaluation:` how the final figure is measured."""

    stride: Positive | None = None  # tokens; None: the block, windows that do not overlap
    documents: Literal["joined", "separate"] | None = None  # None: joined
    count_ends: bool | None = None  # None: true
    last_window: Literal["short", "full"] | None = None  # None: short

    @property
    def rules(self) -> str | None:
        """Those that are not the usual ones. The stride is none of them: it is how well a model is used."""
        others = {key: value for key, value in self if key != "stride" and value not in (None, "joined", True, "short")}
        return ", ".join(f"{key}: {str(value).lower()}" for key, value in others.items()) or None


class LanguageModelExperiment(Trained):
    """What a file with `task: language_model` may say; num_train_epochs: 0 measures a checkpoint as it is."""

    model: Causal
    data: TextData
    evaluation: Evaluation = Evaluation()
    samples: list[Word] = []
    generation: dict[str, Any] = {}
    reference: Reference.of(*(metric.name for metric in METRICS)) | None = None

    @staticmethod
    def training_schema() -> type[BaseModel]:
        from nutshell.experiment import training_keys

        return training_keys.schema(untrained=True)

    @classmethod
    def blocks(cls, plain: dict[str, Any]) -> dict[tuple[str, ...], type[BaseModel]]:
        blocks, model = super().blocks(plain), plain.get("model")
        config = model.get("config") if isinstance(model, dict) else None
        if isinstance(config, dict) and config.get("model_type") in architectures.CAUSAL:
            blocks["model", "config"] = model_config.schema(config["model_type"])
        return blocks


class LanguageModel(Task):
    """Trains on text, and measures what each token of unseen text costs."""

    word = "language_model"
    asks = LanguageModelExperiment
    card = Card("text-generation", "AutoModelForCausalLM")

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        yield from problems(blocks["data"], TEXTS)
        yield from model_config.problems(blocks["model"], blocks["training"])
        yield from _text_checks(blocks["data"], blocks["training"], blocks["evaluation"])
        yield from _sample_checks(plain, blocks["training"], blocks["generation"])

    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        return METRICS

    def reads(self, experiment: LanguageModelExperiment) -> dict[str, Any]:
        return {
            "data": experiment.data.reads(documents.files(experiment.data)),
            "model": files(experiment.model.name, experiment.model.revision),
        }

    def check(self, experiment: LanguageModelExperiment, weights: bool = False) -> None:
        _, config, vocabulary = corpora.find_model(experiment.model, experiment.data, weights)
        if vocabulary:
            requests(experiment.samples, vocabulary.tokenizer, config, experiment.generation)

    def plan(self, experiment: LanguageModelExperiment) -> list[str]:
        training = plans.settings(experiment)
        corpus = _load(experiment, weights=False)
        _requests(experiment, corpus)
        block_tokens = experiment.data.block_tokens
        lines, train_tokens = [plans.parts(corpus.parts, "documents")], 0
        if plans.trains(training):
            blocks = corpus.windows("train", block_tokens)
            epochs, steps = plans.steps(len(blocks), training, f"blocks of {block_tokens} tokens")
            train_tokens = round(epochs * len(blocks.tokens))
            lines += [steps, *plans.early_stopping(experiment)]
        final = corpus.windows(
            corpus.parts.reported_name, block_tokens, **experiment.evaluation.model_dump(exclude_none=True)
        )
        return [
            *lines,
            f"tokens:   {train_tokens:,} in training, {final.scored.sum():,} measured in {len(final):,} windows; "
            f"vocabulary of {len(corpus.vocabulary):,}",
        ]

    def run(self, experiment: LanguageModelExperiment, args, resume: Path | None, record) -> Measurement:
        from nutshell.models import adapters
        from nutshell.runs.generation.texts import Samples
        from nutshell.runs.session import Session, data_of, evaluated_on, pass_of, validation
        from nutshell.runs.trainer.language import LanguageModelTrainer

        session, trained = Session(resume, args, experiment.early_stopping), plans.trains(plans.settings(experiment))
        with args.main_process_first(desc="tokenizing"):
            corpus = _load(experiment)
        parts, streams, block_tokens = corpus.parts, corpus.streams, experiment.data.block_tokens
        blocks = {name: corpus.windows(name, block_tokens) for name in streams}
        progress.stage("loading the model")
        model, tokenizer = _model(experiment, corpus, session.finished, args.seed)
        prompts = _requests(experiment, corpus)
        if not trained:
            args.eval_strategy, args.load_best_model_at_end = "no", False
        trainer = LanguageModelTrainer(
            model,
            args,
            vocabulary=corpus.vocabulary,
            train_dataset=blocks.get("train"),
            eval_dataset=blocks.get("validation"),
            eval_sizes=stretches.sizes(parts.validation) if parts.validation else {},
            processing_class=tokenizer,
            metrics=METRICS,
            callbacks=[record, *([Samples(prompts, experiment.generation, tokenizer)] if prompts else [])],
        )
        if trained:
            session.run(trainer)
        else:
            record.begin(args)

        part, adapted = parts.reported, experiment.model.lora
        if adapted:
            adapters.merge(model)
        final = corpus.windows(parts.reported_name, block_tokens, **experiment.evaluation.model_dump(exclude_none=True))
        progress.stage(f"measuring the {parts.reported_as} part")
        result, costs = trainer.measure(final)
        progress.stage("computing figures and intervals")
        units = Units("stretches of text", METRICS, stretches.sums(part, corpus.vocabulary, final, costs))
        folder = Path(args.output_dir)
        if not adapted:
            trainer.save_model(str(folder / "model"))
        elif args.should_save:
            adapters.save(model, tokenizer, folder, experiment.model)
        trainer.save_state()  # trainer_state.json, with the log history
        if trainer.is_world_process_zero():
            units.write(folder)
        counts = adapters.parameters(model)
        return Measurement(
            evaluated_on=evaluated_on(parts, args, units, "document", trained, experiment.evaluation.rules),
            metrics=units.figures(),
            validation=validation(trainer, METRICS, parts) if trained else None,
            baseline={"bits_per_byte": compressors.bits_per_byte(part.documents)}
            if trainer.is_world_process_zero()
            else {},
            data=data_of(parts, {name: len(tokens) for name, tokens in streams.items()}),
            parameters=Parameters(all=counts["all"], trained=counts["trained"] * trained),
            evaluation=pass_of(result, len(part), units.columns["tokens"].sum().item()),
            training=session.speed(trainer, len(trainer.train_dataset), len(streams["train"])) if trained else None,
            facts={
                "nats measured": float(costs.sum(dtype=numpy.float64)),
                "tokens measured": units.columns["tokens"].sum().item(),
                "bytes measured": part.size_bytes,
                "words measured": units.columns["words"].sum().item(),
                "windows": len(final),
                "stride, tokens": experiment.evaluation.stride or block_tokens,
                "vocabulary, tokens": len(corpus.vocabulary),
                "sha256 of the tokenizer": corpus.vocabulary.digest,
            },
            histogram=_lengths(streams["train"], corpus.vocabulary, block_tokens) if trained else None,
        )

    def load(self, checkpoint: Path) -> Any:
        from nutshell.models.language import build

        return build.load(checkpoint).eval()

    def score(
        self, experiment: LanguageModelExperiment, checkpoints: Sequence[Path], models: Sequence[Any], args
    ) -> Application:
        from nutshell.runs.finished.scoring import scorer

        vocabulary = vocabularies.of_checkpoint(checkpoints[0], read_config(checkpoints[0]))
        evaluation = {
            "block_tokens": experiment.data.block_tokens,
            **experiment.evaluation.model_dump(exclude_none=True),
        }
        return scorer(models, args, vocabulary, experiment.data.column or "text", evaluation)


def _load(experiment: LanguageModelExperiment, weights: bool = True) -> corpora.Corpus:
    training = plans.settings(experiment)
    trains = plans.trains(training)
    return corpora.load(experiment.model, experiment.data, trains, trains and plans.evaluates(training), weights)


def _requests(experiment: LanguageModelExperiment, corpus: corpora.Corpus) -> list[Request]:
    return requests(experiment.samples, corpus.vocabulary.tokenizer, corpus.config, experiment.generation)


def _model(experiment: LanguageModelExperiment, corpus: corpora.Corpus, finished: Path | None, seed: int):
    """The model, from a checkpoint or drawn from the seed, and its tokenizer."""
    from transformers import AutoTokenizer

    from nutshell.models.language import build

    vocabulary, lora = corpus.vocabulary, experiment.model.lora
    if corpus.checkpoint:
        tokenizer = AutoTokenizer.from_pretrained(corpus.checkpoint, trust_remote_code=False)
        if lora:
            return build.adapted(corpus.checkpoint, lora, finished, seed), tokenizer
        return build.load(finished or corpus.checkpoint), tokenizer
    tokenizer = vocabularies.for_transformers(vocabulary, architectures.context(corpus.config))
    if finished:
        return build.load(finished), tokenizer
    return build.create(experiment.model.config, len(vocabulary), vocabulary.end_of_text, seed), tokenizer


def _lengths(stream: numpy.ndarray, vocabulary: vocabularies.Vocabulary, block_tokens: int) -> Histogram:
    """Of the training documents, each with the tokens around it."""
    lengths = numpy.bincount(stretches.owners(stream, vocabulary))
    note = "training documents, joined and divided into blocks: nothing is cut"
    return Histogram.of(lengths, "lengths, tokens", note, block_tokens, "block")


def _text_checks(
    data: Mapping[str, Any], training: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> Iterator[Problem]:
    stride, block = evaluation.get("stride"), data.get("block_tokens", 128)
    if isinstance(stride, int) and isinstance(block, int) and stride > block:
        path = ("evaluation", "stride")
        yield path, f"evaluation.stride: {stride} would skip tokens between windows of data.block_tokens {block}"
    if training.get("train_sampling_strategy") == "group_by_length":
        path = ("training", "train_sampling_strategy")
        yield path, "training.train_sampling_strategy: blocks are of one length; random or sequential"
    if training.get("label_smoothing_factor"):
        yield (
            ("training", "label_smoothing_factor"),
            "training.label_smoothing_factor: Trainer would smooth a language model's labels without shifting them",
        )


def _sample_checks(
    plain: Mapping[str, Any], training: Mapping[str, Any], generation: Mapping[str, Any]
) -> Iterator[Problem]:
    if generation and not plain.get("samples"):
        yield ("generation",), "generation: continues the prompts of samples, but there are none"
    if not plain.get("samples"):
        return
    if training.get("eval_strategy", "no") == "no":
        yield ("samples",), "samples: are continued at each evaluation, but training.eval_strategy is no"
    if training.get("num_train_epochs") == 0:
        path = ("samples",)
        yield path, "samples: are continued during training, but there is none; prompts of task: generate are not"
    if "max_new_tokens" not in generation:
        yield ("samples",), "generation.max_new_tokens is missing: how far samples are continued"


register(LanguageModel())
