"""A tiny checkpoint of each architecture, and the pairs as each reads them."""

from pathlib import Path

import pytest

from nutshell.data.encoding import tokenizers, tokens
from nutshell.models.classifiers import encoders
from tests.models.classifiers import tiny


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """By architecture, a base model of two layers with its tokenizer."""
    return {name: tiny.make(name, tmp_path_factory.mktemp(name)) for name in encoders.ENCODERS}


@pytest.fixture(scope="session")
def examples(checkpoints):
    """Encodes a part for a checkpoint: its rows, and the collator that makes batches of them."""

    def _examples(folder: Path, part, max_tokens: int = 40, truncate: str = "head"):
        tokenizer, _ = tokenizers.load_tokenizer(folder)
        encoded = tokens.encode(part, tokenizer, max_tokens, truncate)
        names = ("input_ids", "token_type_ids", "length")
        rows = [dict(zip(names, (ids, types, len(ids)), strict=True)) for ids, types, _ in encoded]
        for row, label in zip(rows, part.labels, strict=True):
            row["labels"] = label
        return rows, tokenizers.Collator(tokenizers.for_transformers(folder, max_tokens, truncate))

    return _examples


@pytest.fixture
def trainer_of(tmp_path):
    """A ClassifierTrainer over rows in their order."""
    import datasets
    from transformers import TrainingArguments

    from nutshell.bits.figures.metrics import OF_ANY
    from nutshell.runs.trainer.classifier import ClassifierTrainer

    def _trainer_of(model, rows, collator, folder: str = "run", **keys) -> ClassifierTrainer:
        settings = {
            "max_steps": 1,
            "max_grad_norm": 1e9,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "train_sampling_strategy": "sequential",
        }
        args = TrainingArguments(output_dir=str(tmp_path / folder), **settings | keys)
        table = datasets.Dataset.from_list(rows)
        return ClassifierTrainer(
            model,
            args,
            data_collator=collator,
            train_dataset=table,
            eval_dataset=table,
            processing_class=collator.tokenizer,
            metrics=(OF_ANY["accuracy"],),
        )

    return _trainer_of
