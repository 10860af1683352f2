"""Training or fine-tuning a language model through Trainer, and measuring it as a compressor of unseen text."""

from pathlib import Path
from typing import Any

import numpy
import torch
from torch.nn.functional import pad
from transformers import AutoTokenizer, TrainerCallback, TrainingArguments, set_seed

from nutshell.bits import baselines as compressors
from nutshell.bits import metrics
from nutshell.data import vocabularies
from nutshell.data import windows as blocks
from nutshell.data.prepared import Prepared, prepare, trains
from nutshell.experiment.blocks import LanguageModel
from nutshell.experiment.checks import CAUSAL_DIRECTIONS
from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_lines, write_lines
from nutshell.models import find as models
from nutshell.run import generation
from nutshell.run.order import PADDING, TextCollator
from nutshell.run.record import Record
from nutshell.run.session import Training, evaluated_on, evaluation_speed
from nutshell.run.trainer import ExactTrainer


class LanguageModelTrainer(ExactTrainer):
    """Trainer that trains on every token of a window, and evaluates to what each token costs, not to a mean of
    batches' means."""

    def ghost(self, row):
        """Nothing of it is scored."""
        return row[0], 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Stock loss, but of rows whose last token is predicted and not fed, as in measuring: otherwise the context's
        last position would never be trained."""
        targets = inputs["labels"][:, 1:].contiguous()
        inputs = {name: tensor[:, :-1] for name, tensor in inputs.items()} | {
            "labels": targets,
            "shift_labels": targets,
        }
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Nats (batch, tokens - 1), 0 where nothing is scored, and (batch,) how many tokens are."""
        inputs = self._prepare_inputs(inputs)
        scored = inputs.pop("labels")[:, 1:] != PADDING
        with torch.no_grad(), self.compute_loss_context_manager():
            nats = self.accelerator.unwrap_model(model).token_nats(**inputs)
        nats = torch.where(scored, nats, 0.0)
        return None, pad(nats, (0, self.eval_tokens - nats.shape[1])), scored.sum(-1)


def language_model(
    experiment: LanguageModel, args: TrainingArguments, resume: Path | None, record: Record
) -> dict[str, Any]:
    """Trains one seed, unless no epoch is asked for, and measures it.

    Args:
        experiment: Whose `task` is language_model.
        args: Its `training:` block with one seed and the run's folder; samples.jsonl and model/ land there.
        resume: The checkpoint to go on from, or None.
        record: Notes in the folder that the run has begun.

    Returns:
        What metrics.json says of this run, but for provenance.

    Raises:
        UserError: Whatever is wrong with model, text or settings, said before any training; or that training diverged.
    """
    training = Training(resume, args.load_best_model_at_end)
    with args.main_process_first(desc="tokenizing"):
        prepared = prepare(experiment)
    parts, wanted = prepared.parts, experiment.data.block_tokens
    stride = experiment.evaluation.stride or wanted
    model, tokenizer = _model(experiment, prepared, training.finished, args.seed)
    asked = []
    if experiment.samples:
        ends = model.config.to_dict()
        asked = generation.requests(experiment.samples, prepared.vocabulary.tokenizer, ends, experiment.generation)
    validation, trained = parts.validation, trains(experiment)
    if not trained:
        args.eval_strategy, args.load_best_model_at_end = "no", False
    trainer = LanguageModelTrainer(
        model,
        args,
        data_collator=TextCollator(prepared.vocabulary.end_of_text),
        train_dataset=blocks.windows(prepared.streams["train"], wanted, wanted) if parts.train else None,
        eval_dataset=blocks.windows(prepared.streams["validation"], wanted, wanted) if validation else None,
        processing_class=tokenizer,
        compute_metrics=lambda result: _figures(result, validation.size_bytes),
        callbacks=[record, *([Samples(asked, experiment.generation, tokenizer)] if asked else [])],
    )
    trainer.eval_tokens = wanted
    progress.install(trainer)
    speed = None
    if trained:
        training.run(trainer)
        speed = training.speed(trainer, len(trainer.train_dataset), len(prepared.streams["train"]))
    else:
        record.begin(args)

    part = getattr(parts, parts.reported)
    measured = blocks.windows(prepared.streams[parts.reported], wanted, stride)
    trainer.compute_metrics = None  # those above are of the validation part
    result = trainer.predict(measured)
    values = _figures(result, part.size_bytes)
    nats, tokens = metrics.by_block(result.predictions.sum(-1, dtype=numpy.float64), result.label_ids, wanted)
    if tokens.sum() != len(prepared.streams[parts.reported]) - 1:
        raise RuntimeError(
            f"{tokens.sum()} tokens were scored, but the stream has {len(prepared.streams[parts.reported])}"
        )
    ranges = metrics.causal_intervals(nats, tokens, part.size_bytes)
    if trainer.is_world_process_zero():
        costs = measured.in_order(result.predictions)
        if rows := blocks.stretches(part, prepared.vocabulary, measured.tokens, costs):
            write_lines(Path(args.output_dir) / "stretches.jsonl", rows)
    trainer.save_model(str(Path(args.output_dir) / "model"))
    trainer.save_state()  # trainer_state.json, with the log history
    return {
        "evaluated_on": evaluated_on(parts, args, "documents", trained),
        "intervals_over": "blocks",
        "metrics": metrics.entries(values, ranges, CAUSAL_DIRECTIONS),
        "measured": {
            "nats": float(nats.sum()),
            "tokens": int(tokens.sum()),
            "bytes": part.size_bytes,
            "windows": len(measured),
            "block_tokens": wanted,
            "stride": stride,
        },
        "compressors": compressors.bits_per_byte(part.texts) if trainer.is_world_process_zero() else None,
        "data": {
            "source": parts.source,
            "examples": {name: len(part) for name, part in parts.by_name().items()},
            "bytes": {name: part.size_bytes for name, part in parts.by_name().items()},
            "tokens": {name: len(stream) for name, stream in prepared.streams.items()},
            "sha256": {name: part.digest() for name, part in parts.by_name().items()},
            "left_out": parts.dropped,
        },
        "vocabulary": {"tokens": len(prepared.vocabulary), "sha256": prepared.vocabulary.digest},
        "parameters": {"all": model.num_parameters(), "trained": model.num_parameters(only_trainable=True) * trained},
        "lengths": _lengths(prepared, wanted) if parts.train else None,
        "evaluation": evaluation_speed(result, len(part), int(tokens.sum())),
        "training": speed,
    }


