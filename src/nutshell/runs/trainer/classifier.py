"""A classifier, or a model of one number, under the exact Trainer: the loss of a step, and what is kept of an
evaluation."""

import math
from collections.abc import Sequence

import numpy
import torch
from torch.nn.functional import cross_entropy

from nutshell.bits.figures.metrics import Metric, evaluation_module
from nutshell.machine.errors import UserError
from nutshell.models.classifiers.wrapper import label_nats
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.order import PADDING, LengthGroupedSampler, in_data_order, longest_first


class ClassifierTrainer(ExactTrainer):
    """Trainer with an order of examples that does not depend on the global random state, and with a loss that is the
    mean over a step's examples, however they are split into batches and processes.

    A model with one output answers with a number: labels are numbers, and the loss is the squared error.

    Args:
        metrics: What is logged of an evaluation, next to the loss. The column that a metric's `where` names is one of
            the evaluated data set.
        class_weights: How much an example of each class weighs in the training loss, sum(weight * nats) / sum(weight)
            over a step; None: all alike. Evaluation weighs none.
    """

    def __init__(self, *args, metrics: Sequence[Metric], class_weights: Sequence[float] | None = None, **kwargs):
        super().__init__(*args, compute_loss_func=self.loss, compute_metrics=self.figures, **kwargs)
        self.metrics = evaluation_module(metrics)
        self.columns = {name for metric in metrics for name in metric.columns}
        self.groups = list(dict.fromkeys(metric.where for metric in metrics if metric.where))
        self.regression = self.model.config.num_labels == 1
        self.class_weights, self.evaluated = None, None
        if class_weights is not None:
            self.class_weights = torch.tensor(class_weights, dtype=torch.float32, device=self.args.device)

    def loss(self, outputs, labels, num_items_in_batch=None):
        """Nats or squared errors, weighted, summed over this batch and divided by the weight of the step's examples.
        Label smoothing weighs each class's share as torch's cross_entropy does."""
        weight = self._weight(labels) if num_items_in_batch is None else num_items_in_batch
        if self.regression:
            numbers = outputs.logits[:, 0].float()
            labels = torch.where(labels.isnan(), numbers.detach(), labels)  # times 0, a dummy's gradient would be NaN
            return (numbers - labels).square().sum() / weight
        return (
            cross_entropy(
                outputs.logits,
                labels,
                self.class_weights,
                reduction="sum",
                label_smoothing=self.args.label_smoothing_factor,
            )
            / weight
        )

    def _get_num_items_in_batch(self, batch_samples, device):
        """The weight of the step's examples on all processes; without class weights their number, as stock counts."""
        if not batch_samples:
            return None
        weight = sum(self._weight(batch["labels"].to(device)) for batch in batch_samples)
        return self.accelerator.gather(weight).sum() if self.args.world_size > 1 else weight

    def _weight(self, labels: torch.Tensor) -> torch.Tensor:
        """The summed weight of labels (batch,), of which a dummy's has none."""
        if self.regression:
            return (~labels.isnan()).sum().float()
        weights = 1.0 if self.class_weights is None else self.class_weights[labels.clamp(min=0)]
        return (weights * (labels != PADDING)).sum()

    def figures(self, result) -> dict[str, float | None]:
        """The metrics, and the loss: nats per example, or the mean squared error."""
        labels, *groups = (numpy.asarray(self.evaluated[name][:]) for name in ("labels", *self.groups))
        columns = answers(result, labels) | dict(zip(self.groups, groups, strict=True))
        values = self.metrics.compute(**{name: columns[name] for name in self.columns.union(self.groups)})
        return {**values, "loss": float(columns["squared_error" if self.regression else "nats"].mean())}

    def evaluate(self, eval_dataset=None, *args, **kwargs):
        """Stock."""
        self.evaluated = self.eval_dataset if eval_dataset is None else eval_dataset
        return super().evaluate(eval_dataset, *args, **kwargs)

    def predict(self, test_dataset, *args, **kwargs):
        """Stock."""
        self.evaluated = test_dataset
        return super().predict(test_dataset, *args, **kwargs)

    def answers(self, rows, labels: numpy.ndarray | None = None):
        """The model's answer to each example, in the order of the rows, by a pass over them longest first: little
        padding, and what does not fit into memory fails at once.

        Args:
            rows: A tokenized data set with its lengths.
            labels: (examples,) as `answers` below takes them.

        Returns:
            Its columns, and what Trainer says of the pass.
        """
        order = longest_first(rows["length"])
        result = self.predict(rows.select(order))
        columns = answers(result, None if labels is None else labels[order])
        return {name: in_data_order(column, order) for name, column in columns.items()}, result

    def prediction_step(self, *args, **kwargs):
        """Stock, but without a loss: stock takes the mean of batches' means, in which what fills up the last batches
        on several processes counts; `figures` takes the mean over examples."""
        return None, *super().prediction_step(*args, **kwargs)[1:]

    def dummy(self, row):
        """Without a label."""
        return {**row, "labels": math.nan if self.regression else PADDING}

    def order(self):
        """By length, if the experiment says so."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super().order()
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(self.train_dataset["length"][:], per_step, self.args.seed)


def answers(result, labels: numpy.ndarray | None = None) -> dict[str, numpy.ndarray]:
    """A model's answer to each example.

    Args:
        result: Trainer's `predictions`, logits (examples, labels), and `label_ids`, None where there are none.
        labels: As the data has them; None: those of the result, where numbers are rounded to fp32.

    Returns:
        Of a classifier: predicted (examples,), whole numbers; probabilities (examples, labels); confidence
        (examples,), the predicted class's probability. With labels: label (examples,), whole numbers; nats (examples,),
        -ln p(label). Of a model with one output: predicted (examples,), and with labels label and squared_error
        (examples,), all fp64.

    Raises:
        UserError: If the logits are not finite.
    """
    logits = torch.from_numpy(result.predictions).double()
    if not logits.isfinite().all():
        raise UserError("training diverged: the model's logits are not finite; try a lower training.learning_rate")
    labels = result.label_ids if labels is None else labels
    if logits.shape[1] == 1:
        columns = {"predicted": logits[:, 0].numpy()}
        if labels is not None:
            columns["label"] = labels.astype(numpy.float64)
            columns["squared_error"] = (columns["predicted"] - columns["label"]) ** 2
        return columns
    probabilities = logits.softmax(-1)
    columns = {
        "predicted": logits.argmax(-1).numpy(),
        "probabilities": probabilities.numpy(),
        "confidence": probabilities.amax(-1).numpy(),
    }
    if labels is not None:
        columns |= {"label": labels, "nats": label_nats(logits, torch.from_numpy(labels)).numpy()}
    return columns
