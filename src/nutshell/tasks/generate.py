"""`task: generate`: continues prompts through Trainer's predict path, so that accelerate's processes and precision
apply."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator

from nutshell.bits.metrics import Metric
from nutshell.bits.statistics import distinct_1, distinct_2, ratio, repetition_4
from nutshell.bits.units import Units
from nutshell.data.text import documents, vocabularies
from nutshell.experiment.blocks import Checkpoint, Experiment, Positive, Strict, Word
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine import progress
from nutshell.machine.errors import plural
from nutshell.machine.files import write_lines
from nutshell.models import headers
from nutshell.models.find import files, find, read_config
from nutshell.models.language import architectures
from nutshell.report.results.result import Data, EvaluatedOn, Measurement, Parameters
from nutshell.runs.prompts import Request, requests
from nutshell.tasks.task import Task, register

METRICS = (
    Metric("mean_nats", "nats per token", None, ratio, ("nats", "tokens"), resampled=False),
    Metric("distinct_1", "share of tokens", True, distinct_1, ("ids",), resampled=False),
    Metric("distinct_2", "share of token pairs", True, distinct_2, ("ids",), resampled=False),
    Metric("repetition", "share of token 4-grams", False, repetition_4, ("ids",), resampled=False),
)


class Predicting(Strict):
    """`training:` of generate, which trains nothing."""

    per_device_eval_batch_size: Positive = 8  # continuations in one batch


class GenerateExperiment(Experiment):
    """What a file with `task: generate` may say."""

    model: Checkpoint
    prompts: list[str] | Word  # the texts, or a file with one on each line
    samples_per_prompt: Positive = 1
    greedy: bool = False  # next to the samples, each prompt's most likely continuation
    generation: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @field_validator("prompts", mode="before")
    @classmethod
    def _check_prompts(cls, value: Any) -> Any:
        texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
        if not texts and not (isinstance(value, str) and value):
            raise ValueError("expected a list of texts, or the name of a file with one on each line")
        return value

    @staticmethod
    def training_schema() -> type[BaseModel]:
        return Predicting


class Generate(Task):
    """Continues prompts."""

    word = "generate"
    asks = GenerateExperiment

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        generation, samples = blocks["generation"], plain.get("samples_per_prompt", 1)
        if plain.get("prompts") == []:
            yield ("prompts",), "prompts: the list is empty; state at least one"
        if "max_new_tokens" not in generation:
            yield ("generation",), "generation.max_new_tokens is missing: how far prompts are continued"
        if not generation.get("do_sample"):
            if isinstance(samples, int) and samples > 1:
                yield (
                    ("samples_per_prompt",),
                    f"samples_per_prompt: without generation.do_sample a prompt's {samples} texts would be equal",
                )
            if plain.get("greedy") is True:
                yield ("greedy",), "greedy: without generation.do_sample the continuations are greedy already"

    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        return METRICS

    def reads(self, experiment: GenerateExperiment) -> dict[str, Any]:
        file = Path(experiment.prompts).expanduser() if isinstance(experiment.prompts, str) else None
        prompts = {"": [file]} if file and file.is_file() else {}
        return {"model": files(experiment.model.name, experiment.model.revision), "prompts": prompts}

    def check(self, experiment: GenerateExperiment, weights: bool = False) -> None:
        _load(experiment, weights)

    def plan(self, experiment: GenerateExperiment) -> list[str]:
        _, prompts, continuations = _load(experiment, weights=False)
        most = experiment.generation["max_new_tokens"]
        return [f"prompts:  {len(prompts):,}, {len(continuations):,} continuations of at most {most:,} tokens"]

    def run(self, experiment: GenerateExperiment, args, resume: Path | None, record) -> Measurement:
        from transformers import AutoTokenizer

        from nutshell.models.language import build
        from nutshell.runs import generation
        from nutshell.runs.session import pass_of
        from nutshell.runs.trainer.order import in_data_order, longest_first

        checkpoint, prompts, continuations = _load(experiment)
        progress.stage(f"loading the weights of {experiment.model.name}")
        model = build.load(checkpoint)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
        trainer = generation.GenerateTrainer(model, args, continuations, experiment.generation, tokenizer, [record])
        record.begin(args)
        # Greedy ones apart, and by length, so that little is padded.
        order = longest_first(
            [len(one.ids) for one in continuations], [one.sample is not None for one in continuations]
        )
        progress.stage(f"generating {len(continuations):,} continuations")
        result = trainer.predict(order.tolist())

        tokens, nats = (in_data_order(column, order) for column in result.predictions)
        rows = [
            generation.row(*one, tokenizer, experiment.generation)
            for one in zip(continuations, tokens, nats, strict=True)
        ]
        ids = [[int(token) for token in line if token != generation.NOTHING] for line in tokens]
        columns = {"nats": nats.sum(1, dtype="float64"), "tokens": (tokens != generation.NOTHING).sum(1), "ids": ids}
        units, folder = Units("continuations", METRICS, columns), Path(args.output_dir)
        if trainer.is_world_process_zero():
            units.write(folder)
            write_lines(folder / "samples.jsonl", rows)
        ended = sum(row["ended"] == "finished" for row in rows)
        digest = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
        counts = f"{plural(len(continuations), 'continuation')} of {plural(len(prompts), 'prompt')}, {ended} finished"
        return Measurement(
            evaluated_on=EvaluatedOn(
                part="prompts",
                count=len(continuations),
                units=units.kind,
                sha256=digest,
                chose=False,
                text=counts,
            ),
            metrics=units.figures(),
            data=Data(
                source="the experiment" if isinstance(experiment.prompts, list) else experiment.prompts,
                examples={"prompts": len(prompts)},
                sha256={"prompts": digest},
            ),
            parameters=Parameters(all=model.num_parameters(), trained=0),
            evaluation=pass_of(result, len(continuations), int(columns["tokens"].sum())),
        )


def _load(experiment: GenerateExperiment, weights: bool = True) -> tuple[Path, list[str], list[Request]]:
    """The checkpoint, the prompts, and their continuations."""
    checkpoint = find(experiment.model.name, experiment.model.revision, architectures.CAUSAL, weights)
    config = read_config(checkpoint)
    tokenizer = vocabularies.of_checkpoint(checkpoint, config).tokenizer
    headers.check_language_model(checkpoint, config)
    prompts = documents.read_prompts(experiment.prompts)
    samples, greedy = experiment.samples_per_prompt, experiment.greedy
    return checkpoint, prompts, requests(prompts, tokenizer, config, experiment.generation, samples, greedy)


register(Generate())
