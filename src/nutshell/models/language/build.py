"""A language model from a checkpoint, or a new one from its config."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedModel, set_seed

from nutshell.machine.errors import UserError
from nutshell.models import adapters
from nutshell.models.find import read_config
from nutshell.models.language.architectures import ARCHITECTURES, BUFFERS, end_of_text, model_class, own_end_of_text
from nutshell.models.language.causal import CausalModel


def load(checkpoint: Path) -> CausalModel:
    """The language model of a folder that `find` has passed, with no generation settings of its own and with the one
    token that ends a text.

    Raises:
        UserError: If weights are missing, too many, or do not fit.
    """
    stock = model_class(read_config(checkpoint)["model_type"])
    try:
        model, report = stock.from_pretrained(
            checkpoint, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{checkpoint}: its weights cannot be read, or do not fit its own config: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from None
    for key, problem in (
        ("missing_keys", "lacks weights"),
        ("unexpected_keys", "has weights that its config has no room for"),
    ):
        if names := sorted(name for name in report[key] if not BUFFERS.search(name)):
            raise UserError(f"{checkpoint}: {problem}, {', '.join(names[:3])} among them")
    if isinstance(ends := model.config.eos_token_id, list):
        own = own_end_of_text(checkpoint, Tokenizer.from_file(str(checkpoint / "tokenizer.json")).token_to_id)
        model.config.eos_token_id = end_of_text(ends, own)
    model.config.use_cache = True  # stock Trainer turns it off to train, and saves that
    # Otherwise the checkpoint's own generation_config.json would add settings that nobody stated.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    return model


def adapted(checkpoint: Path, lora, trained: Path | None, seed: int, key: str = "model.lora"):
    """The language model of a checkpoint with low-rank adapters, drawn from the seed; a peft.PeftModel.

    Args:
        checkpoint: A folder that `find` has passed.
        lora: A block of low-rank adapters.
        trained: A checkpoint of this very experiment, whose adapters are read, or None.
        seed: The run's.
        key: What the experiment calls the block, for messages.

    Raises:
        UserError: If it cannot be loaded, or a target is no linear layer of it.
    """
    model = load(checkpoint)
    targets = ARCHITECTURES[model.config.model_type].adapted
    set_seed(seed)
    return adapters.add(model, lora, targets, adapters.CAUSAL, trained, key=key)


def create(config: dict[str, Any], vocab: int, end_of_text: int, seed: int) -> PreTrainedModel:
    """A new language model, its weights drawn from the seed.

    Args:
        config: A checked `model.config:` block.
        vocab: Tokens of its tokenizer.
        end_of_text: The token that begins and ends a text.
        seed: The run's.

    Raises:
        UserError: If the config's keys contradict each other.
    """
    keys = dict(config)
    architecture = keys.pop("model_type")
    new = model_class(architecture)
    set_seed(seed)
    ends = {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    try:
        # Some configs name a padding token, whose embedding would never be trained: here it is a byte.
        return new(new.config_class(**keys, **ends, vocab_size=vocab, pad_token_id=None))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"model.config: no {architecture} can be made of it: {reason}") from None
