"""A language model that answers prompts, under the exact Trainer: what each answer costs, batch by batch."""

from collections.abc import Mapping, Sequence

import numpy
import torch

from nutshell.bits.figures import calibration
from nutshell.bits.figures.metrics import Metric
from nutshell.data.parts import Part
from nutshell.data.text.templates import Prompts
from nutshell.machine.errors import UserError
from nutshell.models.language.continuations import Past, continuation_nats, looks_back_by_places, nothing, read
from nutshell.runs.trainer.exact import UntrainedTrainer
from nutshell.runs.trainer.order import in_data_order, longest_first


class PromptTrainer(UntrainedTrainer):
    """Trainer whose prediction is the score of every answer to every template's prompt: a batch holds the places of
    examples.

    Args:
        model, args: As UntrainedTrainer has them.
        prompts: What makes prompts of texts.
        context: The most tokens that the model can be fed; None if there is no limit.
        normalization: What a score is divided by: none, tokens or bytes of the answer.
    """

    def __init__(self, model, args, prompts: Prompts, context: int | None, normalization: str, **kwargs):
        super().__init__(model, args, **kwargs)
        self.prompts, self.context, self.rows = prompts, context, []
        self.heads: list[Past | None] | None = None
        sizes = {
            "none": lambda answer, ids: 1,
            "tokens": lambda answer, ids: len(ids),
            "bytes": lambda answer, ids: len(answer.encode()),
        }[normalization]
        answers = zip((template.answers for template in prompts.templates), prompts.answers, strict=True)
        self.sizes = numpy.array([[*map(sizes, texts, ids)] for texts, ids in answers], float)

    def scores(self, texts: Sequence[tuple[str, ...]]) -> tuple[numpy.ndarray, object, int]:
        """The score of each answer: ln p(answer | prompt), the sum over its tokens, by a pass over the examples longest
        first.

        Returns:
            (examples, templates, labels), fp64; what Trainer says of the pass; how many tokens it was of, prompts and
            answers, each counted once for every template that has it.

        Raises:
            UserError: If a prompt is too long for the model, or a score is not finite.
        """
        self.rows, self.heads = self.prompts.rows(texts), None
        longest = self.prompts.longest(self.rows)
        if self.context is not None and longest > self.context + 1:  # the last token is predicted and not fed
            raise UserError(
                f"prompt: the longest has {longest:,} tokens with its answer, more than the {self.context:,} positions "
                "of the model; lower data.max_tokens"
            )
        lengths = [max(map(len, row)) for row in self.rows]
        order = longest_first(lengths)
        result = self.predict(order.tolist())
        nats = in_data_order(result.predictions, order).astype(numpy.float64)
        if not numpy.isfinite(nats).all():
            raise UserError("the model's answers have no finite probability")
        tokens = sum(len(ids) for row in self.rows for ids in row)
        tokens += len(texts) * sum(len(ids) for answers in self.prompts.answers for ids in answers)
        return -nats / self.sizes, result, tokens

    def answer(self, model, places):
        """Nats (batch, templates, labels)."""
        batch = [self.rows[place] for place in places]
        nats = torch.zeros(len(batch), *self.sizes.shape)
        if self.heads is None:
            apart = looks_back_by_places(model)
            self.heads = [
                read(model, nothing(1, model.device), [head])[0] if head and not apart else None
                for head in self.prompts.heads
            ]
        for group, head, ids in zip(self.prompts.groups, self.heads, self.prompts.heads, strict=True):
            own = [[row[place] for place in group] for row in batch]
            alike = all(len(row) > len(ids) and [*row[: len(ids)]] == ids for rows in own for row in rows)
            answers = [self.prompts.answers[place] for place in group]
            nats[:, group] = continuation_nats(model, head if alike else None, own, answers)
        return nats.to(self.args.device)


def columns_of(scores: numpy.ndarray, offsets: numpy.ndarray, part: Part) -> dict[str, numpy.ndarray]:
    """The columns of a classifier: (examples,) each with one template, (examples, templates) with several; and
    probabilities, with the labels last."""
    log_p, label = calibration.log_probabilities(scores, offsets), numpy.asarray(part.labels)
    columns = {
        "predicted": log_p.argmax(-1),
        "probabilities": numpy.exp(log_p),
        "confidence": numpy.exp(log_p.max(-1)),
        "nats": -numpy.take_along_axis(log_p, label[:, None, None], -1)[..., 0],
    }
    if log_p.shape[1] == 1:
        columns = {name: values[:, 0] for name, values in columns.items()}
    return columns | {"label": label}


def figures_of_each(
    metrics: Sequence[Metric], columns: Mapping[str, numpy.ndarray], count: int
) -> list[list[float | None]]:
    """Each template's figures."""
    return [
        [
            metric.value({name: values[:, place] if values.ndim > 1 else values for name, values in columns.items()})
            for metric in metrics
        ]
        for place in range(count)
    ]


def best(metric: Metric, every: Sequence[Sequence[float | None]]) -> int:
    """The place of the template with the best first figure, the first of several."""
    sign = 1 if metric.higher_is_better else -1
    return max(range(len(every)), key=lambda place: (sign * numpy.nan_to_num(every[place][0], nan=-sign * 1e9), -place))


def mean_answers(columns: Mapping[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """One answer to each example: that of the templates' mean probabilities."""
    if columns["predicted"].ndim == 1:
        return dict(columns)
    mean = columns["probabilities"].mean(1)
    return {"label": columns["label"], "predicted": mean.argmax(-1), "confidence": mean.max(-1)}
