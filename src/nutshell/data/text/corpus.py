"""A language model's text as a run needs it: its parts, the tokenizer, each part's stream of tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from nutshell.data.datasets import TextData
from nutshell.data.encoding import vocabularies
from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.parts import Parts
from nutshell.data.text import documents, windows
from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.models.find import find, read_config
from nutshell.models.headers import check_language_model, check_targets
from nutshell.models.language.architectures import CAUSAL, context


@dataclass(frozen=True)
class Corpus:
    """What training and measuring need.

    Attributes:
        checkpoint: The model's folder; None for a new model.
        config: The model's config.json.
        parts, vocabulary: The documents and the tokenizer.
        streams: Each part's tokens, (tokens,) int32.
    """

    checkpoint: Path | None
    config: dict[str, Any]
    parts: Parts
    vocabulary: Vocabulary
    streams: dict[str, numpy.ndarray]

    def windows(self, name: str, block_tokens: int, **settings) -> windows.Windows:
        """Those of a part, as `windows.windows` takes the settings; without any those of training."""
        return windows.windows(self.streams[name], self.vocabulary, block_tokens, **settings)


def find_model(model, data: TextData, weights: bool = True) -> tuple[Path | None, dict[str, Any], Vocabulary | None]:
    """The checkpoint's folder, None for a new model; the model's config; its tokenizer, None if it has to be
    trained first.

    Args:
        model: A `model:` block: `name` and `revision`, or `config`, `tokenizer` and `vocab_size`.
        data: The `data:` block.
        weights: Whether the checkpoint's weights are needed, or its config and tokenizer alone.

    Raises:
        UserError: If the checkpoint is not there or cannot be loaded, or a block is longer than the model's context.
    """
    checkpoint = find(model.name, model.revision, CAUSAL, weights) if model.name else None
    config = read_config(checkpoint) if checkpoint else model.config
    most = context(config)
    if most is not None and data.block_tokens > most:
        whose = model.name or f"a {config['model_type']} of this model.config"
        raise UserError(f"data.block_tokens: {data.block_tokens} is more than the {most} positions of {whose}")
    if not checkpoint:
        return None, config, vocabularies.of_bytes() if model.tokenizer == "bytes" else None
    vocabulary = vocabularies.of_checkpoint(checkpoint, config)
    check_language_model(checkpoint, config)
    check_targets(checkpoint, model.lora)
    return checkpoint, config, vocabulary


def load(model, data: TextData, trains: bool, evaluates: bool, weights: bool = True) -> Corpus:
    """Finds the model, reads and divides the text, trains a tokenizer if a new one is needed, tokenizes.

    Args:
        model, data, weights: As `find_model` has them.
        trains, evaluates: Whether a training part is needed, and whether a validation part.

    Raises:
        UserError: If any of these fails.
    """
    checkpoint, config, vocabulary = find_model(model, data, weights)
    progress.stage(f"reading {data.name}")
    parts = documents.load(data, trains, evaluates)
    if not vocabulary:
        progress.stage("training a tokenizer")
        vocabulary = vocabularies.trained(parts.train, model.vocab_size)
    if not checkpoint:
        ends = {"bos_token_id": vocabulary.end_of_text, "eos_token_id": vocabulary.end_of_text}
        config = {**config, "vocab_size": len(vocabulary), **ends}
    progress.stage("tokenizing")
    streams = {name: windows.stream(part, vocabulary) for name, part in parts.by_name().items()}
    return Corpus(checkpoint, config, parts, vocabulary, streams)
