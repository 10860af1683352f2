"""An experiment's text, made ready: its parts, the tokenizer, each part's stream of tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from nutshell.data import documents, vocabularies
from nutshell.data import windows as blocks
from nutshell.data.documents import TextParts
from nutshell.data.vocabularies import Vocabulary
from nutshell.experiment import training_keys
from nutshell.experiment.blocks import LanguageModel
from nutshell.machine.errors import UserError
from nutshell.models import find as models


@dataclass(frozen=True)
class Prepared:
    """What training and measuring need.

    Attributes:
        checkpoint: The model's folder; None where a new one is made.
        parts, vocabulary: The documents and the tokenizer.
        streams: Each part's tokens, (tokens,) int32.
    """

    checkpoint: Path | None
    parts: TextParts
    vocabulary: Vocabulary
    streams: dict[str, numpy.ndarray]


def trains(experiment: LanguageModel) -> bool:
    """Whether any step of training is asked for."""
    settings = training_keys.defaults() | experiment.training
    return settings["max_steps"] > 0 or settings["num_train_epochs"] > 0


def prepare(experiment: LanguageModel, weights: bool = True) -> Prepared:
    """Finds the checkpoint, reads and divides the text, trains a tokenizer if one is to be made, makes tokens.

    Args:
        experiment: The experiment.
        weights: Whether the checkpoint's weights are wanted, or its config and tokenizer alone.

    Raises:
        UserError: For whatever of these cannot be had, or if a block is longer than the model's context.
    """
    settings = training_keys.defaults() | experiment.training
    model, wanted = experiment.model, experiment.data.block_tokens
    checkpoint = models.find(model, models.ARCHITECTURES, weights) if model.name else None
    config: dict[str, Any] = models.read_config(checkpoint) if checkpoint else model.config
    context = models.context(config)
    if context is not None and wanted > context:
        whose = model.name or f"a {config['model_type']} of this model.config"
        raise UserError(f"data.block_tokens: {wanted} is more than the {context} positions of {whose}")
    evaluates = settings["eval_strategy"] != "no" or settings["eval_on_start"]
    parts = documents.load(experiment.data, trains(experiment), trains(experiment) and evaluates)
    if checkpoint:
        vocabulary = vocabularies.of_checkpoint(checkpoint, config)
    elif model.tokenizer == "bytes":
        vocabulary = vocabularies.of_bytes()
    else:
        vocabulary = vocabularies.trained(parts.train, model.vocab_size)
    streams = {name: blocks.stream(part, vocabulary) for name, part in parts.by_name().items()}
    return Prepared(checkpoint, parts, vocabulary, streams)
