"""Low-rank adapters (LoRA) on a classifier. peft is imported only where an experiment asks for them."""

import copy
import os
from pathlib import Path

from transformers import PreTrainedModel

from nutshell.machine.errors import UserError
from nutshell.models.classifiers.encoders import ADAPTED
from nutshell.models.find import MINILM_REPOSITORY


def add(classifier: PreTrainedModel, model, trained: Path | None):
    """The classifier with adapters: each target's weight W becomes W + (alpha / rank) B A, with B = 0 at first.

    Trained are A and B and, whole, what `trainable: head` trains: all that is beyond the encoder, and its pooler. (Left
    to itself peft freezes the pooler, which some checkpoints lack, so that it would stay as it was drawn.)

    Args:
        classifier: From `wrapper.load`.
        model: The experiment's block: name, revision and lora, with rank, alpha, dropout and targets.
        trained: A checkpoint of this very experiment, whose adapters are read, or None.

    Returns:
        A peft.PeftModelForSequenceClassification.

    Raises:
        UserError: If a target is no linear layer of the encoder.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise UserError("model.lora: is merged on one device, and FSDP divides the model: use accelerate_config.yaml")
    encoder = classifier.base_model_prefix
    beyond = [name for name, part in classifier.named_children() if name != encoder and [*part.parameters()]]
    pooler = ["pooler"] if getattr(classifier.base_model, "pooler", None) is not None else []
    settings = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=model.lora.rank,
        lora_alpha=model.lora.alpha,
        lora_dropout=model.lora.dropout,
        target_modules=list(model.lora.targets or ADAPTED[classifier.config.model_type]),
        modules_to_save=beyond + pooler,
    )
    try:
        adapted = get_peft_model(classifier, settings)
    except (ValueError, TypeError) as error:
        raise UserError(f"model.lora.targets: {str(error).strip().splitlines()[0]}") from None
    # Otherwise a folder of this machine, which means nothing elsewhere.
    settings.base_model_name_or_path = MINILM_REPOSITORY if model.name == "minilm" else model.name
    settings.revision = model.revision
    if trained:
        adapted.load_adapter(str(trained), "default", is_trainable=True)
    return adapted


def save(adapted, tokenizer, folder: Path) -> None:
    """Writes `adapter/`, for peft, and `model/`, the same classifier with the adapters added to its weights.

    Args:
        adapted: From `add`; it stays as it is.
        tokenizer: The model's.
        folder: The run's.
    """
    adapted.save_pretrained(folder / "adapter")
    copy.deepcopy(adapted).merge_and_unload().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
