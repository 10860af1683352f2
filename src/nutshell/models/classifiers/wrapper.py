"""Classifiers: the thin wrapper over each stock class, its loading and what is frozen in it."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from nutshell.machine.errors import UserError
from nutshell.models import adapters
from nutshell.models.classifiers import encoders
from nutshell.models.find import read_config

# What a checkpoint may have beyond the encoder: the heads of pre-training and of other tasks, BERT's pooler in models
# that do without, a buffer of old transformers, what DeBERTa's pre-training added to its embeddings.
_OTHER_HEADS = re.compile(
    r"^(cls|lm_head|predictions|sop_classifier|discriminator_predictions|generator_predictions|generator_lm_head"
    r"|lm_predictions|mask_predictions|vocab_transform|vocab_layer_norm|vocab_projector|decoder|head|qa_outputs)\."
    r"|(^|\.)pooler\.|embeddings\.position_ids$|embeddings\.(word|position)_embeddings\._weight$"
)


class Classifier:
    """Mixed into each stock class for sequence classification, before it.

    The stock classes take `**kwargs`, from which Trainer concludes that they divide their loss by
    `num_items_in_batch`; they do not, so loss and gradient come out multiplied by the accumulation steps and
    the processes. Upstream: transformers#47688.
    """

    accepts_loss_kwargs = False

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        # FSDP divides these; stock names none, or the embeddings too, whose weights would be divided twice.
        self._no_split_modules = {type(layer).__name__ for layer in layers(self)}

    def label_nats(self, labels: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """The surprise at each true label, -ln p(label | text); call `eval()` first, or dropout is in it.

        Args:
            labels: (batch,) whole numbers.
            inputs: input_ids, attention_mask and, where the model has them, token_type_ids, each (batch, tokens).

        Returns:
            (batch,) nats, fp32.
        """
        return label_nats(self(**inputs).logits, labels)


def label_nats(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-ln softmax(logits)[label] for logits (batch, labels): (batch,) nats, in fp32 or better."""
    return cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), labels, reduction="none")


@cache
def classifier_class(config_class: type[PretrainedConfig]) -> type[PreTrainedModel]:
    """The wrapped class of an architecture. It bears the stock class's name, which the saved config then gives."""
    stock = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[config_class]
    return type(stock.__name__, (Classifier, stock), {"__doc__": Classifier.__doc__})


def load(checkpoint: Path, labels: Sequence[str], model, trained: Path | None = None) -> PreTrainedModel:
    """The checkpoint with a head for these labels; the head is new, and drawn from the global seed, unless the
    checkpoint has one.

    Args:
        checkpoint: A folder that `find` and `encoders.check` have passed.
        labels: What label 0, 1, ... means; none where a number is predicted.
        model: The experiment's block. `trainable`: all; head (what is beyond the encoder, and its pooler); or last_<n>,
            the n highest layers and the head. `dropout`: a probability for every place that has one; None leaves the
            checkpoint's own. `new_head`: whether the head's last layer is drawn again. `lora`: its adapters, or None.
        trained: A checkpoint of this very experiment, whose weights are read instead.

    Returns:
        A `classifier_class`; with `lora`, within a PeftModel.

    Raises:
        UserError: If weights cannot be read, are missing, too many or do not fit.
    """
    source = trained if trained and not model.lora else checkpoint  # adapters are on what they were trained on
    new_head = model.new_head and source == checkpoint
    classifier = _load(source, labels, model.dropout, new_head)
    if new_head:
        _draw(classifier)
    if model.lora:
        return adapters.add(
            classifier,
            model.lora,
            encoders.ADAPTED[classifier.config.model_type],
            adapters.CLASSIFIER,
            trained,
            whole=_beyond(classifier),
        )
    freeze(classifier, model.trainable)
    return classifier


def load_saved(folder: Path) -> PreTrainedModel:
    """The classifier that a run has saved in its `model/`, with the labels that its config names.

    Raises:
        UserError: If weights cannot be read, are missing, too many or do not fit.
    """
    config = read_config(folder)
    names = {} if config.get("problem_type") == "regression" else config["id2label"]
    return _load(folder, [names[str(number)] for number in range(len(names))], None, False)


def layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """An encoder's layers, the lowest first."""
    return next(module for module in model.base_model.modules() if isinstance(module, torch.nn.ModuleList))


def freeze(model: PreTrainedModel, trainable: str) -> None:
    """Turns off the gradients of the encoder, except for its pooler and the layers that `trainable` names."""
    if trainable == "all":
        return
    every, last = layers(model), 0 if trainable == "head" else int(trainable.removeprefix("last_"))
    model.base_model.requires_grad_(False)
    for module in (*every[len(every) - last :], getattr(model.base_model, "pooler", None)):
        if module is not None:
            module.requires_grad_(True)


def _beyond(model: PreTrainedModel) -> list[str]:
    """The names of what `trainable: head` trains: all that is beyond the encoder, and its pooler. (Left to itself peft
    freezes the pooler, which some checkpoints lack, so that it would stay as it was drawn.)"""
    encoder = model.base_model_prefix
    beyond = [name for name, part in model.named_children() if name != encoder and [*part.parameters()]]
    return beyond + ["pooler"] * (getattr(model.base_model, "pooler", None) is not None)


def _load(checkpoint: Path, labels: Sequence[str], dropout: float | None, new_head: bool) -> PreTrainedModel:
    encoders.check_head(checkpoint, labels, new_head)
    classifier, report = _read(checkpoint, labels, dropout)
    _check(checkpoint, classifier, report, labels, new_head)
    return classifier


def _read(checkpoint: Path, labels: Sequence[str], dropout: float | None) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model and what transformers says about its loading."""
    try:
        config = AutoConfig.from_pretrained(checkpoint)
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in config.id2label.items()}
        else:
            config.num_labels = 1
        # A saved one would change what transformers' pipeline makes of the logits.
        config.problem_type = "single_label_classification" if labels else "regression"
        for key, value in config.to_dict().items():
            if dropout is not None and "dropout" in key and not isinstance(value, bool | str):
                setattr(config, key, dropout)
        return classifier_class(type(config)).from_pretrained(
            checkpoint,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are in the report
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{checkpoint}: its weights cannot be read, or do not fit its own config: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from None


def _check(
    checkpoint: Path, model: PreTrainedModel, report: dict[str, Any], labels: Sequence[str], new_head: bool
) -> None:
    """Passes a model whose every weight was read, except a head's that is new."""
    encoder = f"{model.base_model_prefix}."
    last = tuple(f"{name}." for name, module in model.named_modules() if module is last_layer(model))
    for name, found, expected in report["mismatched_keys"]:
        if not (new_head and name.startswith(last)):
            sizes = [" x ".join(map(str, shape)) for shape in (found, expected)]
            raise UserError(
                f"{checkpoint}: its weights do not fit {len(labels)} labels or its own config: {name} is {sizes[0]}, "
                f"expected {sizes[1]}"
            )
    missing = [name for name in report["missing_keys"] if name.startswith(encoder) and ".pooler." not in name]
    head = {name for name in model.state_dict() if name.startswith(last)}
    if len(head & {*report["missing_keys"]}) not in (0, len(head)):
        missing += head & {*report["missing_keys"]}
    if missing:
        raise UserError(f"{checkpoint}: lacks weights of the encoder or the head, {_some(missing)} among them")
    if surplus := [name for name in report["unexpected_keys"] if not _OTHER_HEADS.search(name)]:
        raise UserError(f"{checkpoint}: has weights that its config has no room for, {_some(surplus)} among them")


def last_layer(model: PreTrainedModel) -> torch.nn.Linear:
    """The layer with one row for each label."""
    return getattr(model.classifier, "out_proj", model.classifier)


def _draw(model: PreTrainedModel) -> None:
    """Draws a head's last layer again, as the stock class does."""
    head = last_layer(model)
    for parameter in head.parameters():
        parameter._is_hf_initialized = False  # which transformers sets on what was read
    model._init_weights(head)


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:3])
