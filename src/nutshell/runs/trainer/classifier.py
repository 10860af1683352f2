"""A classifier under the exact Trainer: the loss of a step, and what is kept of an evaluation."""

from collections.abc import Sequence

import numpy
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import SequentialSampler

from nutshell.bits.metrics import Metric, evaluation_module
from nutshell.machine.errors import UserError
from nutshell.models.classifier import label_nats
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.order import PADDING, LengthGroupedSampler


class ClassifierTrainer(ExactTrainer):
    """Trainer with an order of examples that does not depend on the global random state, and with a loss that is the
    mean over a step's examples, however they are split into batches and processes.

    Args:
        metrics: What is logged of an evaluation, next to the loss.
    """

    def __init__(self, *args, metrics: Sequence[Metric], **kwargs):
        super().__init__(*args, compute_loss_func=self.loss, compute_metrics=self.figures, **kwargs)
        self.metrics = evaluation_module(metrics)
        self.columns = {name for metric in metrics for name in metric.columns}

    def loss(self, outputs, labels, num_items_in_batch=None):
        """Nats, summed over this batch and divided by the step's number of examples."""
        count = len(labels) if num_items_in_batch is None else num_items_in_batch
        smoothing = self.args.label_smoothing_factor
        return cross_entropy(outputs.logits, labels, reduction="sum", label_smoothing=smoothing) / count

    def figures(self, result) -> dict[str, float | None]:
        """The metrics, and the loss in nats per example."""
        columns = answers(result)
        values = self.metrics.compute(**{name: columns[name] for name in self.columns})
        return {**values, "loss": float(columns["nats"].mean())}

    def prediction_step(self, *args, **kwargs):
        """Stock, but without a loss: stock takes the mean of batches' means, in which what fills up the last batches
        on several processes counts; `figures` takes the mean over examples."""
        return None, *super().prediction_step(*args, **kwargs)[1:]

    def dummy(self, row):
        """Without a label."""
        return {**row, "labels": PADDING}

    def order(self):
        """By length, if the experiment says so."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super().order()
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(self.train_dataset["length"][:], per_step, self.args.seed)

    def _get_eval_sampler(self, eval_dataset):
        # Stock grouping regroups evaluation too, so that predictions are not in the data's order.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None


def answers(result) -> dict[str, numpy.ndarray]:
    """A classifier's answer to each example.

    Args:
        result: Trainer's `predictions`, logits (examples, labels), and `label_ids`.

    Returns:
        label and predicted (examples,), whole numbers; nats (examples,), -ln p(label); probabilities
        (examples, labels).

    Raises:
        UserError: If the logits are not finite.
    """
    logits, labels = torch.from_numpy(result.predictions).double(), torch.from_numpy(result.label_ids)
    if not logits.isfinite().all():
        raise UserError("training diverged: the model's logits are not finite; try a lower training.learning_rate")
    return {
        "label": labels.numpy(),
        "predicted": logits.argmax(-1).numpy(),
        "nats": label_nats(logits, labels).numpy(),
        "probabilities": logits.softmax(-1).numpy(),
    }
