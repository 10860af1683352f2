"""Low-rank adapters (LoRA) on a classifier. peft is imported only where an experiment asks for them."""

import copy
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from nutshell.machine.errors import UserError
from nutshell.models.classifiers.encoders import ADAPTED
from nutshell.models.embedded.registry import repository


def add(classifier: PreTrainedModel, model, trained: Path | None):
    """The classifier with adapters: each target's weight W becomes W + (alpha / rank) B A, with B = 0 at first.

    Trained are A and B and, whole, what `trainable: head` trains: all that is beyond the encoder, and its pooler. (Left
    to itself peft freezes the pooler, which some checkpoints lack, so that it would stay as it was drawn.)

    Args:
        classifier: From `wrapper.load`.
        model: The experiment's block: lora, with rank, alpha, dropout and targets.
        trained: A checkpoint of this very experiment, whose adapters are read, or None.

    Returns:
        A peft.PeftModelForSequenceClassification.

    Raises:
        UserError: If a target is no linear layer of the encoder, or the model is divided.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise UserError("model.lora: is merged on one device, and FSDP divides the model: use accelerate_config.yaml")
    encoder = classifier.base_model_prefix
    beyond = [name for name, part in classifier.named_children() if name != encoder and [*part.parameters()]]
    pooler = ["pooler"] if getattr(classifier.base_model, "pooler", None) is not None else []
    targets = list(model.lora.targets or ADAPTED[classifier.config.model_type])
    _check(targets, classifier.base_model)
    settings = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=model.lora.rank,
        lora_alpha=model.lora.alpha,
        lora_dropout=model.lora.dropout,
        target_modules=targets,
        modules_to_save=beyond + pooler,
    )
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # peft asks transformers by an old name
        adapted = get_peft_model(classifier, settings)
    if trained:
        adapted.load_adapter(str(trained), "default", is_trainable=True)
    return adapted


def merge(adapted) -> None:
    """Adds the adapters to the weights that they are of, so that what is measured is what `save` writes."""
    adapted.merge_adapter()


def save(adapted, tokenizer, folder: Path, model) -> None:
    """Writes `adapter/`, for peft, and `model/`, the classifier with the adapters added to its weights.

    Args:
        adapted: From `add`, merged or not; its weights stay as they are.
        tokenizer: The model's.
        folder: The run's.
        model: The experiment's block: name and revision, which the adapter says that it is of.
    """
    with warnings.catch_warnings(action="ignore"):  # that it is merged already
        merged = copy.deepcopy(adapted).merge_and_unload()
    merged.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    settings = adapted.peft_config["default"]  # until now with a folder of this machine, which means nothing elsewhere
    settings.base_model_name_or_path = repository(model.name) or model.name
    settings.revision = model.revision
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)  # or peft asks the Hub for their number
    (folder / "adapter" / "README.md").unlink()  # a form that nobody has filled in


def _check(targets: Sequence[str], encoder: PreTrainedModel) -> None:
    """Passes ends of the names of an encoder's linear layers: peft passes over those that match none."""
    names = [name for name, part in encoder.named_modules() if isinstance(part, nn.Linear) and "pooler" not in name]
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            known = ", ".join(sorted({name.split(".")[-1] for name in names}))
            raise UserError(f"model.lora.targets: {target} is no linear layer of this encoder, which has {known}")
