"""A language model from a checkpoint, or a new one from its config."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import GenerationConfig, PreTrainedModel, set_seed

from nutshell.machine.errors import UserError
from nutshell.models.find import read_config
from nutshell.models.language.architectures import model_class
from nutshell.models.language.causal import CausalModel


def load(checkpoint: Path) -> CausalModel:
    """The language model of a folder that `find` has passed, with no generation settings of its own.

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
        if report[key]:
            raise UserError(f"{checkpoint}: {problem}, {', '.join(sorted(report[key])[:3])} among them")
    model.config.use_cache = True  # stock Trainer turns it off to train, and saves that
    # Otherwise the checkpoint's own generation_config.json would add settings that nobody stated.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    return model


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
    try:
        return new(new.config_class(**keys, vocab_size=vocab, bos_token_id=end_of_text, eos_token_id=end_of_text))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"model.config: no {architecture} can be made of it: {reason}") from None
