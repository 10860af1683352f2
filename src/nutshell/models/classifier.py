"""BERT for classification: the thin wrapper, its loading and what is frozen in it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from nutshell.machine.errors import UserError


class BertClassifier(BertForSequenceClassification):
    """BertForSequenceClassification whose loss Trainer scales correctly under gradient accumulation.

    The stock class takes `**kwargs`, from which Trainer concludes that it divides its loss by
    `num_items_in_batch`; it does not, so loss and gradient come out multiplied by the accumulation steps and
    the processes. Upstream: transformers#47688.

    Source: Devlin et al. 2019, "BERT", section 4.
    """

    accepts_loss_kwargs = False

    def __init__(self, config: BertConfig):
        super().__init__(config)
        # FSDP divides these; stock names BertEmbeddings too, and its word embeddings would be divided twice.
        self._no_split_modules = {"BertLayer"}

    def label_nats(self, labels: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """The surprise at each true label, -ln p(label | text); call `eval()` first, or dropout is in it.

        Args:
            labels: (batch,) whole numbers.
            inputs: input_ids, attention_mask, token_type_ids, each (batch, tokens).

        Returns:
            (batch,) nats, fp32.
        """
        return label_nats(self(**inputs).logits, labels)


def label_nats(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-ln softmax(logits)[label] for logits (batch, labels): (batch,) nats, in fp32 or better."""
    return cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), labels, reduction="none")


def load(
    checkpoint: Path, labels: Sequence[str], trainable: str = "all", dropout: float | None = None
) -> BertClassifier:
    """The checkpoint with a head for these labels; the head is new, and drawn from the global seed, unless the
    checkpoint has one.

    Args:
        checkpoint: A folder that `find` and `headers.check_classifier` have passed.
        labels: What label 0, 1, ... means.
        trainable: `all`; `head` (pooler and classifier); or `last_<n>`, the n highest layers and the head.
        dropout: Probability, for hidden states and attention alike; None leaves the checkpoint's own.

    Raises:
        UserError: If weights cannot be read or do not fit.
    """
    try:
        config = BertConfig.from_pretrained(checkpoint)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in config.id2label.items()}
        if dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = config.classifier_dropout = dropout
        model = BertClassifier.from_pretrained(checkpoint, config=config, dtype=torch.float32, use_safetensors=True)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{checkpoint}: its weights cannot be read, or do not fit {len(labels)} labels or its own config: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from None
    freeze(model, trainable)
    return model


def freeze(model: BertClassifier, trainable: str) -> None:
    """Turns off the gradients of the embeddings and of every layer that `trainable` does not name."""
    if trainable == "all":
        return
    layers = model.bert.encoder.layer
    last = 0 if trainable == "head" else int(trainable.removeprefix("last_"))
    for module in (model.bert.embeddings, *layers[: len(layers) - last]):
        module.requires_grad_(False)
