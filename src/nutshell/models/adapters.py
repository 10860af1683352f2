"""Low-rank adapters (LoRA) on a classifier or a language model. peft is imported only where an experiment asks for
them."""

import copy
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nutshell.machine.errors import UserError
from nutshell.models.embedded.registry import repository
from nutshell.models.targets import check_targets

CLASSIFIER, CAUSAL = "SEQ_CLS", "CAUSAL_LM"  # peft's task types


def add(
    model: PreTrainedModel,
    lora,
    targets: Sequence[str],
    task_type: str,
    trained: Path | None,
    whole: Sequence[str] = (),
    key: str = "model.lora",
):
    """The model with adapters: each target's weight W becomes W + (alpha / rank) B A, with B = 0 at first.

    Trained are A and B and, whole, the modules that `whole` names. They are drawn from the global seed.

    Args:
        model: A classifier or a language model.
        lora: A block of low-rank adapters: rank, alpha, dropout and targets.
        targets: The ends of the names of the layers that are adapted if the block states none.
        task_type: CLASSIFIER or CAUSAL.
        trained: A checkpoint of this very experiment, whose adapters are read, or None.
        whole: Names of modules.
        key: What the experiment calls the block, for messages.

    Returns:
        A peft.PeftModel.

    Raises:
        UserError: If a target is no linear layer of the model below its head, or the model is divided.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
    """
    from peft import LoraConfig

    if divided():
        raise UserError(f"{key}: is merged on one device, and FSDP divides the model: use accelerate_config.yaml")
    targets, layers = list(lora.targets or targets), _layers(model)
    if not targets:
        raise UserError(
            f"{key}: adapts attention's queries and values by default, and a {model.config.model_type} has none; "
            f"state {key}.targets"
        )
    check_targets(f"{key}.targets", targets, [*layers])
    settings = LoraConfig(
        task_type=task_type,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        modules_to_save=list(whole) or None,
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
    )
    return wrap(model, settings, trained)


def divided() -> bool:
    """Whether the launch divides the model among processes, none of which could then merge what was learned."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def wrap(model: PreTrainedModel, settings, trained: Path | None):
    """The model with an adapter of these settings of peft's, and with the weights of it that a checkpoint has."""
    from peft import get_peft_model

    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # peft asks transformers by an old name
        adapted = get_peft_model(model, settings)
    if trained:
        adapted.load_adapter(str(trained), "default", is_trainable=True)
    return adapted


def merge(adapted) -> None:
    """Adds the adapters to the weights that they are of, so that what is measured is what `save` writes."""
    adapted.merge_adapter()


def save(adapted, tokenizer, folder: Path, model) -> None:
    """Writes `adapter/`, for peft, and `model/`, the model with the adapters added to its weights.

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
    write(adapted, folder, model)


def write(adapted, folder: Path, model) -> None:
    """Writes `adapter/` alone, which says that it is of the experiment's checkpoint. Arguments as `save` has them."""
    settings = adapted.peft_config["default"]  # until now with a folder of this machine, which means nothing elsewhere
    settings.base_model_name_or_path = repository(model.name) or model.name
    settings.revision = model.revision
    if hasattr(settings, "tokenizer_name_or_path"):
        settings.tokenizer_name_or_path = settings.base_model_name_or_path
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)  # or peft asks the Hub for their number
    (folder / "adapter" / "README.md").unlink()  # a form that nobody has filled in


def parameters(model) -> dict[str, int]:
    """How many there are, and how many of them are trained. What peft keeps of a module that is trained whole, as it
    was, is not counted."""
    weights = [weight for name, weight in model.named_parameters() if ".original_module." not in name]
    return {
        "all": sum(weight.numel() for weight in weights),
        "trained": sum(weight.numel() for weight in weights if weight.requires_grad),
    }


def _layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers that may be adapted, by name: no pooler, no head."""
    head = model.get_output_embeddings()
    return {
        name: part
        for name, part in model.base_model.named_modules()
        if isinstance(part, nn.Linear | Conv1D) and part is not head and "pooler" not in name
    }
