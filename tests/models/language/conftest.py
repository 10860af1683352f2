"""A tiny checkpoint of each architecture."""

from pathlib import Path

import pytest

from nutshell.models.language.architectures import CAUSAL
from tests.models.language import tiny


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """By architecture, a checkpoint of two layers with its tokenizer."""
    return {name: tiny.make(name, tmp_path_factory.mktemp(name)) for name in CAUSAL}
