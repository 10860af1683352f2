"""A language model under the exact Trainer: every token of a window is trained on, and measured in nats."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from torch.nn.functional import pad
from transformers import TrainerCallback

from nutshell.bits.figures.metrics import Metric, evaluation_module
from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.text.windows import Windows
from nutshell.machine.errors import UserError
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.order import PADDING

_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")


class LanguageModelTrainer(ExactTrainer):
    """Trainer that trains on every token of a window, and evaluates to what each token costs, not to a mean of
    batches' means.

    Args:
        vocabulary: The model's.
        metrics: What is logged of an evaluation, next to the loss.
        eval_sizes: `bytes` and `words` of the validation part; none without one.
    """

    def __init__(
        self, *args, vocabulary: Vocabulary, metrics: Sequence[Metric], eval_sizes: Mapping[str, int], **kwargs
    ):
        collator = TextCollator(vocabulary.end_of_text, vocabulary.only_fed)
        super().__init__(*args, data_collator=collator, compute_metrics=self.figures, **kwargs)
        self.add_callback(_OwnEnds(self.model))
        self.metrics, self.eval_sizes, self.eval_tokens = evaluation_module(metrics), eval_sizes, None

    def measure(self, windows: Windows) -> tuple[Any, numpy.ndarray]:
        """What `predict` returns, and what each token of the stream except the first costs: (tokens - 1,) nats, 0 where
        it is not predicted.

        Raises:
            UserError: If a token's cost is not finite.
        """
        self.compute_metrics = None  # of the validation part
        self.data_collator.only_fed = windows.only_fed
        result = self.predict(windows)
        _check_finite(result.predictions)
        costs = windows.in_order(result.predictions)
        if result.label_ids.sum() != windows.scored.sum():
            raise RuntimeError(f"{result.label_ids.sum()} tokens were scored instead of {windows.scored.sum()}")
        return result, costs

    def figures(self, result) -> dict[str, float | None]:
        """Of Trainer's (nats, tokens): loss, nats per predicted token, and the metrics; no mean of means."""
        _check_finite(result.predictions)
        totals = {
            "nats": float(result.predictions.sum(dtype=numpy.float64)),
            "tokens": float(result.label_ids.sum()),
            **self.eval_sizes,
        }
        values = self.metrics.compute(**{name: [total] for name, total in totals.items()})
        return {**values, "loss": totals["nats"] / totals["tokens"]}

    def dummy(self, row):
        """Nothing of it is scored."""
        return row[0], 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Stock loss, but of rows whose last token is predicted and not fed, as in measuring: otherwise the context's
        last position would never be trained."""
        targets = inputs["labels"][:, 1:].contiguous()
        inputs = {name: tensor[:, :-1] for name, tensor in inputs.items()} | {
            "labels": targets,
            "shift_labels": targets,
            "use_cache": False,  # no token comes after these
        }
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def evaluation_loop(self, dataloader, *args, **kwargs):
        """Stock; every batch is padded to the longest window of all."""
        self.eval_tokens = max(end - start - 1 for start, end, _ in dataloader.dataset.spans)
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Nats (batch, tokens - 1), 0 where nothing is scored, and (batch,) how many tokens are."""
        inputs = self._prepare_inputs(inputs)
        scored = inputs["labels"][:, 1:] != PADDING
        # No mask: what pads a row comes after all that is scored, and a mask costs attention its fast path.
        with torch.no_grad(), self.compute_loss_context_manager():
            nats = self.accelerator.unwrap_model(model).token_nats(inputs["input_ids"], scored=scored)
        return None, pad(nats, (0, self.eval_tokens - nats.shape[1])), scored.sum(-1)


class _OwnEnds(TrainerCallback):
    """Keeps the tokens that begin and end a model's texts. Stock Trainer puts the tokenizer's in their place when it
    begins to train, of a chat model those of a turn: the saved model would end its texts with another token than it was
    trained and measured with."""

    def __init__(self, model):
        self.configs = [config for config in (model.config, model.generation_config) if config is not None]
        self.tokens = [{key: getattr(config, key, None) for key in _ENDS} for config in self.configs]

    def on_train_begin(self, args, state, control, **kwargs):
        """Stock has changed them by now, and saved nothing yet."""
        for config, tokens in zip(self.configs, self.tokens, strict=True):
            for key, value in tokens.items():
                setattr(config, key, value)


def _check_finite(nats: numpy.ndarray) -> None:
    if not numpy.isfinite(nats).all():
        raise UserError("a token's cost is not finite: training diverged; try a lower training.learning_rate")


class TextCollator:
    """Windows -> a batch: input_ids and labels (batch, tokens), labels -100 where nothing is to be predicted, and an
    attention_mask where a row is padded.

    Args:
        padding: The token id to pad with, on the right.
        only_fed: Tokens that are not predicted wherever they are.
    """

    def __init__(self, padding: int, only_fed: Sequence[int] = ()):
        self.padding, self.only_fed = padding, only_fed

    def __call__(self, rows: Sequence[tuple[numpy.ndarray, int]]) -> dict[str, torch.Tensor]:
        """The batch."""
        lengths = [len(ids) for ids, _ in rows]
        width = max(lengths)
        batch = {
            "input_ids": torch.full((len(rows), width), self.padding),
            "labels": torch.full((len(rows), width), PADDING),
        }
        for row, (ids, scored) in enumerate(rows):
            ids = torch.from_numpy(ids.astype(numpy.int64))
            batch["input_ids"][row, : len(ids)] = ids
            batch["labels"][row, len(ids) - scored : len(ids)] = ids[len(ids) - scored :]
        for token in self.only_fed:
            batch["labels"][batch["input_ids"] == token] = PADDING
        if min(lengths) < width:
            batch["attention_mask"] = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
        return batch