def _model(experiment: LanguageModel, prepared: Prepared, finished: Path | None, seed: int):
    """The model, from a checkpoint or drawn from the seed, and its tokenizer."""
    if prepared.checkpoint:
        tokenizer = AutoTokenizer.from_pretrained(prepared.checkpoint, trust_remote_code=False)
        return models.load_causal(finished or prepared.checkpoint), tokenizer
    keys = dict(experiment.model.config)
    architecture, end = keys.pop("model_type"), prepared.vocabulary.end_of_text
    tokenizer = vocabularies.for_transformers(prepared.vocabulary, models.context(experiment.model.config))
    if finished:
        return models.load_causal(finished), tokenizer
    set_seed(seed)  # the weights are drawn here
    try:
        config = models.config_classes()[architecture](
            **keys, vocab_size=len(prepared.vocabulary), bos_token_id=end, eos_token_id=end
        )
        return models.model_classes()[architecture](config), tokenizer
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"model.config: no {architecture} can be made of it: {reason}") from None


def _lengths(prepared: Prepared, block_tokens: int) -> dict[str, Any]:
    """Of the training documents, each with its end of text; none is cut."""
    ends = numpy.flatnonzero(prepared.streams["train"] == prepared.vocabulary.end_of_text)
    return metrics.lengths(numpy.diff(ends), block_tokens) | {"truncated": 0}


def _figures(result, size_bytes: int) -> dict[str, float]:
    """Loss, perplexity and bits per byte of Trainer's (nats, tokens)."""
    if not numpy.isfinite(result.predictions).all():
        raise UserError("a token's cost is not finite: training diverged; try a lower training.learning_rate")
    return metrics.causal(result.predictions, int(result.label_ids.sum()), size_bytes)


class Samples(TrainerCallback):
    """Continues the prompts of `samples:` at each evaluation and keeps the texts, with their step, in samples.jsonl."""

    def __init__(self, asked: list[generation.Request], keys: dict[str, Any], tokenizer):
        self.asked, self.keys, self.tokenizer = asked, keys, tokenizer

    def on_train_begin(self, args, state, control, **kwargs):
        """Drops what a run that is resumed had written after its checkpoint."""
        if state.is_world_process_zero:
            file = Path(args.output_dir) / "samples.jsonl"
            write_lines(file, [row for row in read_lines(file) if row["step"] <= state.global_step])

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        """Continues every prompt, on all processes alike: one whose model is divided among them cannot do it alone."""
        file, rows = Path(args.output_dir) / "samples.jsonl", []
        trained = model.training
        model.eval()
        tokens, nats = generation.extend(model, self.tokenizer, self.asked, self.keys, args.seed)
        model.train(trained)
        for request, ids, costs in zip(self.asked, tokens.tolist(), nats.tolist(), strict=True):
            rows.append({"step": state.global_step, **generation.row(request, ids, costs, self.tokenizer, self.keys)})
        if not state.is_world_process_zero:
            return
        earlier = [row for row in read_lines(file) if row["step"] < state.global_step]  # a resumed step says it again
        write_lines(file, earlier + rows)
