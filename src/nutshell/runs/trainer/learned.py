"""What few labels teach without a prompt: a bag of words, and MiniLM's vectors in the exact Trainer's batches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy
import torch
from torch.nn.functional import normalize
from transformers import AutoModel

from nutshell.bits import baselines
from nutshell.bits.figures import intervals
from nutshell.bits.figures.metrics import Columns, Metric
from nutshell.bits.figures.units import Units
from nutshell.data.encoding import tokenizers, tokens
from nutshell.data.parts import Part, Parts
from nutshell.experiment.few_labels import draws
from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.models.classifiers import encoders
from nutshell.models.embedded import minilm
from nutshell.models.find import read_config
from nutshell.report.results.result import Table
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.order import in_data_order, longest_first


class EmbeddingTrainer(ExactTrainer):
    """Trainer whose prediction is a vector for each row."""

    predicting = "embedding"

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Vectors (batch, hidden) of length 1, fp32: the mean over the tokens that are no padding."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            hidden = model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None]
        return None, normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1), None


def embed(texts: Sequence[str], max_tokens: int, truncate: str, args) -> numpy.ndarray:
    """Each text as the embedded MiniLM's vector, as its authors made it for comparing sentences: (texts, 384) fp32.

    Args:
        texts: At least one.
        max_tokens: Of a text, at most; and no more than the model has positions for.
        truncate: As tokens.cut takes it.
        args: The run's TrainingArguments: batch size and precision.

    Source: Reimers & Gurevych 2019, "Sentence-BERT", section 3.
    """
    checkpoint = minilm.folder(weights=True)
    most = min(max_tokens, encoders.positions(read_config(checkpoint)))
    encoded = tokens.encode(Part([(text,) for text in texts]), tokens.load_tokenizer(checkpoint)[0], most, truncate)
    rows = [{"input_ids": ids, "token_type_ids": types} for ids, types, _ in encoded]
    order = longest_first([len(row["input_ids"]) for row in rows])
    trainer = EmbeddingTrainer(
        AutoModel.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True),
        args,
        data_collator=tokenizers.Collator(tokenizers.for_transformers(checkpoint, most, truncate)),
    )
    return in_data_order(trainer.predict([rows[row] for row in order]).predictions, order)


def measure(experiment, args, parts: Parts, units: Units, tables: list[Table]) -> Units:
    """The units with what each of an experiment's baselines answers to them, `learned_predicted` and `learned_nats`
    (units, baselines); their figures, and how far the run is ahead of them, are a table that is added to the others.

    Args:
        experiment: With data and baselines.
        args: The run's. Its seed draws the labels, the same as an adapter's; fewer are the beginning of more.
        parts: Of the data.
        units: Of the run.
        tables: Of the run.

    Raises:
        UserError: If the drawn texts have no word.
    """
    counts, known = experiment.baselines.counts, draws(experiment, parts, args.seed)
    if not counts:
        return units
    columns, rows, answers = units.columns, [], []
    label, headline = columns["label"], units.metrics[0]
    embedded = _embedded(experiment, args, parts, known)
    for name, count in counts:
        try:
            chances = _KINDS[name](known[f"baselines.{name}", count], parts.reported, embedded)
        except ValueError as error:
            raise UserError(f"baselines.{name}: {count} training examples: {error}") from None
        with numpy.errstate(divide="ignore"):
            nats = -numpy.log(chances[numpy.arange(len(label)), label])
        own = {**columns, "predicted": chances.argmax(-1), "nats": nats, "confidence": chances.max(-1)}
        ends, ahead = headline.interval(own) or (None, None), _ahead(headline, columns, own)
        rows.append((f"{name}, {count} labels", [*(metric.value(own) for metric in units.metrics), *ends, *ahead]))
        answers.append(own)
    more = [f"{headline.name} 95 % from", "to", "ahead by", "95 % from", "to"]
    names, count = [*(metric.name for metric in units.metrics), *more], len(units.metrics)
    ends = [count, count + 1, count + 3, count + 4]
    tables.append(Table(title="Baselines from few labels", columns=names, rows=rows, ends=ends))
    learned = {f"learned_{name}": numpy.stack([own[name] for own in answers], 1) for name in ("predicted", "nats")}
    return replace(units, columns={**columns, **learned})


def _embedded(experiment, args, parts: Parts, known: Mapping[tuple[str, int], Part]) -> dict[str, numpy.ndarray]:
    """The vector of each text that a baseline of sentence embeddings reads."""
    counts = experiment.baselines.sentence_embeddings
    if not counts:
        return {}
    progress.stage("embedding texts with minilm")
    rows = [*known["baselines.sentence_embeddings", max(counts)].texts, *parts.reported.texts]
    texts = list(dict.fromkeys(text for row in rows for text in row))
    return dict(zip(texts, embed(texts, experiment.data.max_tokens, experiment.data.truncate, args), strict=True))


def _bag_of_words(known: Part, part: Part, embedded: Mapping[str, numpy.ndarray]) -> numpy.ndarray:
    return baselines.bag_of_words(known.texts, numpy.array(known.labels), part.texts)


def _sentence_embeddings(known: Part, part: Part, embedded: Mapping[str, numpy.ndarray]) -> numpy.ndarray:
    of_known, of_part = (
        [numpy.stack([embedded[text] for text in side]) for side in zip(*one.texts, strict=True)]
        for one in (known, part)
    )
    return baselines.regression(of_known, numpy.array(known.labels), of_part)


_KINDS = {"bag_of_words": _bag_of_words, "sentence_embeddings": _sentence_embeddings}


def _ahead(metric: Metric, columns: Columns, other: Columns) -> tuple[float | None, ...]:
    """The run's figure less a baseline's, and the ends of the paired bootstrap's interval."""
    value, theirs = metric.value(columns), metric.value(other)
    if value is None or theirs is None:
        return None, None, None
    arrays = [metric.select(columns)], [metric.select(other)]
    ends = intervals.difference_over_seeds_and_units(*arrays, metric.compute) if metric.resampled else None
    return value - theirs, *(ends or (None, None))
