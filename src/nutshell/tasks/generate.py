"""`task: generate`: continues prompts through Trainer's predict path, so that accelerate's processes and precision
apply."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator

from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.statistics import distinct_1, distinct_2, ratio, repetition_4
from nutshell.bits.figures.units import Units
from nutshell.data.text import conversations
from nutshell.data.text.conversations import Prompt
from nutshell.experiment.blocks import Checkpoint, Experiment, Positive, Strict, Word
from nutshell.experiment.checks import Blocks, Problem
from nutshell.experiment.yaml_text import shown
from nutshell.machine import progress
from nutshell.machine.errors import plural
from nutshell.machine.files import write_lines
from nutshell.models.find import files
from nutshell.report.results.result import Data, EvaluatedOn, Measurement, Parameters
from nutshell.runs.generation.prompts import Request, load
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
    prompts: list[str | dict[str, Any]] | Word  # texts and {messages: [...]}, or a file of them
    samples_per_prompt: Positive = 1
    greedy: bool = False  # next to the samples, each prompt's most likely continuation
    generation: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @field_validator("prompts", mode="before")
    @classmethod
    def _check_prompts(cls, value: Any) -> Any:
        prompts = isinstance(value, list) and all(isinstance(prompt, str | dict) for prompt in value)
        if not prompts and not (isinstance(value, str) and value):
            raise ValueError("expected a list of texts or {messages: [...]}, or the name of a file of them")
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
        for number, prompt in enumerate(plain["prompts"] if isinstance(plain.get("prompts"), list) else []):
            if isinstance(prompt, dict):
                unknown = [key for key in prompt if key != "messages"]
                reason = f"{shown(unknown[0])} is not known; it is a text or {{messages: [...]}}" if unknown else None
                if reason := reason or conversations.problem(prompt.get("messages")):
                    yield ("prompts", str(number)), f"prompts, entry {number + 1}: {reason}"
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
        chat = conversations.among(experiment.prompts)
        return {"model": files(experiment.model.name, experiment.model.revision, chat), "prompts": prompts}

    def check(self, experiment: GenerateExperiment, weights: bool = False) -> None:
        _load(experiment, weights)

    def plan(self, experiment: GenerateExperiment) -> list[str]:
        _, prompts, continuations = _load(experiment, weights=False)
        most = experiment.generation["max_new_tokens"]
        return [f"prompts:  {len(prompts):,}, {len(continuations):,} continuations of at most {most:,} tokens"]

    def run(self, experiment: GenerateExperiment, args, resume: Path | None, record) -> Measurement:
        from transformers import AutoTokenizer

        from nutshell.models.language import build
        from nutshell.runs.generation import texts as generation
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

        tokens, nats, ends = (in_data_order(column, order) for column in result.predictions)
        rows = [
            generation.row(*one, tokenizer, experiment.generation)
            for one in zip(continuations, tokens, nats, ends, strict=True)
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


def _load(experiment: GenerateExperiment, weights: bool = True) -> tuple[Path, list[Prompt], list[Request]]:
    """The checkpoint, the prompts, and their continuations."""
    prompts, model = conversations.read_prompts(experiment.prompts), experiment.model
    samples, greedy = experiment.samples_per_prompt, experiment.greedy
    checkpoint, requests = load(model.name, model.revision, prompts, experiment.generation, samples, greedy, weights)
    return checkpoint, prompts, requests


register(Generate())
